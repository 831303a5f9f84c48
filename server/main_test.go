package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	// An example uses os/signal, whose own goroutine stays once it has been started.
	_, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	stop()
	prototest.Main(m)
}

// A store is a backend that records the calls of its sessions. Its functions decide, if they are set.
type store struct {
	newSession func(ctx context.Context, c *server.Conn) error
	mail       func(ctx context.Context, from proto.Address, p proto.Params) error
	rcpt       func(ctx context.Context, to proto.Address, p proto.Params) error
	data       func(ctx context.Context, r io.Reader) error

	mu   sync.Mutex
	log  []string // what was called, such as "mail a@b.example"
	kept []string
}

func (st *store) NewSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	st.note("new")
	if st.newSession != nil {
		if err := st.newSession(ctx, c); err != nil {
			return nil, err
		}
	}
	return &session{st}, nil
}

func (st *store) note(format string, args ...any) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.log = append(st.log, fmt.Sprintf(format, args...))
}

// calls returns what was called, and forgets it.
func (st *store) calls() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := strings.Join(st.log, ", ")
	st.log = nil
	return s
}

// messages returns the messages accepted.
func (st *store) messages() []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return append([]string(nil), st.kept...)
}

type session struct{ *store }

func (s *session) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	s.note("mail %v", from)
	if s.mail != nil {
		return s.mail(ctx, from, p)
	}
	return nil
}

func (s *session) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	s.note("rcpt %v", to)
	if s.rcpt != nil {
		return s.rcpt(ctx, to, p)
	}
	return nil
}

func (s *session) Data(ctx context.Context, r io.Reader) error {
	if s.data != nil {
		err := s.data(ctx, r)
		s.note("data")
		return err
	}
	b, err := io.ReadAll(r)
	s.note("data %d %v", len(b), err)
	if err == nil {
		s.mu.Lock()
		s.kept = append(s.kept, string(b))
		s.mu.Unlock()
	}
	return err
}

func (s *session) Reset(context.Context) { s.note("reset") }

func (s *session) Close() error {
	s.note("close")
	return nil
}

// quiet is a logger for tests in which errors are part of the plan.
var quiet = slog.New(slog.DiscardHandler)

func newServer(t testing.TB, b server.Backend, opt server.Options) *server.Server {
	t.Helper()
	if opt.Hostname == "" {
		opt.Hostname = "mail.example"
	}
	if opt.Logger == nil {
		opt.Logger = quiet
	}
	s, err := server.New(b, &opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A peer is the client's end of a connection.
type peer struct {
	t     testing.TB
	nc    net.Conn
	lines chan string // of the server's, closed at the end
	done  chan error  // what ServeConn returned
}

// dial connects to s over a net.Pipe.
func dial(t testing.TB, s *server.Server) *peer {
	t.Helper()
	here, there := net.Pipe()
	return dialOver(t, s, here, there)
}

func dialOver(t testing.TB, s *server.Server, here, there net.Conn) *peer {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(context.Background(), there) }()
	p := newPeer(t, here)
	p.done = done
	return p
}

func newPeer(t testing.TB, nc net.Conn) *peer {
	p := &peer{t: t, nc: nc}
	p.listen()
	t.Cleanup(func() { p.nc.Close() })
	return p
}

// listen reads what the server says, so that neither end waits for the other to read.
func (p *peer) listen() {
	lines := make(chan string, 100_000)
	p.lines = lines
	nc := p.nc
	go func() {
		defer close(lines)
		r := bufio.NewReader(nc)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
}

func (p *peer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, text); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Fatalf("sending %.40q: %v", text, err)
	}
}

// reply returns the next reply with all of its lines, "" at the end of the connection.
func (p *peer) reply() string {
	p.t.Helper()
	var b strings.Builder
	for line := range p.lines {
		b.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	return b.String()
}

// expect checks that the next replies begin with the given texts.
func (p *peer) expect(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got := p.reply(); !strings.HasPrefix(got, w) {
			p.t.Fatalf("the server says %q, want %q", got, w)
		}
	}
}

