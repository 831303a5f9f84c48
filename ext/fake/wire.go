package fake

import (
	"errors"
	"strings"

	"smtpkit.example/smtp/proto"
)

// Caps returns what a server advertises whose reply to EHLO has these lines after the first, such as "SIZE 10240".
func Caps(lines ...string) proto.Caps {
	text := strings.Join(append([]string{"mail.example"}, lines...), "\n")
	return proto.ParseCaps(proto.Reply{Code: 250, Text: text})
}

// Reply returns what the client is sent if Serve returns r and err: the reply as it is on the wire, with an enhanced
// status code and without the final CRLF. It is "" for the zero Reply without an error, for which a server sends 250
// and a text of its own. For an error that is not a *proto.Error it returns "not a reply: " and the text of the error,
// since a server logs such an error and sends 451.
//
//	got := fake.Reply(e.Serve(ctx, x))
func Reply(r proto.Reply, err error) string { return wire(r, err, false) }

// Refusal returns what the client is sent if a function such as CheckMail returns err, in the form of [Reply]. It is ""
// for nil.
//
//	got := fake.Refusal(e.CheckMail(ctx, x, from, params))
func Refusal(err error) string { return wire(proto.Reply{}, err, false) }

func wire(r proto.Reply, err error, utf8 bool) string {
	if err != nil {
		var e *proto.Error
		if !errors.As(err, &e) {
			return "not a reply: " + err.Error()
		}
		r = e.Reply()
	} else if r.Code == 0 {
		return ""
	}
	return strings.TrimSuffix(string(proto.AppendReply(nil, r, true, utf8)), "\r\n")
}
