package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

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
	how   func() // nil panics
}

func (s panicky) trip(where string) {
	switch {
	case s.where != where:
	case s.how != nil:
		s.how()
	default:
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

// TestG20H19_Panic: a panic is answered 421, is logged, and ends that connection only.
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
		if !strings.Contains(log.String(), "disco") || !strings.Contains(log.String(), "serve_test.go") {
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

// TestGoexitAtTheEnd: a session that does so in Reset or Close leaves nothing open, and loses no reply.
func TestGoexitAtTheEnd(t *testing.T) {
	for _, where := range []string{"Reset", "Close"} {
		b := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
			return panicky{where: where, how: runtime.Goexit}, nil
		})
		p := dial(t, newServer(t, b, server.Options{}))
		p.done = nil
		p.hello()
		p.begin()
		p.send("DATA\r\nhello\r\n.\r\nQUIT\r\n")
		p.expect("354 ", "250 ")
		if where == "Close" {
			p.expect("221 ")
		}
		if err := p.ended(); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// TestReplyBeforeReset: the client does not have to wait for Reset to hear that its message was accepted.
func TestReplyBeforeReset(t *testing.T) {
	told := make(chan struct{})
	b := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return panicky{where: "Reset", how: func() { <-told }}, nil
	})
	p := dial(t, newServer(t, b, server.Options{}))
	p.hello()
	p.begin()
	p.ask("DATA", "354 ", "hello\r\n.", "250 ")
	close(told)
	p.quit()
}

// TestTurnAwaySilentTLS: a connection too many of a listener that speaks TLS is not kept by a client that says nothing.
func TestTurnAwaySilentTLS(t *testing.T) { synctest.Test(t, testTurnAwaySilentTLS) }

func testTurnAwaySilentTLS(t *testing.T) {
	conf, _ := tlsPair(t)
	s := newServer(t, &store{}, server.Options{TLSConfig: conf, Limits: server.Limits{Conns: 1}})
	p := dial(t, s)
	p.hello()
	here, there := net.Pipe()
	defer here.Close()
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(context.Background(), tls.Server(there, conf)) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a silent client keeps the connection that was turned away")
	}
	p.quit()
}
