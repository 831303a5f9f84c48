package ehlo

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A SubmissionPolicy is the rules of a submission server (RFC 6409): who may submit messages, and which addresses an
// envelope may have. [Submission] puts it into its list. The zero policy is as strict as the RFC.
//
// Until a client has authenticated, the server accepts EHLO, HELO, NOOP, RSET, QUIT, STARTTLS and AUTH only. It refuses
// other commands with 530 5.7.0 (RFC 6409 section 4.3), unless Trusted permits the client.
//
// The server refuses a domain that is not fully qualified with 554 5.1.8 in MAIL and 554 5.1.2 in RCPT (RFC 6409
// section 4.2). The rule does not apply to address literals, <postmaster> and the null reverse-path (RFC 6409 section
// 3.2).
//
// If the session implements [SubmissionSession], it says from which addresses a user may send. To complete the header
// of a message, use Complete of package server (RFC 6409 section 8).
type SubmissionPolicy struct {
	// Trusted reports whether the client of x may submit without authentication (RFC 6409 section 4.3). It may be in a
	// network of the operator, for example. Nil trusts no client.
	Trusted func(x ext.ServerConn) bool
	// Completes reports whether the session completes a single-level domain, such as "sales" in <alice@sales>. Name is in
	// lower case. The session gets the address as the client sent it. Nil refuses all single-level domains. Names of
	// several levels count as fully qualified, since completing them is risky (RFC 6409 section 4.2).
	Completes func(name string) bool
	// Hold is how long the server holds messages (RFC 4865); see [FutureRelease]. Zero does not offer FUTURERELEASE.
	Hold HoldLimits
	// URLs are the arguments of BURL, such as "imap"; see [BURL].
	URLs []string
}

// A SubmissionSession is a session that says from which addresses a user may send (RFC 6409 section 6.1). Only a server
// with a [SubmissionPolicy] asks it.
type SubmissionSession interface {
	// PermitsSender reports whether the client may use the reverse-path from, which is never null. User is the name that
	// the client has authenticated as, or "" for a trusted client without authentication. If it may not, the server
	// refuses MAIL with 550 5.7.1. An error refuses MAIL as that of Mail does.
	PermitsSender(ctx context.Context, user string, from proto.Address) (bool, error)
}

// Extension returns the policy as an extension without a keyword, which makes a server a submission server
// ([ext.MakesSubmission]). Put it first in a list. It requires AUTH, which every submission server has to support (RFC
// 6409 section 7).
func (p SubmissionPolicy) Extension() ext.Extension {
	return ext.Extension{
		Role:         ext.MakesSubmission,
		Requires:     []string{"AUTH"},
		Interfaces:   []reflect.Type{reflect.TypeFor[SubmissionSession]()},
		RequiresAuth: p.Trusted == nil,
		Guard:        p.guard,
		CheckMail:    p.checkMail,
		CheckRcpt:    p.checkRcpt,
	}
}

func (p SubmissionPolicy) guard(_ context.Context, x ext.ServerConn, v *proto.Verb, _ string) error {
	switch {
	case v.BeforeAuth || x.Identity() != "" || p.Trusted != nil && p.Trusted(x):
		return nil
	case x.TLS() == nil && x.TLSConfig() != nil && !x.AllowInsecureAuth():
		return proto.Refuse(530, proto.Status{5, 7, 0}, "Authentication required, which takes TLS: send STARTTLS first")
	}
	return proto.Refuse(530, proto.Status{5, 7, 0}, "Authentication required")
}

func (p SubmissionPolicy) checkMail(ctx context.Context, x ext.ServerConn, from proto.Address, _ proto.Params) error {
	if from.IsNull() {
		return nil
	}
	if !p.qualified(from.Domain) {
		return proto.Refuse(554, proto.Status{5, 1, 8},
			fmt.Sprintf("Sender's domain %s is not fully qualified", from.Domain.ASCII()))
	}
	s, ok := ext.As[SubmissionSession](x.Session())
	if !ok {
		return nil
	}
	permitted, err := s.PermitsSender(ctx, x.Identity(), from)
	if err == nil && !permitted {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "You may not send from this address")
	}
	return err
}

func (p SubmissionPolicy) checkRcpt(_ context.Context, _ ext.ServerConn, to proto.Address, _ proto.Params) error {
	if !p.qualified(to.Domain) {
		return proto.Refuse(554, proto.Status{5, 1, 2},
			fmt.Sprintf("Recipient's domain %s is not fully qualified", to.Domain.ASCII()))
	}
	return nil
}

// qualified reports whether d looks fully qualified, or the session completes it.
func (p SubmissionPolicy) qualified(d proto.Domain) bool {
	name := d.Name()
	return name == "" || strings.Contains(name, ".") || p.Completes != nil && p.Completes(strings.ToLower(name))
}
