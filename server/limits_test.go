package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// inBubble runs f with a clock of its own, and checks how long that took on it.
func inBubble(t *testing.T, want time.Duration, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		f(t)
		if got := time.Since(start); got != want {
			t.Errorf("it took %v, want %v", got, want)
		}
	})
}

// TestH16_CommandTimeout: it is 5 minutes for a whole line, however it dribbles in (RFC 5321 section 4.5.3.2.7).
func TestH16_CommandTimeout(t *testing.T) {
	t.Run("silence", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.hello()
			p.expect("421 4.4.2")
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
		})
	})
	t.Run("dribble", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.hello()
			for range 10 {
				p.send("N")
				select {
				case line := <-p.lines:
					if !strings.HasPrefix(line, "421 4.4.2") {
						t.Errorf("the server says %q", line)
					}
					return
				case <-time.After(time.Minute):
				}
			}
			t.Error("the server waits for ever")
		})
	})
	t.Run("commands", func(t *testing.T) {
		inBubble(t, 40*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.hello()
			for range 10 {
				<-time.After(4 * time.Minute)
				p.ask("NOOP", "250 ")
			}
			p.quit()
		})
	})
	t.Run("in an exchange", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, authStore{&store{}}, server.Options{AllowInsecureAuth: true}))
			p.hello()
			p.ask("AUTH PLAIN", "334 ")
			p.expect("421 4.4.2")
			<-p.done
		})
	})
}

// authStore is a store whose sessions know the user alice.
type authStore struct{ *store }

func (st authStore) NewSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	s, err := st.store.NewSession(ctx, c)
	if err != nil {
		return nil, err
	}
	return authSession{s.(*session)}, nil
}

type authSession struct{ *session }

func (s authSession) Authenticate(_ context.Context, user, password string) error {
	s.note("authenticate %s", user)
	if user != "alice" || password != "secret" {
		return &proto.Error{Code: 535, Status: proto.Status{5, 7, 8}, Text: "no"}
	}
	return nil
}

// TestH17_ContentTimeout: it is renewed with each block, and the time that the session takes does not count.
func TestH17_ContentTimeout(t *testing.T) {
	block := strings.Repeat("12345678\r\n", 10000)
	t.Run("renewed", func(t *testing.T) {
		inBubble(t, 40*time.Minute, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, nil)
			p.ask("DATA", "354 ")
			for range 10 {
				<-time.After(4 * time.Minute)
				p.send(block)
			}
			p.ask(".", "250 ")
			p.quit()
		})
	})
	t.Run("stalled", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			var got error
			p, st := withData(t, server.Options{}, func(ctx context.Context, r io.Reader) error {
				_, got = io.Copy(io.Discard, r)
				if ctx.Err() == nil {
					t.Error("the context lives on")
				}
				return got
			})
			p.ask("DATA", "354 ")
			p.send("hello\r\n")
			p.expect("421 4.4.2")
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
			var e *proto.Error
			if !errors.As(got, &e) || e.Code != 421 {
				t.Errorf("the reader returned %v, want the 421", got)
			}
			if got := st.calls(); !strings.HasSuffix(got, "data, reset, close") {
				t.Errorf("called %s", got)
			}
		})
	})
	t.Run("slow session", func(t *testing.T) {
		inBubble(t, time.Hour, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
				<-time.After(time.Hour)
				_, err := io.Copy(io.Discard, r)
				return err
			})
			p.ask("DATA", "354 ", "hello\r\n.", "250 ")
			p.quit()
		})
	})
	t.Run("between chunks", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, nil)
			p.chunk("BDAT 3", "abc", "250 ")
			p.expect("421 4.4.2")
			<-p.done
		})
	})
}

// TestI09_MinRate: after the grace, content has to come at 100 octets a second.
func TestI09_MinRate(t *testing.T) {
	trickle := func(t *testing.T, size int) time.Duration {
		p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		p.ask("DATA", "354 ")
		start := time.Now()
		for time.Since(start) < time.Hour {
			select {
			case line := <-p.lines:
				if !strings.HasPrefix(line, "421 4.4.2") {
					t.Errorf("the server says %q", line)
				}
				<-p.done
				return time.Since(start)
			case <-time.After(time.Second):
				p.send(strings.Repeat("x", size))
			}
		}
		p.ask("\r\n.", "250 ")
		p.quit()
		return time.Since(start)
	}
	synctest.Test(t, func(t *testing.T) {
		if got := trickle(t, 99); got < 10*time.Minute || got > 10*time.Minute+2*time.Second {
			t.Errorf("99 octets a second were taken for %v, want 10 minutes", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if got := trickle(t, 101); got != time.Hour {
			t.Errorf("101 octets a second were taken for %v", got)
		}
	})
}

// TestWriteTimeout: a client that never reads does not hold the connection for ever, nor memory without bound.
func TestWriteTimeout(t *testing.T) {
	inBubble(t, 5*time.Minute, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{})
		here, there := net.Pipe()
		done := make(chan error)
		go func() { done <- srv.ServeConn(context.Background(), there) }()
		if err := <-done; err == nil {
			t.Error("ServeConn returned nil")
		}
		here.Close()
	})
}

