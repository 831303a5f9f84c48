package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

func TestA04I07Z180_MaxConns(t *testing.T) {
	st := &store{}
	srv := newServer(t, st, server.Options{Limits: server.Limits{Conns: 2}})
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

func TestZ180_MaxConnsPerHost(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{Limits: server.Limits{ConnsPerHost: 1}})
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

// TestNobodyCanAuthenticate has servers that insist on authentication and offer none in plaintext, nor TLS: the
// operator is told.
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
		{"in plaintext, as asked", server.Options{RequireAuth: true, AllowInsecureAuth: true}, false},
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

func TestServe(t *testing.T) {
	st := &store{}
	srv := newServer(t, st, server.Options{})
	one, servedOne := listen(t, srv.Serve)
	two, servedTwo := listen(t, srv.Serve)
	for _, addr := range []string{one, two} {
		p := connect(t, addr)
		p.hello()
		p.begin()
		p.ask("DATA", "354 ", "hello\r\n.", "250 ")
		p.quit()
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	for _, served := range []chan error{servedOne, servedTwo} {
		if err := <-served; err != server.ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
	}
	if got := st.messages(); len(got) != 2 {
		t.Errorf("got %q", got)
	}
	if c, err := net.Dial("tcp", one); err == nil {
		c.Close()
		t.Error("the server still listens")
	}
	for name, err := range map[string]error{
		"ListenAndServe":    srv.ListenAndServe("127.0.0.1:0"),
		"ListenAndServeTLS": srv.ListenAndServeTLS("127.0.0.1:0"),
	} {
		if err != server.ErrServerClosed {
			t.Errorf("%s returned %v after Shutdown", name, err)
		}
	}
	_, served := listen(t, srv.Serve)
	if err := <-served; err != server.ErrServerClosed {
		t.Errorf("Serve returned %v after Shutdown", err)
	}
	p := dial(t, srv)
	p.expect("421 mail.example Service is shutting down")
	<-p.done
}

func TestListenerClosed(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := srv.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
}

// TestH11_Shutdown: clients without a transaction get 421 at once, the others when theirs is over.
func TestH11_Shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &store{}
		srv := newServer(t, authStore{st}, server.Options{AllowInsecureAuth: true})
		fresh, idle, half, auth := dial(t, srv), dial(t, srv), dial(t, srv), dial(t, srv)
		busy, sending, chunking := dial(t, srv), dial(t, srv), dial(t, srv)
		fresh.expect("220 ")
		idle.hello()
		half.hello()
		half.send("NOO")
		auth.hello()
		auth.ask("AUTH LOGIN", "334 ")
		for _, p := range []*peer{busy, sending, chunking} {
			p.hello()
			p.begin()
		}
		sending.ask("DATA", "354 ")
		chunking.chunk("BDAT 3", "abc", "250 ")

		over := make(chan error)
		start := time.Now()
		go func() { over <- srv.Shutdown(t.Context()) }()
		for _, p := range []*peer{fresh, idle, half, auth} {
			p.expect("421 4.3.2")
			if err := p.ended(); err != server.ErrServerClosed {
				t.Errorf("ServeConn returned %v", err)
			}
		}
		if time.Since(start) != 0 {
			t.Errorf("it took %v to tell idle clients", time.Since(start))
		}
		<-time.After(29 * time.Second)
		busy.ask("RCPT TO:<e@f.example>", "250 ", "DATA", "354 ")
		<-time.After(time.Minute)
		busy.ask("hello\r\n.", "250 ")
		sending.ask("hello\r\n.", "250 ")
		chunking.chunk("BDAT 3 LAST", "def", "250 ")
		for _, p := range []*peer{busy, sending, chunking} {
			p.expect("421 4.3.2")
			if err := p.ended(); err != server.ErrServerClosed {
				t.Errorf("ServeConn returned %v", err)
			}
		}
		if err := <-over; err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
		if got := st.messages(); len(got) != 3 {
			t.Errorf("got %q, want 3 messages", got)
		}
	})
}

// TestShutdownIsNotHeldUp: a client that has begun a transaction cannot keep the server with commands that lead
// nowhere.
func TestShutdownIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{})
		silent, busy := dial(t, srv), dial(t, srv)
		for _, p := range []*peer{silent, busy} {
			p.hello()
			p.begin()
		}
		over := make(chan error)
		start := time.Now()
		go func() { over <- srv.Shutdown(t.Context()) }()
		for range 5 {
			<-time.After(5 * time.Second)
			busy.ask("NOOP", "250 ")
		}
		for _, p := range []*peer{silent, busy} {
			p.expect("421 4.3.2")
			if err := p.ended(); err != server.ErrServerClosed {
				t.Errorf("ServeConn returned %v", err)
			}
		}
		if err := <-over; err != nil || time.Since(start) != 30*time.Second {
			t.Errorf("Shutdown returned %v after %v", err, time.Since(start))
		}
	})
}

// TestShutdownInASession: Shutdown waits for a session at work, and its client gets the 421 after the reply.
func TestShutdownInASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &store{mail: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
			<-time.After(time.Minute)
			return errors.Join(ctx.Err(), &proto.Error{Code: 550, Text: "no"})
		}}
		srv := newServer(t, st, server.Options{})
		p := dial(t, srv)
		p.hello()
		p.send("MAIL FROM:<a@b.example>\r\n")
		synctest.Wait()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
		p.expect("550 ", "421 4.3.2")
		<-p.done
	})
}

