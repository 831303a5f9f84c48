package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

func TestErrorsBecomeReplies(t *testing.T) {
	noUser := &proto.Error{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no such user"}
	var none *proto.Error
	text := func(text string) func(*server.Conn) { return func(c *server.Conn) { c.Accept(text) } }
	reply := func(code int, text string) func(*server.Conn) {
		return func(c *server.Conn) { c.Reply(proto.Reply{Code: code, Text: text}) }
	}
	for _, c := range []struct {
		name   string
		err    error
		want   string
		choose func(*server.Conn)
	}{
		{"nil", nil, "250 2.1.5 Recipient OK\r\n", nil},
		{"proto.Error", noUser, "550 5.1.1 no such user\r\n", nil},
		{"wrapped", fmt.Errorf("secret: %w", noUser), "550 5.1.1 no such user\r\n", nil},
		{"cause is not sent", &proto.Error{Code: 450, Text: "later", Err: errors.New("secret")},
			"450 4.2.1 later\r\n", nil},
		{"no text", &proto.Error{Code: 550}, "550 5.0.0 Refused\r\n", nil},
		{"success with a text", nil, "250 2.1.5 forwarded\r\n", text("forwarded")},
		{"success without a text", nil, "250 2.1.5 Recipient OK\r\n", text("")},
		{"251", nil, "251 2.1.5 will forward\r\n", reply(251, "will forward")},
		{"252 with a status", nil, "252 2.5.2 will try\r\n", func(c *server.Conn) {
			c.Reply(proto.Reply{Code: 252, Status: proto.Status{2, 5, 2}, Text: "will try"})
		}},
		{"the last choice", nil, "250 2.1.5 two\r\n", func(c *server.Conn) { c.Accept("secret"); c.Accept("two") }},
		{"a choice is taken back", nil, "250 2.1.5 Recipient OK\r\n", func(c *server.Conn) { c.Accept("secret"); c.Reply(proto.Reply{}) }},
		{"a choice and an error", noUser, "550 5.1.1 no such user\r\n", text("secret")},
		{"a refusal is chosen", nil, "451 4.3.0 Local error", reply(550, "secret")},
		{"an intermediate reply is chosen", nil, "451 4.3.0 Local error", reply(354, "secret")},
		{"a reply without a code is chosen", nil, "451 4.3.0 Local error", reply(0, "secret")},
		{"a code of four digits is chosen", nil, "451 4.3.0 Local error", reply(2500, "secret")},
		{"plain error", errors.New("secret"), "451 4.3.0 Local error", nil},
		{"intermediate code", &proto.Error{Code: 354, Text: "secret"}, "451 4.3.0 Local error", nil},
		{"no code", &proto.Error{Text: "secret"}, "451 4.3.0 Local error", nil},
		{"code of four digits", &proto.Error{Code: 5000, Text: "secret"}, "451 4.3.0 Local error", nil},
		{"typed nil", none, "451 4.3.0 Local error", nil},
		{"injection", &proto.Error{Code: 550, Text: "a\r\n250 ok\x00"}, "550-5.0.0 a\r\n550 5.0.0 250 ok?\r\n", nil},
		{"421 of a server behind", &proto.Error{Code: 421, Text: "busy", Verb: "RCPT"}, "451 4.3.0 busy\r\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var conn *server.Conn
			st := &store{
				newSession: func(_ context.Context, c *server.Conn) error { conn = c; return nil },
				rcpt: func(context.Context, proto.Address, proto.Params) error {
					if c.choose != nil {
						c.choose(conn)
					}
					return c.err
				},
			}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 2.1.0")
			p.send("RCPT TO:<c@d.example>\r\n")
			got := p.reply()
			if !strings.HasPrefix(got, c.want) || strings.Contains(got, "secret") {
				t.Errorf("the reply is %q, want %q", got, c.want)
			}
			// What decides the state is the class of the reply that was sent.
			want := "503 5.5.1"
			if got[0] == '2' {
				want = "354 "
			}
			p.ask("DATA", want)
		})
	}
}

