package ehlo

import (
	"context"
	"errors"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// longestAsk is by how much the lines of VRFY and EXPN may exceed 512 octets (RFC 6531 section 3.7.4.2).
const maxQueryGrow = len(" SMTPUTF8")

// VRFY returns the extension VRFY (RFC 5321 section 4.1.1.6). A server asks the session if it is a [VRFYSession], else
// it answers 252: it does not say who has a mailbox, and will try to deliver (RFC 5321 section 7.3).
func VRFY() ext.Extension {
	return ext.Extension{
		Keyword: "VRFY",
		Verbs:   []proto.Verb{{Name: "VRFY", In: proto.Session, Last: true, Grow: maxQueryGrow}},
		Serve:   serveVRFY,
	}
}

// A VRFYSession is a session that answers VRFY. The query is what the client sent: a mailbox, or the name of a user.
// A mailbox that is returned without an error is verified. The error is the reply: [ErrCannotVerify] for a user of whom the
// session will not tell, or a *proto.Error such as one of Code 550 for a user who does not exist and of 553 for a name
// that several have.
type VRFYSession interface {
	Verify(ctx context.Context, query string) (Mailbox, error)
}

// A Mailbox is an address and the name of whom it belongs to, which may be empty.
type Mailbox struct {
	Name    string
	Address proto.Address
	// Forward says that mail for the mailbox is accepted and sent on to it: VRFY is answered with 251 in place of 250 (RFC
	// 5321 section 3.5.3).
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

// ErrCannotVerify is returned by [VRFYSession] for a user of whom it cannot or will not tell. The client is answered with 252.
var ErrCannotVerify = errors.New("smtp: the user cannot be verified")

func cannotVerify(why string) proto.Reply {
	return proto.Reply{Code: 252, Status: proto.Status{2, 5, 0}, Text: why + "; send the message, and delivery will be attempted"}
}

// ask returns the argument of VRFY or EXPN, and whether the client permits UTF-8 in the reply.
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

var errNeedsUTF8 = proto.Refuse(550, proto.Status{5, 6, 8}, "The reply needs UTF-8: say SMTPUTF8 at the end of the command")

// told returns the reply that the session has chosen, unless it is one with a mailbox in its text that the client
// could not read (RFC 6531 section 3.7.4.2).
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

// tell returns the reply that names the mailboxes, each on a line (RFC 5321 section 3.5.2).
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

// plain makes name fit to stand before a path: the brackets that mark the path do not occur in it, nor does the end
// of a line. A name that is not ASCII is left out where UTF-8 is not permitted; only the mailbox is required.
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