// ask sends each command and checks that the reply to it begins with the text that follows it.
func (p *peer) ask(pairs ...string) {
	p.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		p.send(pairs[i] + "\r\n")
		if got := p.reply(); !strings.HasPrefix(got, pairs[i+1]) {
			p.t.Fatalf("the server says %q to %.60q, want %q", got, pairs[i], pairs[i+1])
		}
	}
}

// chunk sends a command with the octets that follow it.
func (p *peer) chunk(command, octets, want string) {
	p.t.Helper()
	p.send(command + "\r\n" + octets)
	p.expect(want)
}

// hello passes the greeting and EHLO.
func (p *peer) hello() {
	p.t.Helper()
	p.expect("220 mail.example")
	p.ask("EHLO client.example", "250-mail.example")
}

// begin opens a transaction with a recipient.
func (p *peer) begin() {
	p.t.Helper()
	p.ask("MAIL FROM:<a@b.example>", "250 2.1.0", "RCPT TO:<c@d.example>", "250 2.1.5")
}

// ended checks that the server has closed the connection and said nothing more. It returns what ServeConn did.
func (p *peer) ended() error {
	p.t.Helper()
	if got := p.reply(); got != "" {
		p.t.Fatalf("the server says %q, want it to close", got)
	}
	if p.done == nil {
		return nil
	}
	return <-p.done
}

// quit says QUIT and waits for the end.
func (p *peer) quit() {
	p.t.Helper()
	p.ask("QUIT", "221 ")
	if err := p.ended(); err != nil {
		p.t.Fatalf("ServeConn returned %v after QUIT", err)
	}
}

// tlsPair returns a server's configuration of TLS, with a certificate of its own making, and that of a client which
// trusts it.
func tlsPair(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert, pool := prototest.Certificate(t, "mail.example")
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: "mail.example"}
}

func refuseAll(context.Context, proto.Address, proto.Params) error { return errors.New("disk on fire") }

// discard is a session that takes everything and keeps nothing.
type discard struct{}

func (discard) Mail(context.Context, proto.Address, proto.Params) error { return nil }

func (discard) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }

func (discard) Data(_ context.Context, r io.Reader) error {
	_, err := r.(io.WriterTo).WriteTo(io.Discard)
	return err
}

var discardBackend = server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
	return discard{}, nil
})

func discardServer(t testing.TB) *server.Server {
	return newServer(t, discardBackend, server.Options{})
}

// withData dials a server whose sessions take messages with data, and opens a transaction.
func withData(t *testing.T, opt server.Options, data func(context.Context, io.Reader) error) (*peer, *store) {
	t.Helper()
	st := &store{data: data}
	p := dial(t, newServer(t, st, opt))
	p.hello()
	p.begin()
	return p, st
}

func readNothing(context.Context, io.Reader) error { return nil }

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

// A wire is a client's end of a connection that can begin TLS.
type wire struct {
	t    *testing.T
	nc   net.Conn
	done chan error
}

func dialWire(t *testing.T, s *server.Server) *wire {
	t.Helper()
	here, there := net.Pipe()
	w := &wire{t: t, nc: here, done: make(chan error, 1)}
	go func() { w.done <- s.ServeConn(context.Background(), there) }()
	t.Cleanup(func() { w.nc.Close() })
	return w
}

// ask sends text and checks that the reply begins with want. It reads no more than the reply.
func (w *wire) ask(text, want string) {
	w.t.Helper()
	if text != "" { // a write of nothing to a pipe waits for a read
		if _, err := io.WriteString(w.nc, text); err != nil {
			w.t.Fatal(err)
		}
	}
	var got, line []byte
	for len(line) < 4 || line[3] == '-' {
		line = nil
		for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b...) {
			if _, err := w.nc.Read(b); err != nil {
				w.t.Fatalf("the server says %q to %q, then %v", got, text, err)
			}
		}
		got = append(got, line...)
	}
	if !strings.HasPrefix(string(got), want) {
		w.t.Fatalf("the server says %q to %q, want %q", got, text, want)
	}
}

// startTLS goes on inside TLS.
func (w *wire) startTLS(config *tls.Config) *peer {
	w.t.Helper()
	w.ask("STARTTLS\r\n", "220 ")
	tc := tls.Client(w.nc, config)
	if err := tc.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	p := newPeer(w.t, tc)
	p.done = w.done
	return p
}

func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}
