package ehlo

import (
	"context"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Obsolete returns the commands that SMTP had once and that must not be used: SEND, SOML and SAML (RFC 5321 appendix F.6),
// TURN, by which anybody could have the mail of anybody (appendix F.1), and VERB and ONEX of an old server, which are
// registered without a specification. It has no keyword and is never on offer. A server answers them with 502 5.5.1 in
// any state; without it they are unknown, and answered with 500. A client cannot send them.
func Obsolete() ext.Extension {
	names := []string{"SEND", "SOML", "SAML", "TURN", "VERB", "ONEX"}
	verbs := make([]proto.Verb, len(names))
	for i, name := range names {
		verbs[i] = proto.Verb{Name: name, In: proto.Session, Last: true, Open: true, OK: proto.Never}
	}
	return ext.Extension{
		Verbs: verbs,
		Serve: func(_ context.Context, x ext.Command) (proto.Reply, error) {
			return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, x.Verb().Name+" is obsolete and not implemented")
		},
	}
}