// TestChoiceHoldsOnce: a reply that a method has chosen answers nothing but that method.
func TestChoiceHoldsOnce(t *testing.T) {
	var conn *server.Conn
	st := &store{
		newSession: func(_ context.Context, c *server.Conn) error {
			conn = c
			c.Accept("secret") // NewSession is no method of the session
			return nil
		},
		mail: func(_ context.Context, from proto.Address, _ proto.Params) error {
			if from.Local == "refused" {
				conn.Accept("secret")
				return &proto.Error{Code: 550, Text: "no"}
			}
			return nil
		},
		rcpt: func(context.Context, proto.Address, proto.Params) error { return nil },
		data: func(_ context.Context, r io.Reader) error {
			conn.Accept("kept")
			_, err := io.Copy(io.Discard, r)
			return err
		},
	}
	p := dial(t, newServer(t, authStore{st}, server.Options{AllowInsecureAuth: true}))
	p.expect("220 mail.example ESMTP ready\r\n")
	p.ask("EHLO client.example", "250-mail.example", plain("alice", "secret"), "235 2.7.0 Authenticated\r\n",
		"MAIL FROM:<refused@b.example>", "550 5.0.0 no\r\n", "MAIL FROM:<a@b.example>", "250 2.1.0 Sender OK\r\n",
		"RCPT TO:<c@d.example>", "250 2.1.5 Recipient OK\r\n")
	// A choice waits for the end of the message, past all that is answered before.
	p.chunk("BDAT 3", "abc", "250 2.0.0 3 octets received\r\n")
	p.ask("NOOP", "250 2.0.0 OK\r\n", "MAIL FROM:<a@b.example>", "503 5.5.1")
	p.chunk("BDAT 3 LAST", "abc", "250 2.0.0 kept\r\n")
	p.ask("NOOP", "250 2.0.0 OK\r\n")
	// A message that is given up takes its choice along, and one that is malformed is refused whatever was chosen.
	p.begin()
	p.chunk("BDAT 3", "abc", "250 2.0.0 3 octets received\r\n")
	p.ask("RSET", "250 2.0.0 OK\r\n", "MAIL FROM:<a@b.example>", "250 2.1.0 Sender OK\r\n",
		"RCPT TO:<c@d.example>", "250 2.1.5 Recipient OK\r\n", "DATA", "354 ", "a\nb\r\n.", "554 5.6.0")
	p.quit()
}

func TestErrorIsLogged(t *testing.T) {
	var log bytes.Buffer
	st := &store{mail: func(context.Context, proto.Address, proto.Params) error { return errors.New("disk on fire") }}
	p := dial(t, newServer(t, st, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "451 4.3.0")
	p.quit()
	if !strings.Contains(log.String(), "disk on fire") {
		t.Errorf("the log is %q, want the error in it", &log)
	}
}

func TestReply421Closes(t *testing.T) {
	st := &store{mail: func(context.Context, proto.Address, proto.Params) error {
		return &proto.Error{Code: 421, Text: "enough"}
	}}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "421 4.")
	var e *proto.Error
	if err := p.ended(); !errors.As(err, &e) || e.Code != 421 {
		t.Errorf("ServeConn returned %v, want the 421", err)
	}
}

func TestA02_RefusedByGreeting(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		want   string
		closed bool
	}{
		{"554", &proto.Error{Code: 554, Text: "no service"}, "554 mail.example no service\r\n", false},
		{"521", fmt.Errorf("x: %w", &proto.Error{Code: 521, Text: "no mail"}), "521 mail.example no mail\r\n", false},
		{"plain error", errors.New("secret"), "421 mail.example Service not available", true},
		{"success", &proto.Error{Code: 250, Text: "secret"}, "421 mail.example Service not available", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := &store{newSession: func(context.Context, *server.Conn) error { return c.err }}
			p := dial(t, newServer(t, st, server.Options{}))
			p.expect(c.want)
			if c.closed {
				if p.ended() == nil {
					t.Error("ServeConn returned nil without a QUIT")
				}
				return
			}
			// RFC 5321 section 3.1
			p.ask("EHLO client.example", "503 ", "MAIL FROM:<a@b.example>", "503 ", "NOOP", "503 ")
			p.quit()
		})
	}
}

