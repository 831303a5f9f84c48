package policy

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

// A world is a server with parts in front of its backend, in memory, which clients from any address connect to.
type world struct {
	*testing.T
	srv *server.Server
	l   *servertest.Listener

	mu       sync.Mutex
	verdicts []server.Verdict
}

// newWorld starts a server with parts in front of b. It accepts everything if b is nil.
func newWorld(t *testing.T, b server.Backend, opt *server.Options, parts ...Part) *world {
	t.Helper()
	mw, err := Chain(parts...)
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		b = server.MessageFunc(func(context.Context, *server.Message) error { return nil })
	}
	o := server.Options{}
	if opt != nil {
		o = *opt
	}
	addr := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 25), Port: 25}
	if o.Protocol == proto.LMTP {
		addr.Port = 24
	}
	w := &world{T: t, l: servertest.Listen(addr)}
	o.Hostname, o.Logger = "mail.example", slog.New(slog.DiscardHandler)
	o.Trace = &server.Trace{Verdict: func(_ context.Context, _ *server.Conn, v server.Verdict) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.verdicts = append(w.verdicts, v)
	}}
	if w.srv, err = server.New(server.Use(b, mw), &o); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.srv.Serve(w.l)
	}()
	t.Cleanup(func() {
		w.srv.Close()
		<-ended
	})
	return w
}

// found returns the verdicts so far, as "method=result" and the reason in brackets, and forgets them.
func (w *world) found() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, v := range w.verdicts {
		text := v.Method + "=" + v.Result
		if v.Reason != "" {
			text += " (" + v.Reason + ")"
		}
		all = append(all, text)
	}
	w.verdicts = nil
	return strings.Join(all, ", ")
}

// A peer is a client that says what a test has it say.
type peer struct {
	*testing.T
	net.Conn
	r *bufio.Reader
}

// dial connects from an address, and reads the greeting.
func (w *world) dial(from string) *peer {
	w.Helper()
	p := w.connect(from)
	p.expect("220 ")
	return p
}

// connect connects from an address.
func (w *world) connect(from string) *peer {
	w.Helper()
	addr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 40000))
	nc, err := w.l.DialFrom(context.Background(), addr)
	if err != nil {
		w.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(24 * time.Hour)); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { nc.Close() })
	return &peer{w.T, nc, bufio.NewReader(nc)}
}

// expect reads a reply, whose last line begins with want.
func (p *peer) expect(want string) {
	p.Helper()
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.Fatalf("after %q: %v, want %q", line, err, want)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			p.Errorf("the server says %q, want %q", line, want)
		}
		return
	}
}

// ask sends commands, each followed by the beginning of the reply that it gets.
func (p *peer) ask(pairs ...string) {
	p.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if _, err := p.Write([]byte(pairs[i] + "\r\n")); err != nil {
			p.Fatalf("%s: %v", pairs[i], err)
		}
		p.expect(pairs[i+1])
	}
}

// closed checks that the server has closed the connection.
func (p *peer) closed() {
	p.Helper()
	if line, err := p.r.ReadString('\n'); err == nil {
		p.Errorf("the server says %q, and does not close", line)
	}
}
