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

// XCLIENT returns the extension XCLIENT of Postfix (XCLIENT_README), by which a proxy has the server treat the
// connection as one of the client's for whom it speaks: address, names, and the user it has authenticated.
//
// A server offers it to peers whose own address is in one of the trusted networks, and answers others with 550: whoever
// may use it can be anybody. With no networks it is offered to nobody. After XCLIENT the session begins anew. The
// server greets again, with a new session from the backend, and all that was said before is forgotten, except that
// TLS goes on and that NAME, REVERSE_NAME and the addresses hold until they are told anew. RemoteAddr, LocalAddr, Hello
// and Identity of the connection are the client's from there on, the latter two until EHLO or AUTH says otherwise;
// Origin has all that was told and PeerAddr the address of the proxy.
//
// It is not among the extensions of [Default]. A client that has it in its list can call [SendXCLIENT].
func XCLIENT(trusted ...netip.Prefix) ext.Extension {
	trusted = slices.Clone(trusted)
	return ext.Extension{
		Keyword: "XCLIENT",
		Verbs: []proto.Verb{{
			Name: "XCLIENT", In: proto.Hello | proto.Ready, Last: true, Open: true, OK: proto.Hello,
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
	"NAME": hostValue, "REVERSE_NAME": hostValue, "ADDR": addrValue, "PORT": portValue, "DESTADDR": addrValue, "DESTPORT": portValue,
	"PROTO": oneOf("SMTP", "ESMTP"), "HELO": hostValue, "LOGIN": anyValue,
}

// attributeNames returns the arguments of the keyword: the names of the attributes.
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
	// These are of one command only: they are what the client said in a session, not who it is.
	o.Protocol, o.Hello, o.Login = "", "", ""
	o.Merge(given)
	return x.Restart(ctx, &o)
}

// SendXCLIENT tells the server at the other end of c, such as a *client.Client, that it speaks for the client o from now
// on, and introduces itself anew. To speak for another, call it again with all that there is to tell of that one: with Addr,
// names and a port that there are none of are told as Unavailable, or they would be those of the client before.
//
// What the server cannot be told is left out, except for Addr and Login, without which it would take the client for
// somebody else; then SendXCLIENT returns an error before it has sent anything. A refusal is a *proto.Error. If c has
// credentials, it authenticates again, as itself; then there cannot be a Login.
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
			return fmt.Errorf("smtp: XCLIENT cannot be sent: it would have %d octets of arguments, and %d is what fits", len(args), maxAttributes)
		}
	}
	for _, args := range commands {
		if _, err := sendCommand(ctx, c, "XCLIENT", args, nil); err != nil {
			return err
		}
	}
	return nil
}

// longestFacts is how long the arguments of XCLIENT and XFORWARD may be, each in a line of 512 octets.
const maxAttributes = 512 - len("XFORWARD \r\n")

// xclientArgs returns what there is to tell of who the client is, and of its session, which has to come last.
func xclientArgs(o *ext.Origin, offered map[string]bool) (who, session string, err error) {
	for _, a := range attributes {
		value := *a.value(o)
		switch {
		case value == "" && o.Addr != "" && offered[a.name] && (a.name == "NAME" || a.name == "REVERSE_NAME" || a.name == "PORT"):
			who = appendAttribute(who, a.name, ext.Unavailable) // or it would be that of the client before
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
