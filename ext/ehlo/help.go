package ehlo

import (
	"context"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Help returns the extension HELP (RFC 5321 section 4.1.1.8), for people who talk to a server by hand.
//
// A server answers with the text of the session if it implements [HelpSession]. Otherwise it lists the commands that it
// carries out.
//
// On a client, send HELP with Do.
//
// The extension is in [Default].
func Help() ext.Extension {
	return ext.Extension{
		Keyword:    "HELP",
		Interfaces: []reflect.Type{reflect.TypeFor[HelpSession]()},
		Verbs:      []proto.Verb{{Name: "HELP", In: proto.Session, Last: true}},
		Serve:      serveHelp,
	}
}

// A HelpSession is a session that answers HELP.
type HelpSession interface {
	// Help returns the text for a topic, "" if the client named none. Lines are separated by "\n". The server sends the
	// text with 214. A *proto.Error is the reply, such as one with Code 504 for an unknown topic.
	Help(ctx context.Context, topic string) (text string, err error)
}

func serveHelp(ctx context.Context, x ext.Command) (proto.Reply, error) {
	text, err := "", error(nil)
	if h, ok := ext.As[HelpSession](x.Session()); ok {
		text, err = h.Help(ctx, x.Args())
	} else {
		text, err = defaultHelp(x, x.Args())
	}
	if err != nil {
		return proto.Reply{}, err
	}
	return proto.Reply{Code: 214, Status: proto.Status{2, 0, 0}, Text: text}, nil
}

func defaultHelp(x ext.Command, topic string) (string, error) {
	if topic != "" {
		if v := x.Table().Lookup(topic); v != nil && canSucceed(v) && x.Serves(v) {
			return v.Name + " is a command of this server", nil
		}
		return "", proto.Refuse(504, proto.Status{5, 5, 4}, "There is no help on that; HELP alone lists the commands")
	}
	var names []string
	for _, v := range x.Table().Verbs() {
		if canSucceed(v) && x.Serves(v) {
			names = append(names, v.Name)
		}
	}
	return "The commands of this server are\n" + strings.Join(names, " "), nil
}

// canSucceed reports whether v is a command that does something. The commands of [Obsolete] are known only to be
// refused.
func canSucceed(v *proto.Verb) bool { return v.OK != proto.Never || v.More != 0 }
