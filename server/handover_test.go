package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
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

// TestRestartInGroup: commands behind a restart, in the same packet, are those of the other client.
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

// echo is an extension whose verb gives the connection away to serve. The reply to "XECHO badly" is not one that leads
// there.
func echo(serve func(ctx context.Context, nc net.Conn) error) ext.Extension {
	return ext.Extension{
		Keyword: "XECHO",
		Verbs:   []proto.Verb{{Name: "XECHO", In: proto.Ready, Last: true, OK: proto.Handover}},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			code := 250
			if x.Args() == "badly" {
				code = 450
			}
			return proto.Reply{}, x.Surrender(ctx, proto.Reply{Code: code, Text: "yours"}, serve)
		},
	}
}

func echoServer(t *testing.T, st *store, opt server.Options, serve func(ctx context.Context, nc net.Conn) error) *server.Server {
	t.Helper()
	opt.Extensions = append(ehlo.Default(), echo(serve))
	return newServer(t, st, opt)
}

// once echoes three octets.
func once(_ context.Context, nc net.Conn) error {
	b := make([]byte, 3)
	if _, err := io.ReadFull(nc, b); err != nil {
		return err
	}
	_, err := nc.Write(append(b, '\n'))
	return err
}

func TestSurrender(t *testing.T) {
	for name, behind := range map[string]string{"sent behind the command": "abc", "in two pieces": "a", "sent afterwards": ""} {
		t.Run(name, func(t *testing.T) {
			st := &store{}
			p := dial(t, echoServer(t, st, server.Options{}, once))
			p.hello()
			p.send("XECHO\r\n" + behind)
			p.expect("250 2.0.0 yours")
			p.send("abc"[len(behind):])
			p.expect("abc")
			if err := p.ended(); err != nil {
				t.Errorf("ServeConn returned %v", err)
			}
			if got := st.calls(); got != "new, close" {
				t.Errorf("called %s", got)
			}
		})
	}
}

func TestSurrenderFails(t *testing.T) {
	ours := errors.New("ours")
	p := dial(t, echoServer(t, &store{}, server.Options{}, func(context.Context, net.Conn) error { return ours }))
	p.hello()
	p.ask("XECHO", "250 ")
	if err := p.ended(); !errors.Is(err, ours) {
		t.Errorf("ServeConn returned %v, want the error of the extension", err)
	}
	p = dial(t, echoServer(t, &store{}, server.Options{}, func(context.Context, net.Conn) error { panic("ours") }))
	p.hello()
	p.ask("XECHO", "250 ")
	if err := p.ended(); err == nil {
		t.Error("ServeConn returned nil after a panic")
	}
	p = dial(t, echoServer(t, &store{}, server.Options{}, once))
	p.hello()
	p.ask("XECHO badly", "451 4.3.0", "NOOP", "250 ")
	p.quit()
}

// TestSurrenderTakesTime shows that a connection given away is bounded by none of the timeouts, and that Shutdown waits
// for it.
func TestSurrenderTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := echoServer(t, &store{}, server.Options{Timeouts: server.Timeouts{Handshake: time.Second, Command: time.Second}}, once)
		p := dial(t, srv)
		p.hello()
		p.ask("XECHO", "250 ")
		over := make(chan error, 1)
		go func() { over <- srv.Shutdown(t.Context()) }()
		<-time.After(24 * time.Hour)
		select {
		case err := <-over:
			t.Fatalf("Shutdown did not wait: %v", err)
		default:
		}
		p.send("abc")
		p.expect("abc")
		if err := p.ended(); err != nil {
			t.Errorf("ServeConn returned %v", err)
		}
		if err := <-over; err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
	})
}

