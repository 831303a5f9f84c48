package ehlo

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// maxQueryGrow is by how much the lines of VRFY and EXPN may exceed 512 octets (RFC 6531 section 3.7.4.2).
const maxQueryGrow = len(" SMTPUTF8")

// VRFY returns the extension VRFY (RFC 5321 section 4.1.1.6), by which a client asks whether a mailbox exists.
//
// A server answers as the session decides if it implements [VRFYSession]. Otherwise it answers 252: it discloses
// nothing, and will try to deliver. RFC 5321 section 7.3 demands that reply from sites that disable VRFY.
//
// On a client, send VRFY with Do.
//
// The extension is in [Default].
func VRFY() ext.Extension {
	return ext.Extension{
		Keyword:    "VRFY",
		Interfaces: []reflect.Type{reflect.TypeFor[VRFYSession]()},
		Verbs:      []proto.Verb{{Name: "VRFY", In: proto.Session, Last: true, Grow: maxQueryGrow}},
		Serve:      serveVRFY,
	}
}

// A VRFYSession is a session that answers VRFY.
type VRFYSession interface {
	// Verify returns the mailbox for query: the name of a user, or a mailbox, as the client sent it. The server answers
	// 250 or 251. Return a mailbox only if it exists: correct syntax is not enough (RFC 5321 section 3.5.3).
	//
	// The error is the reply. Return [ErrCannotVerify] if the session will not tell, or cannot tell at once. Return a
	// *proto.Error with Code 550 for an unknown user, and 553 for a name that several users have (RFC 5321 section 3.5.1).
	// Use 551 for a user who has moved and whose mail is not forwarded (RFC 5321 section 3.4). Its text has to have the
	// new address, in angle brackets (RFC 5321 section 3.5.2). Do not answer 550 to every query: RFC 5321 section 7.3
	// forbids it.
	Verify(ctx context.Context, query string) (Mailbox, error)
}

// A Mailbox is the answer to VRFY, and a member of a list in that to EXPN.
type Mailbox struct {
	// Name is the full name of the user. It is optional: the reply has only the address if Name is empty.
	Name string
	// Address is the address that the reply states in angle brackets. It has to be one that RCPT accepts, with a fully
	// qualified domain (RFC 5321 section 3.5.2).
	Address proto.Address
	// Forward says that the user is not local, and that the server accepts the mail and forwards it to Address. The server
	// then answers VRFY with 251 in place of 250 (RFC 5321 sections 3.4 and 3.5.3).
	Forward bool
}

func serveVRFY(ctx context.Context, x ext.Command) (proto.Reply, error) {
	query, utf8, err := parseQuery(x)
	if err != nil {
		return proto.Reply{}, err
	}
	v, ok := ext.As[VRFYSession](x.Session())
	if !ok {
		return cannotVerify("Users are not verified here"), nil
	}
	if utf8 {
		x.PermitUTF8()
	}
	m, err := v.Verify(ctx, query)
	switch {
	case errors.Is(err, ErrCannotVerify):
		return cannotVerify("The user cannot be verified"), nil
	case err != nil:
		return proto.Reply{}, refuseQuery(err, utf8)
	}
	r, err := replyMailboxes([]Mailbox{m}, utf8)
	if err == nil && m.Forward {
		r.Code, r.Text = 251, "User not local; will forward to "+r.Text
	}
	return r, err
}

// ErrCannotVerify is what a [VRFYSession] returns for a user about whom it cannot or will not tell. The server answers
// 252 (RFC 5321 sections 3.5.3 and 7.3).
var ErrCannotVerify = errors.New("smtp: the user cannot be verified")

func cannotVerify(why string) proto.Reply {
	text := why + "; send the message, and delivery will be attempted"
	return proto.Reply{Code: 252, Status: proto.Status{2, 5, 0}, Text: text}
}

// parseQuery returns the argument of VRFY or EXPN, and whether the client permits UTF-8 in the reply.
func parseQuery(x ext.Command) (query string, utf8 bool, err error) {
	query = x.Args()
	if i := strings.LastIndexByte(query, ' '); i >= 0 && grammar.EqualFold(query[i+1:], "SMTPUTF8") {
		query, utf8 = query[:i], true
	}
	if query = strings.Trim(query, " "); query == "" {
		return "", false, grammar.BadArgs(x.Verb().Name + " needs an argument")
	}
	return query, utf8, nil
}

var errNeedsUTF8 = proto.Refuse(550, proto.Status{5, 6, 8},
	"The reply needs UTF-8: say SMTPUTF8 at the end of the command")

// refuseQuery returns err, the refusal of a session. If the client does not permit UTF-8, and a reply that states a
// mailbox has some, it returns another (RFC 6531 section 3.7.4.2).
func refuseQuery(err error, utf8 bool) error {
	e, ok := grammar.AsType[*proto.Error](err)
	if !ok || utf8 || grammar.Printable(strings.ReplaceAll(e.Text, "\n", "")) {
		return err
	}
	switch e.Code {
	case 551, 553:
		return errNeedsUTF8
	}
	return err
}

// replyMailboxes returns the reply that states the mailboxes, one on each line (RFC 5321 section 3.5.2).
func replyMailboxes(list []Mailbox, utf8 bool) (proto.Reply, error) {
	lines := make([]string, len(list))
	for i, m := range list {
		if m.Address.IsNull() {
			return proto.Reply{}, errors.New("smtp: the session verified a mailbox without an address")
		}
		path, err := m.Address.AppendPath(nil, utf8)
		if err != nil && !utf8 && !m.Address.IsASCII() {
			return proto.Reply{}, errNeedsUTF8
		}
		if err != nil {
			return proto.Reply{}, err
		}
		lines[i] = string(path)
		if name := displayName(m.Name, utf8); name != "" {
			lines[i] = name + " " + lines[i]
		}
	}
	return proto.Reply{Code: 250, Status: proto.Status{2, 1, 5}, Text: strings.Join(lines, "\n")}, nil
}

// displayName makes name fit to stand before a path. It replaces angle brackets and control characters, which could
// pass for another path or another reply. Without utf8 it drops a name that is not ASCII: only the mailbox is required.
func displayName(name string, utf8 bool) string {
	clean := func(r rune) rune {
		if r == '<' || r == '>' || r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}
	name = strings.TrimSpace(strings.Map(clean, name))
	if !utf8 && !grammar.Printable(name) {
		return ""
	}
	return name
}
