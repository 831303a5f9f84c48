package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

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

// TestSurrenderTakesTime shows that a connection given away is bounded by none of the timeouts, and that Shutdown waits for
// it.
func TestSurrenderTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := echoServer(t, &store{}, server.Options{HandshakeTimeout: time.Second, CommandTimeout: time.Second}, once)
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

// TestSurrenderEnds shows what ends the context of whoever was given the connection.
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
		p := dial(t, echoServer(t, &store{}, server.Options{SessionTimeout: time.Hour}, wait))
		p.hello()
		p.ask("XECHO", "250 ")
		_ = p.ended()
		if d := time.Since(start); d != time.Hour {
			t.Errorf("the connection ended after %v, want the timeout of the session", d)
		}
	})
}
