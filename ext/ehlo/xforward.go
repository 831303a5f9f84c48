package ehlo

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// XFORWARD returns the extension XFORWARD of Postfix (XFORWARD_README), by which a filter or proxy tells where a
// message came from, for the server's logs. Unlike [XCLIENT] it changes nothing else: the client of the session stays
// the proxy.
//
// A server offers it to peers in one of the trusted networks, if the session implements [XFORWARDSession]. It refuses
// other peers with 550, and also a proxy that speaks for another client since XCLIENT.
//
// On a client, call [SendXFORWARD].
//
// The extension is not in [Default]: add it to the lists of both sides.
func XFORWARD(trusted ...netip.Prefix) ext.Extension {
	trusted = slices.Clone(trusted)
	permitted := func(x ext.ServerConn) bool { return isTrusted(trusted, x.PeerAddr()) && x.Origin() == nil }
	return ext.Extension{
		Keyword:    "XFORWARD",
		Interfaces: []reflect.Type{reflect.TypeFor[XFORWARDSession]()},
		Verbs:      []proto.Verb{{Name: "XFORWARD", In: proto.Ready, Last: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[XFORWARDSession](x.Session())
			return attributeNames(xforwardChecks), ok && permitted(x)
		},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			if !permitted(x) {
				return proto.Reply{}, refuseUntrusted("XFORWARD")
			}
			return serveXFORWARD(ctx, x)
		},
	}
}

// An XFORWARDSession is a session that records where messages came from.
type XFORWARDSession interface {
	// RecordOrigin gets what a trusted proxy states about the next message. The server may call it several times for one
	// message, each time with a part: combine them with Merge of [ext.Origin]. They hold until the end of the next
	// transaction. An error refuses XFORWARD.
	RecordOrigin(ctx context.Context, o ext.Origin) error
}

var xforwardChecks = map[string]checker{
	"NAME": anyValue, "ADDR": looseAddrValue, "PORT": portValue, "PROTO": hostValue, "HELO": anyValue, "IDENT": anyValue,
	"SOURCE": oneOf("LOCAL", "REMOTE"),
}

func serveXFORWARD(ctx context.Context, x ext.Command) (proto.Reply, error) {
	r, ok := ext.As[XFORWARDSession](x.Session())
	if !ok {
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "Origins are not recorded here")
	}
	o, err := parseOrigin("XFORWARD", x.Args(), xforwardChecks)
	if err != nil {
		return proto.Reply{}, err
	}
	return proto.Reply{}, r.RecordOrigin(ctx, o)
}

// SendXFORWARD tells the server at the other end of c, such as a *client.Client, where the next message came from. It
// sends as many commands as needed. It leaves out what the server does not support. A refusal is a *proto.Error.
func SendXFORWARD(ctx context.Context, c ext.Client, o ext.Origin) error {
	offered := offeredAttributes(c.Caps(), "XFORWARD")
	var commands []string
	args := ""
	for _, a := range attributes {
		value := *a.value(&o)
		if value == "" || !offered[a.name] || xforwardChecks[a.name] == nil {
			continue
		}
		if !isSendable(a.name, value, xforwardChecks) {
			return fmt.Errorf("smtp: XFORWARD cannot be sent: %q is no value for %s", value, a.name)
		}
		more := appendAttribute(args, a.name, value)
		if len(more) > maxAttributes && args != "" {
			commands = append(commands, args)
			more = appendAttribute("", a.name, value)
		}
		if args = more; len(args) > maxAttributes {
			return fmt.Errorf("smtp: XFORWARD cannot be sent: %s is too long", a.name)
		}
	}
	if args != "" {
		commands = append(commands, args)
	}
	for _, args := range commands {
		if _, err := sendCommand(ctx, c, "XFORWARD", args, nil); err != nil {
			return err
		}
	}
	return nil
}
