package ext

import (
	"errors"
	"fmt"
	"slices"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// A Role says what an extension has to do with message submission (RFC 6409). It matters to servers alone: which
// extensions a server of either kind must not offer is known before it has a client; see [Set.CheckServer].
type Role uint8

// The roles.
const (
	AnyServer       Role = iota // it is for submission and for relay
	MakesSubmission             // it makes a server one of submission: a [ehlo.SubmissionPolicy]
	SubmissionOnly              // no other server may offer it, nor this one on port 25
	NeverSubmission             // a submission server must not offer it
)

// CheckServer returns why no server can use the set, or nil: an extension in it must not be offered by a server of this kind.
// A submission server is one with a [ehlo.SubmissionPolicy]. A client can use any set.
func (s *Set) CheckServer() error {
	var policy *Extension
	for i := range s.list {
		if e := &s.list[i]; e.Role == MakesSubmission {
			if policy != nil {
				return errors.New("smtp: there are two submission policies in the list of extensions: leave one out")
			}
			policy = e
		}
	}
	if policy != nil && s.table.Protocol() == proto.LMTP {
		return errors.New("smtp: a submission policy makes no sense in LMTP: mail is submitted by SMTP (RFC 6409 section 3.1)")
	}
	for i := range s.list {
		switch e := &s.list[i]; {
		case e.Role == SubmissionOnly && policy == nil:
			return fmt.Errorf("smtp: %s is for submission servers only: use the extensions of ehlo.Submission, or leave "+
				"it out", e.name())
		case e.Role == NeverSubmission && policy != nil:
			return fmt.Errorf("smtp: %s must not be offered by a submission server (RFC 6409 section 7): leave it out, "+
				"and use another server for it", e.name())
		}
	}
	return nil
}

// Submission reports whether the set is that of a submission server.
func (s *Set) Submission() bool {
	return slices.ContainsFunc(s.list, func(e Extension) bool { return e.Role == MakesSubmission })
}

// isRelay reports whether x is a session of the port where mail is relayed, or of a protocol by which it is delivered. Of a
// server that takes submissions on port 25 too, nobody can tell that it does (RFC 6409 section 3.1).
func isRelay(x ServerConn) bool {
	return grammar.Port(x.LocalAddr()) == 25 || x.Protocol() == proto.LMTP
}
