package ehlo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// XCLIENT returns the extension XCLIENT of Postfix (XCLIENT_README), by which a proxy tells the server for which client
// it speaks. The server then treats the connection as that client's: its address, its names, and the user it has
// authenticated as.
//
// A server offers it to peers in one of the trusted networks, and to nobody without networks. It refuses other peers
// with 550: a peer that may send XCLIENT can pose as anybody. After XCLIENT the server greets again, with a new session
// from the backend, and forgets what was said before. TLS stays, and so do NAME, REVERSE_NAME and the addresses until
// the proxy states others.
//
// Of server.Conn, RemoteAddr, LocalAddr, Hello and Identity are then those of the client. EHLO replaces Hello, and AUTH
// Identity. Origin has all that the proxy stated, and PeerAddr is the address of the proxy.
//
// On a client, call [SendXCLIENT].
//
// The extension is not in [Default]: add it to the lists of both sides.
func XCLIENT(trusted ...netip.Prefix) ext.Extension {
	trusted = slices.Clone(trusted)
	return ext.Extension{
		Keyword:       "XCLIENT",
		Authenticates: func(ext.ServerConn) error { return nil }, // the proxy names the user
		Verbs: []proto.Verb{{
			Name: "XCLIENT", In: proto.Hello | proto.Ready, Last: true, BeforeAuth: true, OK: proto.Hello,
		}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			return attributeNames(xclientChecks), isTrusted(trusted, x.PeerAddr())
		},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			if !isTrusted(trusted, x.PeerAddr()) {
				return proto.Reply{}, refuseUntrusted("XCLIENT")
			}
			return serveXCLIENT(ctx, x)
		},
	}
}

var xclientChecks = map[string]checker{
	"NAME": hostValue, "REVERSE_NAME": hostValue, "ADDR": addrValue, "PORT": portValue,
	"DESTADDR": addrValue, "DESTPORT": portValue, "PROTO": oneOf("SMTP", "ESMTP"), "HELO": hostValue, "LOGIN": anyValue,
}

// attributeNames returns the arguments of the keyword, the names of the attributes.
func attributeNames(checks map[string]checker) string {
	var names []string
	for _, a := range attributes {
		if checks[a.name] != nil {
			names = append(names, a.name)
		}
	}
	return strings.Join(names, " ")
}

func refuseUntrusted(verb string) error {
	return proto.Refuse(550, proto.Status{5, 7, 1}, "Not authorized to use "+verb)
}

func serveXCLIENT(ctx context.Context, x ext.Command) (proto.Reply, error) {
	given, err := parseOrigin("XCLIENT", x.Args(), xclientChecks)
	if err != nil {
		return proto.Reply{}, err
	}
	var o ext.Origin
	if before := x.Origin(); before != nil {
		o = *before
	}
	// These hold for one session: they are what the client said, not who it is.
	o.Protocol, o.Hello, o.Login = "", "", ""
	o.Merge(given)
	return x.Restart(ctx, &o)
}

// SendXCLIENT tells the server at the other end of c, such as a *client.Client, that c now speaks for the client o. It
// sends EHLO again. For the next client call it again, with all that is known of that one. If Addr is set, SendXCLIENT
// states an empty name or port as Unavailable. Otherwise the server would keep that of the client before.
//
// SendXCLIENT leaves out what the server does not support. Without Addr and Login the server would take the client for
// another: if it does not support one of these, SendXCLIENT returns an error and sends nothing. A refusal is a
// *proto.Error. If c has credentials, it authenticates again, as itself; o must then have no Login.
func SendXCLIENT(ctx context.Context, c ext.Client, o ext.Origin) error {
	return c.Converse(ctx, func(ctx context.Context, c ext.ClientConn) error { return sendXCLIENT(ctx, c, o) })
}

func sendXCLIENT(ctx context.Context, c ext.ClientConn, o ext.Origin) error {
	offered := offeredAttributes(c.Caps(), "XCLIENT")
	if o.Ident != "" || o.Source != "" {
		return errors.New("smtp: XCLIENT cannot tell Ident and Source: XFORWARD can")
	}
	if o.Login != "" && c.Policy().Credentials != nil {
		return errors.New("smtp: XCLIENT cannot tell Login, since the client has credentials and authenticates as itself: " +
			"use a client without credentials")
	}
	who, session, err := xclientArgs(&o, offered)
	if err != nil {
		return err
	}
	commands := []string{strings.Trim(who+" "+session, " ")}
	if len(commands[0]) > maxAttributes {
		commands = []string{who, session}
	}
	for _, args := range commands {
		if args == "" || len(args) > maxAttributes {
			return fmt.Errorf("smtp: XCLIENT cannot be sent: it would have %d octets of arguments, and %d is what fits",
				len(args), maxAttributes)
		}
	}
	for _, args := range commands {
		if _, err := sendCommand(ctx, c, "XCLIENT", args, nil); err != nil {
			return err
		}
	}
	return nil
}

// maxAttributes is the longest argument of XCLIENT and XFORWARD, for a line of 512 octets.
const maxAttributes = 512 - len("XFORWARD \r\n")

// xclientArgs returns the attributes that identify the client, and those of its session, which have to come last.
func xclientArgs(o *ext.Origin, offered map[string]bool) (who, session string, err error) {
	for _, a := range attributes {
		value := *a.value(o)
		identifies := a.name == "NAME" || a.name == "REVERSE_NAME" || a.name == "PORT"
		switch {
		case value == "" && o.Addr != "" && offered[a.name] && identifies:
			who = appendAttribute(who, a.name, ext.Unavailable) // not that of the client before
		case value == "":
		case !offered[a.name] && (a.name == "ADDR" || a.name == "LOGIN"):
			return "", "", fmt.Errorf("smtp: XCLIENT cannot be sent: the server does not take %s", a.name)
		case !offered[a.name]:
		case !isSendable(a.name, value, xclientChecks):
			return "", "", fmt.Errorf("smtp: XCLIENT cannot be sent: %q is no value for %s", value, a.name)
		case a.name == "PROTO" || a.name == "HELO" || a.name == "LOGIN":
			session = appendAttribute(session, a.name, value)
		default:
			who = appendAttribute(who, a.name, value)
		}
	}
	if who == "" && session == "" {
		return "", "", errors.New("smtp: XCLIENT cannot be sent: there is nothing to tell that the server takes")
	}
	return who, session, nil
}

// isSendable reports whether value can be sent as the attribute.
func isSendable(name, value string, checks map[string]checker) bool {
	if name == "ADDR" || name == "DESTADDR" {
		value = prefixIPv6(value)
	}
	_, ok := parseAttribute(name, string(proto.AppendXtext(nil, value)), checks[name])
	return ok
}