func TestNoSessionAndNoError(t *testing.T) {
	b := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) { return nil, nil })
	p := dial(t, newServer(t, b, server.Options{}))
	p.expect("421 ")
	if p.ended() == nil {
		t.Error("ServeConn returned nil without a QUIT")
	}
}

// lives are how a session can go, and what is called in the course of it.
func lives() []life {
	refuse := func(context.Context, io.Reader) error { return &proto.Error{Code: 550, Text: "spam"} }
	const begin = "new, mail a@b.example, rcpt c@d.example, "
	return []life{
		{"nothing", nil, func(p *peer) { p.quit() }, "new, close"},
		{"accepted", nil, func(p *peer) {
			p.begin()
			p.ask("DATA", "354 ", "hello\r\n.", "250 2.0.0")
			p.quit()
		}, begin + "data 7 <nil>, reset, close"},
		{"refused", refuse, func(p *peer) {
			p.begin()
			p.ask("DATA", "354 ", "hello\r\n.", "550 ")
			p.quit()
		}, begin + "data, reset, close"},
		{"RSET", nil, func(p *peer) {
			p.begin()
			p.ask("RSET", "250 ", "RSET", "250 ")
			p.quit()
		}, begin + "reset, close"},
		{"EHLO", nil, func(p *peer) {
			p.begin()
			p.ask("EHLO x", "250-")
			p.quit()
		}, begin + "reset, close"},
		{"failed EHLO", nil, func(p *peer) {
			p.begin()
			p.ask("EHLO", "501 ", "DATA", "354 ", ".", "250 ")
			p.quit()
		}, begin + "data 0 <nil>, reset, close"},
		{"QUIT", nil, func(p *peer) {
			p.begin()
			p.quit()
		}, begin + "reset, close"},
		{"lost", nil, func(p *peer) {
			p.begin()
			p.nc.Close()
			<-p.done
		}, begin + "reset, close"},
		{"lost in content", nil, func(p *peer) {
			p.begin()
			p.ask("DATA", "354 ")
			p.send("hello\r\n")
			p.nc.Close()
			<-p.done
		}, begin + "data 7 unexpected EOF, reset, close"},
	}
}

type life struct {
	name string
	data func(context.Context, io.Reader) error
	talk func(p *peer)
	want string
}

func TestResetAndClose(t *testing.T) {
	for _, c := range lives() {
		t.Run(c.name, func(t *testing.T) {
			st := &store{data: c.data}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			c.talk(p)
			if got := st.calls(); got != c.want {
				t.Errorf("called: %s\nwant:   %s", got, c.want)
			}
			if kept := st.messages(); c.name == "lost in content" && len(kept) > 0 {
				t.Errorf("a message was kept whose end has not arrived: %q", kept)
			}
		})
	}
}

// wrapper is a session in the way of another.
type wrapper struct{ inner server.Session }

func (w wrapper) Mail(ctx context.Context, a proto.Address, p proto.Params) error {
	return w.inner.Mail(ctx, a, p)
}

func (w wrapper) Rcpt(ctx context.Context, a proto.Address, p proto.Params) error {
	return w.inner.Rcpt(ctx, a, p)
}

func (w wrapper) Data(ctx context.Context, r io.Reader) error { return w.inner.Data(ctx, r) }

func (w wrapper) Unwrap() any { return w.inner }

func TestOptionalInterfacesThroughUnwrap(t *testing.T) {
	st := &store{}
	b := server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
		s, err := st.NewSession(ctx, c)
		return wrapper{wrapper{s}}, err
	})
	p := dial(t, newServer(t, b, server.Options{}))
	p.hello()
	p.begin()
	p.quit()
	if got, want := st.calls(), "new, mail a@b.example, rcpt c@d.example, reset, close"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
}

// panicky panics in the method called where.
type panicky struct {
	server.Session
	where string
}

func (s panicky) trip(where string) {
	if s.where == where {
		panic("at the disco")
	}
}

func (s panicky) Mail(context.Context, proto.Address, proto.Params) error {
	s.trip("Mail")
	return nil
}

func (s panicky) Rcpt(context.Context, proto.Address, proto.Params) error {
	s.trip("Rcpt")
	return nil
}

