package hostile

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"testing"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestMain fails if a test leaves a goroutine behind. In the child process of a test it is the child's program.
func TestMain(m *testing.M) {
	if child != nil {
		os.Exit(child())
	}
	prototest.Main(m)
}

// child is what this process does in place of the tests, nil if it is the one with the tests.
var child func() int

// quiet is a logger for tests in which errors are part of the plan.
var quiet = slog.New(slog.DiscardHandler)

const hostname = "mail.example"

func newServer(t testing.TB, b server.Backend, opt server.Options) *server.Server {
	t.Helper()
	opt.Hostname = hostname
	if opt.Logger == nil {
		opt.Logger = quiet
	}
	s, err := server.New(b, &opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tlsPair returns the configurations of a server and of a client that trusts it. The handshake is short.
func tlsPair(t testing.TB) (ours, theirs *tls.Config) {
	t.Helper()
	cert, pool := prototest.Certificate(t, hostname)
	ours = &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{tls.X25519}}
	theirs = &tls.Config{RootCAs: pool, ServerName: hostname, CurvePreferences: []tls.CurveID{tls.X25519}}
	return ours, theirs
}

// A journal counts what sessions were asked to deliver, and what became of them.
type journal struct {
	mu        sync.Mutex
	delivered map[delivery]int
	made      int // sessions
	closed    int
	begun     int // transactions
	reset     int
}

// A delivery is of a content to one recipient.
type delivery struct{ to, content string }

func (j *journal) change(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

func (j *journal) deliver(to, content string) {
	j.change(func() {
		if j.delivered == nil {
			j.delivered = make(map[delivery]int)
		}
		j.delivered[delivery{to, content}]++
	})
}

// take returns what was counted, and begins anew.
func (j *journal) take() *journal {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := &journal{delivered: j.delivered, made: j.made, closed: j.closed, begun: j.begun, reset: j.reset}
	j.delivered, j.made, j.closed, j.begun, j.reset = nil, 0, 0, 0, 0
	return last
}
