package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestService checks that two services of a server have options and sessions of their own, share what bounds
// connections, and end together.
func TestService(t *testing.T) {
	relay, users := &store{}, &store{}
	srv := newServer(t, relay, server.Options{Hostname: "relay.example", Limits: server.Limits{Conns: 2}})
	// The bound of a service is not its own.
	sub, err := srv.Service(authStore{users}, &server.Options{
		Hostname: "users.example", Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}), AllowInsecureAuth: true,
		Limits: server.Limits{Conns: 1000, Rcpts: 100}, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	atRelay, relayed := listen(t, srv.Serve)
	atUsers, served := listen(t, sub.Serve)

	a, b := connect(t, atRelay), connect(t, atUsers)
	a.expect("220 relay.example")
	b.expect("220 users.example")
	connect(t, atUsers).expect("421 users.example Too many connections")
	a.ask("EHLO c.example", "250-relay.example", "MAIL FROM:<a@b.example>", "250 ")
	b.ask("EHLO c.example", "250-users.example", "MAIL FROM:<a@b.example>", "530 ", plain("alice", "secret"), "235 ",
		"MAIL FROM:<a@b.example>", "250 ")
	if got := relay.calls(); got != "new, mail a@b.example" {
		t.Errorf("the relay is asked %s", got)
	}
	if got := users.calls(); got != "new, authenticate alice, mail a@b.example" {
		t.Errorf("the submission server is asked %s", got)
	}
	srv.Close()
	for _, c := range []chan error{relayed, served} {
		if err := <-c; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("the service ended with %v", err)
		}
	}
	if err := sub.ListenAndServe("127.0.0.1:0"); !errors.Is(err, server.ErrServerClosed) {
		t.Errorf("afterwards it ends with %v", err)
	}
	if _, err := srv.Service(nil, nil); err == nil {
		t.Error("there is a service without a backend")
	}
}

type contextKey struct{}

// TestContexts checks that values of BaseContext and ConnContext reach sessions and the Trace.
func TestContexts(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]any{}
	see := func(where string, ctx context.Context) {
		mu.Lock()
		defer mu.Unlock()
		seen[where] = ctx.Value(contextKey{})
	}
	st := &store{}
	st.mail = func(ctx context.Context, _ proto.Address, _ proto.Params) error { see("mail", ctx); return nil }
	srv := newServer(t, st, server.Options{
		BaseContext: func(l net.Listener) context.Context {
			return context.WithValue(t.Context(), contextKey{}, "base "+l.Addr().Network())
		},
		ConnContext: func(ctx context.Context, c *server.Conn) context.Context {
			see("conn", ctx)
			return context.WithValue(ctx, contextKey{}, c.ID())
		},
		Trace: &server.Trace{
			Connected: func(ctx context.Context, _ *server.Conn) { see("connected", ctx) },
			Closed:    func(ctx context.Context, c *server.Conn, _ error) { see("closed", ctx); see(c.ID(), ctx) },
		},
	})
	addr, _ := listen(t, srv.Serve)
	p := connect(t, addr)
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "250 ")
	p.quit()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := seen["connected"]
	if seen["conn"] != "base tcp" || seen["mail"] != id || seen["closed"] != id || seen[id.(string)] != id {
		t.Errorf("the values are %v", seen)
	}
}

// TestContextIsNil checks that a function which returns no context is a clear mistake.
func TestContextIsNil(t *testing.T) {
	var out bytes.Buffer
	srv := newServer(t, &store{}, server.Options{
		BaseContext: func(net.Listener) context.Context { return nil },
		ConnContext: func(context.Context, *server.Conn) context.Context { return nil },
		Logger:      slog.New(slog.NewTextHandler(&out, nil)),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Serve(l); err == nil || !strings.Contains(err.Error(), "BaseContext") {
		t.Errorf("the error is %v", err)
	}
	dial(t, srv).expect("421 ")
	srv.Close()
	if !strings.Contains(out.String(), "ConnContext") {
		t.Errorf("the log says %s", &out)
	}
}

// TestID checks that each connection has a name of its own, which its records in the log have.
func TestID(t *testing.T) {
	var out bytes.Buffer
	var ids []string
	st := &store{mail: refuseAll}
	st.newSession = func(_ context.Context, c *server.Conn) error { ids = append(ids, c.ID()); return nil }
	srv := newServer(t, st, server.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	for range 3 {
		p := dial(t, srv)
		p.hello()
		p.ask("MAIL FROM:<a@b.example>", "451 ")
		p.quit()
	}
	for i, id := range ids {
		if n := strings.Count(out.String(), " conn="+id+" "); n != 1 || len(id) > 20 {
			t.Errorf("connection %d, %s, is in %d records:\n%s", i, id, n, &out)
		}
	}
	if ids[0] == ids[1] || ids[1] == ids[2] {
		t.Errorf("the names are %s", ids)
	}
}
