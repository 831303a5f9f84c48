package ehlo_test

import (
	"context"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/server"
)

// TestHelpLists checks that HELP lists the commands that the server carries out for the session. It must not list those
// of extensions that the session does not support, nor obsolete ones.
func TestHelpLists(t *testing.T) {
	list := func(opt server.Options, s server.Session, greeting string) string {
		opt.Hostname, opt.Extensions = "mail.example", append(ehlo.Default(), ehlo.ETRN(), ehlo.ATRN())
		return talk(t, newServer(t, s, &opt), greeting, "HELP")
	}
	theirs, _ := ownTLS(t)
	for _, greeting := range []string{"EHLO x.example", "HELO x.example", "NOOP"} {
		bare := list(server.Options{}, &keeper{}, greeting)
		able := list(server.Options{TLSConfig: theirs, AllowInsecureAuth: true}, &librarian{}, greeting)
		for _, verb := range []string{"MAIL", "RCPT", "DATA", "BDAT", "VRFY", "HELP", "RSET", "NOOP", "QUIT"} {
			if !has(bare, verb) || !has(able, verb) {
				t.Errorf("after %s %s is not listed: %q, %q", greeting, verb, bare, able)
			}
		}
		for _, verb := range []string{"STARTTLS", "AUTH", "EXPN", "ETRN"} {
			if has(bare, verb) || !has(able, verb) {
				t.Errorf("after %s %s: %q, %q", greeting, verb, bare, able)
			}
		}
		if has(able, "ATRN") || has(able, "TURN") {
			t.Errorf("after %s %q", greeting, able)
		}
	}
}

func has(reply, verb string) bool {
	for word := range strings.FieldsSeq(reply) {
		if word == verb {
			return true
		}
	}
	return false
}

// librarian is a session that also supports EXPN and ETRN.
type librarian struct{ library }

func (*librarian) Expand(context.Context, string) ([]ehlo.Mailbox, error) { return nil, nil }
func (*librarian) StartQueue(context.Context, ehlo.Node) (int, error)     { return 0, nil }
