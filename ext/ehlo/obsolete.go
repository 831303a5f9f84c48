package ehlo

import (
	"context"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Obsolete returns the commands that SMTP once had and that must not be used. SEND, SOML and SAML are obsolete (RFC
// 5321 appendix F.6). By TURN anybody could fetch anybody's mail (RFC 5321 appendix F.1). VERB and ONEX come from an
// old server, and are registered without a specification.
//
// The extension has no keyword, so a server never offers it. A server answers the commands with 502 5.5.1 in any state;
// without the extension it answers them with 500, as any unknown command.
//
// A client cannot send them.
//
// The extension is in [Default].
func Obsolete() ext.Extension {
	names := []string{"SEND", "SOML", "SAML", "TURN", "VERB", "ONEX"}
	verbs := make([]proto.Verb, len(names))
	for i, name := range names {
		verbs[i] = proto.Verb{Name: name, In: proto.Session, Last: true, BeforeAuth: true, OK: proto.Never}
	}
	return ext.Extension{
		Verbs: verbs,
		Serve: func(_ context.Context, x ext.Command) (proto.Reply, error) {
			return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, x.Verb().Name+" is obsolete and not implemented")
		},
	}
}
