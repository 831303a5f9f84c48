package ehlo

import (
	"context"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// EXPN returns the extension EXPN (RFC 5321 section 4.1.1.7). A server offers it to sessions that are an [EXPNSession].
func EXPN() ext.Extension {
	return ext.Extension{
		Keyword:   "EXPN",
		Verbs:     []proto.Verb{{Name: "EXPN", In: proto.Session, Last: true, Grow: maxQueryGrow}},
		Advertise: advertiseTo[EXPNSession](),
		Serve:     serveEXPN,
	}
}

// An EXPNSession is a session that answers EXPN with the members of a mailing list. The error is the reply, such as a
// *proto.Error with Code 550 for a list that does not exist or may not be seen by this client.
type EXPNSession interface {
	Expand(ctx context.Context, list string) ([]Mailbox, error)
}

func serveEXPN(ctx context.Context, x ext.Command) (proto.Reply, error) {
	list, utf8, err := parseQuery(x)
	if err != nil {
		return proto.Reply{}, err
	}
	e, ok := ext.As[EXPNSession](x.Session())
	if !ok {
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "Lists are not expanded here")
	}
	if utf8 {
		x.PermitUTF8()
	}
	members, err := e.Expand(ctx, list)
	if err != nil {
		return proto.Reply{}, refuseQuery(err, utf8)
	}
	if len(members) == 0 {
		return proto.Reply{}, proto.Refuse(550, proto.Status{5, 1, 1}, "The list has no members")
	}
	return replyMailboxes(members, utf8)
}