func TestHandshakeTimeout(t *testing.T) {
	config, _ := tlsPair(t)
	inBubble(t, time.Minute, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{})
		here, there := net.Pipe()
		defer here.Close()
		if err := srv.ServeConn(context.Background(), tls.Server(there, config)); err == nil {
			t.Error("ServeConn returned nil")
		}
	})
}

func TestSessionTimeout(t *testing.T) {
	t.Run("between commands", func(t *testing.T) {
		inBubble(t, 10*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{SessionTimeout: 10 * time.Minute}))
			p.hello()
			<-time.After(4 * time.Minute)
			p.ask("NOOP", "250 ")
			<-time.After(4 * time.Minute)
			p.ask("NOOP", "250 ")
			p.expect("421 4.4.2")
			<-p.done
		})
	})
	t.Run("in a session", func(t *testing.T) {
		inBubble(t, 10*time.Minute, func(t *testing.T) {
			st := &store{mail: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
				<-ctx.Done()
				return ctx.Err()
			}}
			p := dial(t, newServer(t, st, server.Options{SessionTimeout: 10 * time.Minute}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "421 4.")
			<-p.done
		})
	})
}

func TestNegativeTimeoutsAreNone(t *testing.T) {
	inBubble(t, 100*time.Hour, func(t *testing.T) {
		none := server.Options{CommandTimeout: -1, ContentTimeout: -1, MinRate: -1, WriteTimeout: -1}
		p, _ := withData(t, none, nil)
		<-time.After(50 * time.Hour)
		p.ask("DATA", "354 ")
		<-time.After(50 * time.Hour)
		p.ask(".", "250 ")
		p.quit()
	})
}

func TestC23_MaxErrors(t *testing.T) {
	for _, c := range []struct {
		say, want string
		n         int
	}{
		{"FOO", "500 ", 20},
		{"", "500 ", 20},
		{"EHLO", "501 ", 20},
		{"MAIL FROM:<", "501 ", 20},
		{"MAIL FROM:<a@b.example> FOO=1", "555 5.5.4", 20},
		{"MAIL FROM:<reject@b.example>", "550 ", 20},
		{"RCPT TO:<c@d.example>", "503 ", 999}, // MAIL may have been refused, and this have been sent with it
		{"DATA", "503 ", 999},
		{"NOOP", "250 ", 999}, // EHLO is one of the thousand
		{"RSET", "250 ", 999},
		{"EHLO x", "250-", 999},
		{"VRFY x", "252 ", 999},
	} {
		t.Run(c.say, func(t *testing.T) {
			st := &store{mail: func(_ context.Context, from proto.Address, _ proto.Params) error {
				if from.Local == "reject" {
					return &proto.Error{Code: 550, Text: "no"}
				}
				return nil
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			for range c.n {
				p.ask(c.say, c.want)
			}
			p.ask(c.say, "421 ")
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
		})
	}
}

func TestH09_MaxRefusedRcpts(t *testing.T) {
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		if to.Local == "reject" {
			return &proto.Error{Code: 550, Text: "no"}
		}
		return nil
	}}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	// H09: refused recipients are no reason to close, unless there are too many without a message.
	for range 2 {
		p.begin()
		for range 100 {
			p.ask("RCPT TO:<reject@d.example>", "550 ")
		}
		p.ask("DATA", "354 ", ".", "250 ")
	}
	p.begin()
	for range 100 {
		p.ask("RCPT TO:<reject@d.example>", "550 ")
	}
	p.ask("RCPT TO:<reject@d.example>", "421 4.7.0")
	<-p.done
}

func TestE10_MaxRcpts(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{MaxRcpts: 100}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "250 ")
	p.send(strings.Repeat("RCPT TO:<c@d.example>\r\n", 150)) // the same one counts each time
	for range 100 {
		p.expect("250 ")
	}
	for range 50 {
		p.expect("452 4.5.3")
	}
	p.ask("DATA", "354 ", ".", "250 ", "MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ")
	p.quit()
	if got := strings.Count(st.calls(), "rcpt"); got != 101 {
		t.Errorf("the session saw %d recipients, want 101", got)
	}
}

