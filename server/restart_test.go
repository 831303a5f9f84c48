package server_test

import (
	"context"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// stage is an extension that has the session begin anew with another client: "XSTAGE name".
func stage() ext.Extension {
	return ext.Extension{
		Keyword: "XSTAGE",
		Verbs: []proto.Verb{
			{Name: "XSTAGE", In: proto.Hello | proto.Ready, Last: true, BeforeAuth: true, OK: proto.Hello},
			{Name: "XWRONG", In: proto.Ready, Last: true},
		},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			if x.Args() == "nobody" {
				return x.Restart(ctx, &ext.Origin{Addr: ext.Unavailable, Hello: ext.Unavailable, Login: ext.Unavailable})
			}
			return x.Restart(ctx, &ext.Origin{Addr: "198.51.100.7", Port: "7", DestAddr: "198.51.100.1", Hello: x.Args(), Login: x.Args()})
		},
	}
}

// looker is a backend whose sessions are told apart by what their connection says when they are made.
type looker struct {
	*store
	refuse bool
}

func (l *looker) NewSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	l.note("%v at %v is %q alias %q", c.RemoteAddr(), c.LocalAddr(), c.Hello(), c.Identity())
	if l.refuse && c.Origin() != nil {
		return nil, &proto.Error{Code: 554, Text: "not you"}
	}
	return l.store.NewSession(ctx, c)
}

func TestRestart(t *testing.T) {
	l := &looker{store: &store{}}
	srv := newServer(t, l, server.Options{Extensions: append(ehlo.Default(), stage()), RequireAuth: true})
	p := dial(t, srv)
	p.expect("220 mail.example ESMTP ready\r\n")
	if got := l.calls(); got != `pipe at pipe is "" alias "", new` {
		t.Errorf("at first: %s", got)
	}
	// Before EHLO as well as after it; the reply is a greeting, and has no status code (RFC 2034 section 4).
	p.ask("XSTAGE alice", "220 mail.example ESMTP ready\r\n", "EHLO client.example", "250-", "XSTAGE bob", "220 mail.example ESMTP ready\r\n")
	if got := l.calls(); got != `close, 198.51.100.7:7 at 198.51.100.1:0 is "alice" alias "alice", new, `+
		`close, 198.51.100.7:7 at 198.51.100.1:0 is "bob" alias "bob", new` {
		t.Errorf("then: %s", got)
	}
	p.ask("MAIL FROM:<a@b.example>", "503 5.5.1", "EHLO client.example", "250-")
	p.begin() // bob need not authenticate
	p.ask("XSTAGE carol", "503 5.5.1", "RSET", "250 2.0.0", "XSTAGE nobody", "220 ", "EHLO client.example", "250-",
		"MAIL FROM:<a@b.example>", "530 ")
	if got := l.calls(); !strings.HasSuffix(got, `reset, close, unknown at pipe is "" alias "", new`) {
		t.Errorf("at last: %s", got)
	}
	p.ask("XWRONG", "530 ")
	p.quit()
}

func TestRestartRefused(t *testing.T) {
	l := &looker{store: &store{}, refuse: true}
	p := dial(t, newServer(t, l, server.Options{Extensions: append(ehlo.Default(), stage())}))
	p.hello()
	p.ask("XSTAGE alice", "554 mail.example not you\r\n", "EHLO client.example", "554 ", "MAIL FROM:<a@b.example>", "554 ")
	p.quit()
	if got := l.calls(); !strings.HasSuffix(got, `alias "alice"`) {
		t.Errorf("called %s after the refusal", got)
	}
	p = dial(t, newServer(t, &store{}, server.Options{Extensions: append(ehlo.Default(), stage())}))
	p.hello()
	p.ask("XWRONG", "451 4.3.0", "NOOP", "250 ") // its success does not lead to a greeting
	p.quit()
}

// TestRestartInGroup shows that what follows in the same packet is said by the other client.
func TestRestartInGroup(t *testing.T) {
	l := &looker{store: &store{}}
	p := dial(t, newServer(t, l, server.Options{Extensions: append(ehlo.Default(), stage())}))
	p.hello()
	p.send("XSTAGE alice\r\nEHLO two.example\r\nMAIL FROM:<a@b.example>\r\nXSTAGE bob\r\nQUIT\r\n")
	p.expect("220 mail.example", "250-", "250 2.1.0", "503 ", "221 ")
	if got := l.calls(); strings.Count(got, "new") != 2 || strings.Count(got, "reset") != 1 {
		t.Errorf("called %s", got)
	}
}
