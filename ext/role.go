package ext

import (
	"errors"
	"fmt"
	"slices"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// A Role says how an extension relates to message submission (RFC 6409). Some extensions are for submission servers,
// and some must not be advertised by them. server.New returns an error if an extension is in the wrong kind of server.
// A client ignores roles.
//
// A submission server is one whose list has an extension with the role MakesSubmission, which ehlo.SubmissionPolicy
// makes.
type Role uint8

// The roles.
const (
	AnyServer       Role = iota // for every server; the default
	MakesSubmission             // makes a server a submission server; one in a list, and not in LMTP
	SubmissionOnly              // for submission servers; not advertised on port 25
	NeverSubmission             // for servers that are not submission servers
)

// CheckServer returns an error if no server can use the set, because an extension is in the wrong kind of server; see
// [Role]. It is for those who build a server of their own.
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

// isRelay reports whether x is a session on the port for relaying, or in LMTP. A server may take submissions on port 25
// too, but clients cannot know that (RFC 6409 section 3.1).
func isRelay(x ServerConn) bool {
	return grammar.Port(x.LocalAddr()) == 25 || x.Protocol() == proto.LMTP
}