// TestSurrenderEnds: Close and the session timeout end the context of the function that was given the connection.
func TestSurrenderEnds(t *testing.T) {
	wait := func(ctx context.Context, _ net.Conn) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	synctest.Test(t, func(t *testing.T) {
		srv := echoServer(t, &store{}, server.Options{}, wait)
		p := dial(t, srv)
		p.hello()
		p.ask("XECHO", "250 ")
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := p.ended(); !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("ServeConn returned %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := dial(t, echoServer(t, &store{}, server.Options{Timeouts: server.Timeouts{Session: time.Hour}}, wait))
		p.hello()
		p.ask("XECHO", "250 ")
		_ = p.ended()
		if d := time.Since(start); d != time.Hour {
			t.Errorf("the connection ended after %v, want the timeout of the session", d)
		}
	})
}

// TestO03Z44_StartTLS: the server forgets what the client said in plaintext (RFC 3207 section 4.2).
func TestO03Z44_StartTLS(t *testing.T) {
	config, trust := tlsPair(t)
	st := &store{}
	var conn *server.Conn
	st.newSession = func(_ context.Context, c *server.Conn) error {
		conn = c
		return nil
	}
	srv := newServer(t, authStore{st}, server.Options{TLSConfig: config})
	w := dialWire(t, srv)
	w.ask("", "220 ")
	w.ask("EHLO before\r\n", "250-")
	if conn.TLS() != nil || conn.Hello() != "before" {
		t.Errorf("TLS is %v and Hello %q before STARTTLS", conn.TLS(), conn.Hello())
	}
	p := w.startTLS(trust)
	p.ask("MAIL FROM:<a@b.example>", "503 5.5.1")
	if got, want := st.calls(), "new, close, new"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
	if conn.TLS() == nil || conn.Hello() != "" || conn.Extended() {
		t.Errorf("TLS is %v and Hello %q after STARTTLS", conn.TLS(), conn.Hello())
	}
	p.send("EHLO after\r\n")
	if got := p.reply(); strings.Contains(got, "STARTTLS") || !strings.Contains(got, "AUTH PLAIN") {
		t.Errorf("the server says %q inside TLS", got)
	}
	p.ask("STARTTLS", "503 ", plain("alice", "wrong"), "535 ", plain("alice", "secret"), "235 ")
	if conn.Identity() != "alice" {
		t.Errorf("Identity is %q", conn.Identity())
	}
	p.begin()
	p.ask("DATA", "354 ", strings.Repeat("12345678\r\n", 100_000)+".", "250 ")
	p.quit()
	if got := st.messages(); len(got) != 1 || len(got[0]) != 1_000_000 {
		t.Errorf("got %d messages, want one of 1,000,000 octets", len(got))
	}
}

// TestO04_StartTLSInjection: what stands behind STARTTLS is part of the handshake, which it breaks, and nothing follows
// in plaintext (CVE-2011-0411).
func TestO04_StartTLSInjection(t *testing.T) {
	config, _ := tlsPair(t)
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{TLSConfig: config}))
	p.hello()
	p.send("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@b.example>\r\n")
	p.expect("220 ")
	for got := p.reply(); got != ""; got = p.reply() {
		if strings.Contains(got, "250") || strings.Contains(got, "50") {
			t.Errorf("the server says %q after a broken handshake", got)
		}
	}
	if err := <-p.done; err == nil {
		t.Error("ServeConn returned nil")
	}
	if got := st.calls(); got != "new, close" {
		t.Errorf("called %s", got)
	}
}

// TestO07_RefusedAfterStartTLS: a session that the backend refuses then has no greeting to say so (RFC 3207 section
// 4.1).
func TestO07_RefusedAfterStartTLS(t *testing.T) {
	config, trust := tlsPair(t)
	for _, c := range []struct {
		err  error
		want string
	}{
		{&proto.Error{Code: 554, Status: proto.Status{5, 7, 0}, Text: "cipher too weak"}, "554 "},
		{errors.New("secret"), "421 "},
	} {
		st := &store{newSession: func(_ context.Context, conn *server.Conn) error {
			if conn.TLS() != nil {
				return c.err
			}
			return nil
		}}
		w := dialWire(t, newServer(t, st, server.Options{TLSConfig: config}))
		w.ask("", "220 ")
		w.ask("EHLO x\r\n", "250-")
		p := w.startTLS(trust)
		if c.want == "421 " {
			p.ask("EHLO x", c.want)
			<-p.done
			continue
		}
		p.ask("EHLO x", c.want, "NOOP", c.want, "MAIL FROM:<a@b.example>", c.want, "RSET", c.want, "FOO", c.want)
		p.quit()
	}
}

// TestO01_NotNow: STARTTLS can be refused for the moment, and the session goes on in plaintext (RFC 3207 section 4).
func TestO01_NotNow(t *testing.T) {
	config, _ := tlsPair(t)
	busy := ext.Extension{Keyword: "XBUSY", Guard: func(_ context.Context, _ ext.ServerConn, v *proto.Verb, _ string) error {
		if v.Name != "STARTTLS" {
			return nil
		}
		return &proto.Error{Code: 454, Status: proto.Status{4, 7, 0}, Text: "TLS not available now"}
	}}
	p := dial(t, newServer(t, &store{}, server.Options{TLSConfig: config, Extensions: append(ehlo.Default(), busy)}))
	p.hello()
	p.ask("STARTTLS", "454 4.7.0 TLS not available now")
	p.begin()
	p.quit()
}

// TestO03Z43_IdentityForgotten: a client that has authenticated in plaintext has to do so again inside TLS.
func TestO03Z43_IdentityForgotten(t *testing.T) {
	config, trust := tlsPair(t)
	w := dialWire(t, newServer(t, authStore{&store{}}, server.Options{TLSConfig: config, RequireAuth: true, AllowInsecureAuth: true}))
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	w.ask(plain("alice", "secret")+"\r\n", "235 ")
	p := w.startTLS(trust)
	p.ask("EHLO x", "250-", "MAIL FROM:<a@b.example>", "530 5.7.0", plain("alice", "secret"), "235 ")
	p.begin()
	p.quit()
}

// TestStatusCodesAfterRestart: replies have status codes again when the session has begun anew, whatever the client
// said before.
func TestStatusCodesAfterRestart(t *testing.T) {
	x := ext.Extension{
		Keyword: "XRST",
		Verbs:   []proto.Verb{{Name: "XRST", In: proto.Hello | proto.Ready, Last: true, BeforeAuth: true, OK: proto.Hello}},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			return x.Restart(ctx, &ext.Origin{})
		},
	}
	p := dial(t, newServer(t, &store{}, server.Options{Extensions: append(ehlo.Default(), x)}))
	p.expect("220 mail.example")
	p.ask("HELO client.example", "250 mail.example", "FOO", "500 Command", "XRST", "220 mail.example", "FOO", "500 5.5.1")
	p.quit()
}
