package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// listen serves on a port of the loopback interface. Served is what Serve returned.
func listen(t *testing.T, serve func(net.Listener) error) (addr string, served chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan error, 1)
	go func() { served <- serve(l) }()
	return l.Addr().String(), served
}

func connect(t *testing.T, addr string) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, nc)
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

// TestH11_Shutdown: who has nothing in hand is told 421 at once, the others when they are done.
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

// TestShutdownIsNotHeldUp: a client that has begun a transaction cannot keep the server with commands that lead nowhere.
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

// TestShutdownInASession: a session at work has its time, and its client the 421 after the reply.
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

func TestShutdownLosesPatience(t *testing.T) {
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

// TestA11_ImplicitTLS: a client that stalls in the handshake delays nobody, and is not told anything in clear.
func TestA11_ImplicitTLS(t *testing.T) {
	config, trust := tlsPair(t)
	st := &store{}
	srv := newServer(t, st, server.Options{TLSConfig: config})
	addr, served := listen(t, srv.ServeTLS)
	stalled := connect(t, addr)
	clear := connect(t, addr)
	clear.send("EHLO client.example\r\n")
	for got := clear.reply(); got != ""; got = clear.reply() {
		if strings.Contains(got, "220") {
			t.Errorf("the server says %q in clear", got)
		}
	}
	nc, err := tls.Dial("tcp", addr, trust)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nc)
	p.expect("220 ")
	p.send("EHLO x\r\n")
	if got := p.reply(); strings.Contains(got, "STARTTLS") || !strings.HasPrefix(got, "250-") {
		t.Errorf("the server says %q inside TLS", got)
	}
	p.begin()
	p.quit()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown returned %v with a handshake under way", err)
	}
	if got := stalled.reply(); got != "" {
		t.Errorf("the server says %q in clear", got)
	}
	if err := <-served; err != server.ErrServerClosed {
		t.Errorf("ServeTLS returned %v", err)
	}
}

func TestServeTLSWithoutConfig(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{})
	_, served := listen(t, srv.ServeTLS)
	if err := <-served; err == nil || !strings.Contains(err.Error(), "TLSConfig") {
		t.Errorf("ServeTLS returned %v", err)
	}
}

// TestHangUp: the context ends when the client goes while the session is at work, and only then.
func TestHangUp(t *testing.T) {
	waiting := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-time.After(time.Hour):
		}
		return context.Cause(ctx)
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, got *error)
	}{
		{"Rcpt", func(t *testing.T, got *error) {
			st := &store{rcpt: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
				*got = waiting(ctx)
				return *got
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 ")
			p.send("RCPT TO:<c@d.example>\r\n")
			<-time.After(time.Minute)
			p.nc.Close()
			<-p.done
		}},
		{"NewSession", func(t *testing.T, got *error) {
			st := &store{newSession: func(ctx context.Context, _ *server.Conn) error {
				*got = waiting(ctx)
				return *got
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			<-time.After(time.Minute)
			p.nc.Close()
			<-p.done
		}},
		{"Data after the end", func(t *testing.T, got *error) {
			p, _ := withData(t, server.Options{}, func(ctx context.Context, r io.Reader) error {
				_, _ = io.Copy(io.Discard, r)
				*got = waiting(ctx)
				return *got
			})
			p.ask("DATA", "354 ")
			p.send("hello\r\n.\r\n")
			<-time.After(time.Minute)
			p.nc.Close()
			<-p.done
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, time.Minute, func(t *testing.T) {
				var got error
				c.run(t, &got)
				if got != io.ErrUnexpectedEOF {
					t.Errorf("the cause is %v, want io.ErrUnexpectedEOF", got)
				}
			})
		})
	}
}

// TestNoHangUp: what a client sends while a session is at work is kept, however much it is.
func TestNoHangUp(t *testing.T) {
	for _, commands := range []int{1, 10, 1000} {
		inBubble(t, time.Minute, func(t *testing.T) {
			st := &store{rcpt: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
				<-time.After(time.Minute)
				return ctx.Err()
			}}
			p := dial(t, newServer(t, st, server.Options{Limits: server.Limits{Junk: -1}}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 ")
			p.send("RCPT TO:<c@d.example>\r\n")
			<-time.After(time.Second)
			p.send(strings.Repeat("NOOP\r\n", commands))
			p.expect("250 2.1.5")
			for range commands {
				p.expect("250 2.0.0")
			}
			p.quit()
		})
	}
}