// TestC22_HTTP: a request has one reply at most, and nothing in it is carried out.
func TestC22_HTTP(t *testing.T) {
	for _, say := range []string{
		"GET / HTTP/1.1\r\nHost: mail.example\r\n\r\nMAIL FROM:<a@b.example>\r\n",
		"POST /x HTTP/1.0\r\n\r\nEHLO x\r\n",
		"CONNECT mail.example:25 HTTP/1.1\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		p := dial(t, newServer(t, &store{}, server.Options{}))
		p.expect("220 ")
		p.send(say)
		p.expect("421 ")
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
	}
}

func TestA04I07_MaxConns(t *testing.T) {
	st := &store{}
	srv := newServer(t, st, server.Options{MaxConns: 2})
	a, b := dial(t, srv), dial(t, srv)
	a.hello()
	b.hello()
	c := dial(t, srv)
	c.expect("421 mail.example Too many connections")
	if c.ended() == nil {
		t.Error("ServeConn returned nil")
	}
	if got := st.calls(); got != "new, new" {
		t.Errorf("called %s, want no session for the connection refused", got)
	}
	a.quit()
	d := dial(t, srv)
	d.hello()
	// Slots are free again however a connection ends.
	d.nc.Close()
	<-d.done
	st.newSession = func(context.Context, *server.Conn) error { panic("at the disco") }
	e := dial(t, srv)
	e.expect("421 ")
	<-e.done
	st.newSession = nil
	f := dial(t, srv)
	f.hello()
	f.quit()
	b.quit()
}

// hosted is a connection from somewhere.
type hosted struct {
	net.Conn
	remote net.Addr
}

func (h hosted) RemoteAddr() net.Addr { return h.remote }

func TestMaxConnsPerHost(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{MaxConnsPerHost: 1})
	from := func(addr string) *peer {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		here, there := net.Pipe()
		return dialOver(t, srv, here, hosted{there, a})
	}
	var in []*peer
	for _, addr := range []string{"192.0.2.1:1", "192.0.2.2:1", "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1"} {
		p := from(addr)
		p.hello()
		in = append(in, p)
	}
	for _, addr := range []string{"192.0.2.1:2", "[::ffff:192.0.2.1]:2", "[2001:db8:0:1::ffff]:2"} {
		p := from(addr)
		p.expect("421 mail.example Too many connections from your address")
		<-p.done
	}
	for _, p := range in {
		p.quit()
	}
	p := from("192.0.2.1:3")
	p.hello()
	p.quit()
}

func TestNew(t *testing.T) {
	b := &store{}
	for _, c := range []struct {
		name string
		b    server.Backend
		opt  server.Options
		want string
	}{
		{"no backend", nil, server.Options{}, "Backend"},
		{"no function", server.Handler(nil), server.Options{}, "Backend"},
		{"RequireTLS", b, server.Options{RequireTLS: true}, "set TLSConfig"},
		{"contradiction", b, server.Options{RequireTLS: true, AllowInsecureAuth: true, TLSConfig: &tls.Config{}},
			"contradict"},
		{"name", b, server.Options{Hostname: "two words"}, "Hostname"},
		{"protocol", b, server.Options{Protocol: 7}, "Protocol"},
		{"recipients", b, server.Options{MaxRcpts: -1}, "MaxRcpts"},
	} {
		_, err := server.New(c.b, &c.opt)
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want one about %s", c.name, err, c.want)
		}
	}
	if _, err := server.New(b, nil); err != nil {
		t.Errorf("without options: %v", err)
	}
}

// TestNobodyCanAuthenticate has servers that insist on authentication and offer none in clear, nor TLS: the operator is told.
func TestNobodyCanAuthenticate(t *testing.T) {
	config, _ := tlsPair(t)
	for _, c := range []struct {
		name string
		opt  server.Options
		told bool
	}{
		{"submission", server.Options{Extensions: ehlo.Submission(ehlo.SubmissionPolicy{})}, true},
		{"RequireAuth", server.Options{RequireAuth: true}, true},
		{"with TLS", server.Options{RequireAuth: true, TLSConfig: config}, false},
		{"in clear, as asked", server.Options{RequireAuth: true, AllowInsecureAuth: true}, false},
		{"not required", server.Options{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			c.opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
			srv := newServer(t, &store{}, c.opt)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l.Close() // which ends Serve at once
			if err := srv.Serve(l); err == nil {
				t.Error("the listener was closed")
			}
			if told := strings.Contains(log.String(), "set Options.TLSConfig"); told != c.told {
				t.Errorf("%q", log.String())
			}
		})
	}
}
