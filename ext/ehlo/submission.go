package ehlo

import (
	"context"
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A SubmissionPolicy is the rules of a submission server, to which users hand their messages (RFC 6409): who may do so, and
// what is improper in an envelope. [Submission] has it among its extensions; the zero policy is as strict as the RFC asks for.
//
// Whatever is beyond introducing oneself is refused with 530 5.7.0 until the client has authenticated (section 4.3). An
// address whose domain is not fully qualified is refused with 554 5.1.8 in MAIL and with 554 5.1.2 in RCPT (section 4.2);
// an address literal has nothing to qualify, and <postmaster> has no domain. A session that is a [SubmissionSession] says whose
// addresses a user may send from. The null reverse-path is never refused for what it is (section 3.2).
//
// A header that the user's program left incomplete can be completed with the server's function Complete (section 8).
type SubmissionPolicy struct {
	// Trusted reports whether the client of x may submit without having authenticated, for instance because it is in a
	// network of the operator's own (section 4.3). Nil: none may.
	Trusted func(x ext.ServerConn) bool
	// Completes reports whether the session completes the single-level domain name, in lower case, as in <alice@sales>. The
	// address is given to it as it came. Multi-level names cannot be told from complete ones, and completing them is risky (section
	// 4.2). Nil: all single-level domains are refused.
	Completes func(name string) bool
	// Hold is how long messages can be kept before they are released (RFC 4865); see [FutureRelease]. The zero value is
	// not at all.
	Hold HoldLimits
	// URLs are what BURL can be used with, such as "imap"; see [BURL].
	URLs []string
}

// A SubmissionSession is a session that says whose addresses a user may send from (RFC 6409 section 6.1). It is asked on servers
// with a [SubmissionPolicy].
type SubmissionSession interface {
	// PermitsSender reports whether the client may use the reverse-path from, which is not null. User is the name it has
	// authenticated as, or "" if the policy trusts it without. If it may not, MAIL is refused with 550 5.7.1. An error
	// refuses it as that of a session's Mail does.
	PermitsSender(ctx context.Context, user string, from proto.Address) (bool, error)
}

// Extension returns the policy as an extension, which has no keyword and makes a server one of submission. It is to come
// first in a list. It requires AUTH, which every submission server has to support (section 7).
func (p SubmissionPolicy) Extension() ext.Extension {
	return ext.Extension{
		Role:      ext.MakesSubmission,
		Requires:  []string{"AUTH"},
		Guard:     p.guard,
		CheckMail: p.checkMail,
		CheckRcpt: p.checkRcpt,
	}
}

func (p SubmissionPolicy) guard(_ context.Context, x ext.ServerConn, v *proto.Verb, _ string) error {
	switch {
	case v.Open || x.Identity() != "" || p.Trusted != nil && p.Trusted(x):
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
		return proto.Refuse(554, proto.Status{5, 1, 8}, fmt.Sprintf("Sender's domain %s is not fully qualified", from.Domain.ASCII()))
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
		return proto.Refuse(554, proto.Status{5, 1, 2}, fmt.Sprintf("Recipient's domain %s is not fully qualified", to.Domain.ASCII()))
	}
	return nil
}

// qualified reports whether d is fully qualified as far as its form tells, or is completed by the session.
func (p SubmissionPolicy) qualified(d proto.Domain) bool {
	name := d.Name()
	return name == "" || strings.Contains(name, ".") || p.Completes != nil && p.Completes(strings.ToLower(name))
}