func TestZ191_ShutdownLosesPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		st := &store{rcpt: func(ctx context.Context, to proto.Address, _ proto.Params) error {
			if to.Local == "stuck" {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return ctx.Err()
			}
			return nil
		}}
		srv := newServer(t, st, server.Options{})
		idle, stuck := dial(t, srv), dial(t, srv)
		for _, p := range []*peer{idle, stuck} {
			p.hello()
			p.begin()
		}
		stuck.send("RCPT TO:<stuck@d.example>\r\n")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		if err := srv.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown returned %v", err)
		}
		for _, p := range []*peer{idle, stuck} {
			if err := p.ended(); err != server.ErrServerClosed {
				t.Errorf("ServeConn returned %v", err)
			}
		}
		if time.Since(start) != 20*time.Second {
			t.Errorf("it took %v", time.Since(start))
		}
		if cause != server.ErrServerClosed {
			t.Errorf("the cause is %v", cause)
		}
	})
}

func TestCloseAndShutdownAtOnce(t *testing.T) {
	st := &store{}
	srv := newServer(t, st, server.Options{})
	addr, served := listen(t, srv.Serve)
	p := connect(t, addr)
	p.hello()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _ = srv.Close() })
		wg.Go(func() { _ = srv.Shutdown(t.Context()) })
	}
	wg.Wait()
	if err := <-served; err != server.ErrServerClosed {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServeConnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		here, there := net.Pipe()
		p := newPeer(t, here)
		done := make(chan error)
		go func() { done <- srv.ServeConn(ctx, there) }()
		p.expect("220 ")
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("ServeConn returned %v", err)
		}
	})
}

// flaky is a listener whose Accept fails some times, as it does when there are no files to be had.
type flaky struct {
	net.Listener
	failures int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

// pipes is a listener whose connections are made by hand.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return nil }

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := newServer(t, &store{}, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		l := newPipes()
		served := make(chan error)
		start := time.Now()
		go func() { served <- srv.Serve(&flaky{Listener: l, failures: 10}) }()
		here, there := net.Pipe()
		l.conns <- there
		// 5, 10, 20 … 640 milliseconds, then twice a second.
		if got, want := time.Since(start), 1275*time.Millisecond+2*time.Second; got != want {
			t.Errorf("10 failures took %v, want %v", got, want)
		}
		p := newPeer(t, here)
		p.hello()
		p.quit()
		if got := strings.Count(log.String(), "accept"); got < 10 {
			t.Errorf("the log is %q, want the 10 failures", &log)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != server.ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
	})
}

func TestShutdownWhileAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{})
		served := make(chan error)
		go func() { served <- srv.Serve(&flaky{Listener: newPipes(), failures: 1 << 30}) }()
		<-time.After(10 * time.Second)
		start := time.Now()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != server.ErrServerClosed || time.Since(start) != 0 {
			t.Errorf("Serve returned %v after %v", err, time.Since(start))
		}
	})
}

// A wellKnown is a listener of a port that tests cannot listen on. Nobody connects.
type wellKnown struct {
	addr   net.Addr
	closed chan struct{}
	once   sync.Once
}

func (l *wellKnown) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *wellKnown) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *wellKnown) Addr() net.Addr { return l.addr }

// TestT06_Port25: LMTP must not be used there (RFC 2033 section 5).
func TestT06_Port25(t *testing.T) {
	config, _ := tlsPair(t)
	loopback := net.IPv4(127, 0, 0, 1)
	for _, tt := range []struct {
		name     string
		protocol proto.Protocol
		addr     net.Addr
		refused  bool
	}{
		{"LMTP on 25", proto.LMTP, &net.TCPAddr{IP: loopback, Port: 25}, true},
		{"LMTP on 24", proto.LMTP, &net.TCPAddr{IP: loopback, Port: 24}, false},
		{"LMTP on a Unix socket", proto.LMTP, &net.UnixAddr{Name: "lmtp", Net: "unix"}, false},
		{"SMTP on 25", proto.SMTP, &net.TCPAddr{IP: loopback, Port: 25}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := newServer(t, &store{}, server.Options{Protocol: tt.protocol, TLSConfig: config})
			for _, serve := range []func(net.Listener) error{srv.Serve, srv.ServeTLS} {
				l := &wellKnown{addr: tt.addr, closed: make(chan struct{})}
				served := make(chan error, 1)
				go func() { served <- serve(l) }()
				if !tt.refused {
					l.Close()
					if err := <-served; !errors.Is(err, net.ErrClosed) {
						t.Errorf("%v, want it to accept until the listener is closed", err)
					}
					continue
				}
				if err := <-served; err == nil || !strings.HasPrefix(err.Error(), "smtp: LMTP ") || !strings.Contains(err.Error(), "port 25") {
					t.Errorf("%v, want an error about port 25", err)
				}
				select {
				case <-l.closed:
				default:
					t.Error("the listener is left open")
				}
			}
		})
	}
	srv := newServer(t, &store{}, server.Options{Protocol: proto.LMTP})
	if err := srv.ListenAndServe(""); err == nil || !strings.Contains(err.Error(), "which one") {
		t.Errorf("without a port: %v", err)
	}
}
