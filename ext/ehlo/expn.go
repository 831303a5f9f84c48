package ehlo

import (
	"context"
	"errors"
	"reflect"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// EXPN returns the extension EXPN (RFC 5321 section 4.1.1.7), by which a client asks for the members of a mailing list.
//
// A server offers it if the session implements [EXPNSession]. Otherwise it answers EXPN with 502.
//
// On a client, send EXPN with Do.
//
// The extension is in [Default], and neither in [LMTP] nor in the list of [Submission].
func EXPN() ext.Extension {
	return ext.Extension{
		Keyword:    "EXPN",
		Interfaces: []reflect.Type{reflect.TypeFor[EXPNSession]()},
		Verbs:      []proto.Verb{{Name: "EXPN", In: proto.Session, Last: true, Grow: maxQueryGrow}},
		Advertise:  advertiseTo[EXPNSession](),
		Serve:      serveEXPN,
	}
}

// An EXPNSession is a session that answers EXPN.
type EXPNSession interface {
	// Expand returns the members of list, which is what the client sent. The server ignores their Forward. The server
	// answers [ErrCannotVerify] with 252, as it does for VRFY (RFC 5321 section 7.3). A *proto.Error is the reply, such as
	// one with Code 550 for a list that does not exist, or that this client may not see. Spammers collect addresses from
	// lists: RFC 5321 section 7.3 permits a site to answer authenticated users only.
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
	switch {
	case errors.Is(err, ErrCannotVerify):
		return cannotVerify("The list cannot be expanded"), nil
	case err != nil:
		return proto.Reply{}, refuseQuery(err, utf8)
	}
	if len(members) == 0 {
		return proto.Reply{}, proto.Refuse(550, proto.Status{5, 1, 1}, "The list has no members")
	}
	return replyMailboxes(members, utf8)
}