func (s panicky) Data(_ context.Context, r io.Reader) error {
	s.trip("Data")
	_, err := io.Copy(io.Discard, r)
	s.trip("Data at the end")
	return err
}

func (s panicky) Reset(context.Context) { s.trip("Reset") }

func (s panicky) Close() error {
	s.trip("Close")
	return nil
}

// TestG20H19_Panic: it is answered 421, is logged, and ends that connection only.
func TestG20H19_Panic(t *testing.T) {
	var log bytes.Buffer
	where := "NewSession"
	b := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		if where == "NewSession" {
			panic("at the disco")
		}
		return panicky{where: where}, nil
	})
	srv := newServer(t, b, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Limits: server.Limits{Conns: 2}})
	talk := func(p *peer, until string) {
		for _, step := range []struct{ where, say, want string }{
			{"NewSession", "", "220 "},
			{"", "EHLO x", "250-"},
			{"Mail", "MAIL FROM:<a@b.example>", "250 "},
			{"Rcpt", "RCPT TO:<c@d.example>", "250 "},
			{"", "DATA", "354 "},
			{"Data at the end", "hello\r\n.", "250 "},
		} {
			if step.say != "" {
				p.send(step.say + "\r\n")
			}
			if step.where == until {
				return
			}
			p.expect(step.want)
			if step.say == "DATA" && until == "Data" || step.where == "Data at the end" && until == "Reset" {
				return
			}
		}
	}
	where = ""
	other := dial(t, srv)
	other.hello()
	for _, where = range []string{"NewSession", "Mail", "Rcpt", "Data", "Data at the end", "Reset"} {
		log.Reset()
		p := dial(t, srv)
		talk(p, where)
		p.expect("421 ")
		if p.ended() == nil {
			t.Errorf("%s: ServeConn returned nil", where)
		}
		if !strings.Contains(log.String(), "disco") || !strings.Contains(log.String(), "session_test.go") {
			t.Errorf("%s: the log is %q, want the panic with its stack", where, &log)
		}
		other.ask("NOOP", "250 ")
	}
	where = "Close"
	p := dial(t, srv)
	p.hello()
	p.quit()
	if !strings.Contains(log.String(), "disco") {
		t.Errorf("the log is %q, want the panic of Close", &log)
	}
	other.begin()
	other.quit()
}

// TestGoexit: a session that ends its goroutine, as a failing test does, ends the connection and leaves nothing behind.
func TestGoexit(t *testing.T) {
	st := &store{mail: func(context.Context, proto.Address, proto.Params) error {
		runtime.Goexit()
		return nil
	}}
	srv := newServer(t, st, server.Options{Limits: server.Limits{Conns: 1}})
	p := dial(t, srv)
	p.hello()
	p.send("MAIL FROM:<a@b.example>\r\n")
	p.done = nil
	if err := p.ended(); err != nil {
		t.Error(err)
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := st.calls(), "new, mail a@b.example, close"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
}

func TestMessageFunc(t *testing.T) {
	type message struct{ from, to, body, param string }
	var got message
	b := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		body, err := io.ReadAll(m.Body)
		got = message{from: m.From.String(), body: string(body)}
		for _, r := range m.To {
			got.to += r.Address.String() + " "
		}
		got.param, _ = m.Params.Get("BODY")
		if m.Conn.Hello() != "client.example" {
			t.Errorf("Hello is %q", m.Conn.Hello())
		}
		m.Conn.Accept("queued as 17")
		return err
	})
	p := dial(t, newServer(t, b, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<> BODY=8BITMIME", "250 ", "RCPT TO:<a@b.example>", "250 ", "RCPT TO:<Postmaster>", "250 ",
		"DATA", "354 ", "..x\r\n.", "250 2.0.0 queued as 17\r\n")
	if want := (message{"", "a@b.example Postmaster ", ".x\r\n", "8BITMIME"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// A second message knows nothing of the first.
	p.ask("MAIL FROM:<x@y.example>", "250 ", "RCPT TO:<c@d.example>", "250 ", "DATA", "354 ", ".", "250 ")
	if want := (message{"x@y.example", "c@d.example ", "", ""}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	p.quit()
}
