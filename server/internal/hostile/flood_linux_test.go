package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// A lodger is a session of the flooded server.
type lodger struct{ enterer }

func (*lodger) Authenticate(context.Context, string, string) error { return auth.ErrCredentials }

func (*lodger) AuthPause(int) time.Duration { return 0 } // so that there can be a flood

// A flood is what a client sends again and again, and how many replies it may get, the 421 among them. They follow from
// the defaults: 1000 commands that lead nowhere, 20 errors, 1000 chunks.
type flood struct {
	name, first, again string
	times, replies     int
	long               int // octets in front of again
}

func floods() []flood {
	const hello = "EHLO client.example\r\n"
	return []flood{
		{"EHLO", "", hello, 100_000, 1001, 0},
		{"NOOP", hello, "NOOP\r\n", 100_000, 1001, 0},
		{"RSET", hello, "RSET\r\n", 100_000, 1001, 0},
		{"VRFY", hello, "VRFY alice\r\n", 100_000, 1001, 0},
		{"failures of AUTH", hello, "AUTH PLAIN AGFsaWNlAHdyb25n\r\n", 10_000, 22, 0},
		{"unknown commands", hello, "FOO\r\n", 100_000, 22, 0},
		{"long lines", hello, "\r\n", 100, 22, lineSize},
		{"empty chunks", hello + "MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@d.example>\r\n", "BDAT 0\r\n", 1_000_000, 1004, 0},
		{"MAIL and RSET", hello, "MAIL FROM:<a@b.example>\r\nRSET\r\n", 100_000, 2001, 0},
		{"recipients that are refused", hello + "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<nobody@d.example>\r\n", 10_000, 103, 0},
	}
}

var longLine = bytes.Repeat([]byte("x"), 64<<10)

// run connects and floods. It returns how many replies there were before the server hung up, and the last one.
func (f *flood) run(addr string) (replies int, last string, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, "", err
	}
	defer nc.Close()
	go func() {
		piece := bytes.Repeat([]byte(f.again), max(1, 4096/len(f.again)))
		if f.long > 0 {
			piece = piece[:len(f.again)]
		}
		_, err := io.WriteString(nc, f.first)
		for n := 0; err == nil && n < f.times; n += len(piece) / len(f.again) {
			for left := f.long; err == nil && left > 0; left -= len(longLine) {
				_, err = nc.Write(longLine[:min(left, len(longLine))])
			}
			if err == nil {
				_, err = nc.Write(piece)
			}
		}
		if err == nil {
			_ = nc.(*net.TCPConn).CloseWrite()
		}
	}()
	r := bufio.NewReader(nc)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return replies - 1, last, nil // without the greeting; what is behind the last one may be lost
		}
		if len(line) > 3 && line[3] == ' ' {
			replies++
			last = line
		}
	}
}

// usage is what the process has in use.
type usage struct{ heap, stack int64 }

func inUse() usage {
	for range 4 { // a sync.Pool is empty after two
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{int64(m.HeapAlloc), int64(m.StackInuse)}
}

// A town is the flooded server with all its clients.
type town struct {
	*testing.T
	*journal
	srv           *server.Server
	plain, secure string
	config        *tls.Config
	served        chan error
	resting       chan struct{}

	mu       sync.Mutex
	sessions []weak.Pointer[lodger]
	idle     []net.Conn // clients that say nothing
	stuck    []net.Conn // clients that read nothing, or stop in a handshake
	all      sync.WaitGroup
	good     atomic.Int64 // clients that behave, and are not done
}

// What the documentation says of the memory of a connection that is idle, and of one at work.
const (
	idleMemory  = 7500
	connMemory  = 16 << 10
	tlsMemory   = 40 << 10
	mailMemory  = 112 << 10
	replyMemory = 64 << 10
	// nearMemory is for the client's end, which is in this process too: a net.Conn, and a place in lists.
	nearMemory = 1500
)

const (
	stuckReaders    = 20
	stuckHandshakes = 60
	goodClients     = 4
	floodConns      = 3 // of each flood at least, one after the other
)

// TestFlood has thousands of idle clients, floods of all kinds, clients that read nothing, and TLS handshakes that
// stop. A client that behaves delivers each of its messages, memory stays within what the documentation says, and
// nothing is left after Shutdown.
func TestFlood(t *testing.T) {
	needDescriptors(t, 2*(idleClients+500))
	ours, theirs := tlsPair(t)
	goroutines, open, before := runtime.NumGoroutine(), descriptors(), inUse()
	w := &town{T: t, journal: &journal{}, config: theirs, served: make(chan error, 2),
		resting: make(chan struct{}, idleClients)}
	w.srv = newServer(t, server.BackendFunc(w.newSession), server.Options{
		TLSConfig: ours, AllowInsecureAuth: true,
		Limits: server.Limits{Conns: idleClients + 1000, ConnsPerHost: -1, ConnsPerMinute: -1, AuthFailuresPerHour: -1},
	})
	w.listen()
	w.settle()
	n := int64(len(w.idle))
	if used := inUse(); !isRace {
		heap, stack := (used.heap-before.heap)/n, (used.stack-before.stack)/n
		t.Logf("%d idle connections take %d octets of heap and %d of stack each, both ends", n, heap, stack)
		if heap+stack > idleMemory+nearMemory {
			t.Errorf("an idle connection takes %d octets, want %d", heap+stack, idleMemory+nearMemory)
		}
	}
	w.obstruct()
	w.good.Store(goodClients)
	w.flood()
	w.behave(before)
	w.all.Wait()
	w.checkMemory(before)
	w.shutDown()
	w.checkDelivered()
	w.checkNothingLeft(goroutines, open, before)
}

func (w *town) newSession(context.Context, *server.Conn) (server.Session, error) {
	w.change(func() { w.made++ })
	s := &lodger{enterer{journal: w.journal}}
	w.mu.Lock()
	w.sessions = append(w.sessions, weak.Make(s))
	w.mu.Unlock()
	return s, nil
}

func (w *town) listen() {
	for _, l := range []struct {
		addr  *string
		serve func(net.Listener) error
	}{{&w.plain, w.srv.Serve}, {&w.secure, w.srv.ServeTLS}} {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.Fatal(err)
		}
		*l.addr = tcp.Addr().String()
		go func() { w.served <- l.serve(&restListener{tcp, w.resting}) }()
	}
}

// A restListener accepts connections that tell when the server begins to wait for the client for a long time.
type restListener struct {
	net.Listener
	resting chan<- struct{}
}

type restConn struct {
	*net.TCPConn
	resting chan<- struct{} // nil when it has told
}

func (l *restListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &restConn{nc.(*net.TCPConn), l.resting}, nil
}

func (c *restConn) SetReadDeadline(d time.Time) error {
	err := c.TCPConn.SetReadDeadline(d)
	if time.Until(d) > time.Minute {
		select {
		case c.resting <- struct{}{}:
		default:
		}
		c.resting = nil
	}
	return err
}

func (w *town) dial(addr string) net.Conn {
	w.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		w.Fatal(err)
	}
	return nc
}

// settle makes the connections whose clients say nothing, or nothing behind EHLO.
func (w *town) settle() {
	answer := make([]byte, 4<<10)
	for i := range idleClients {
		nc := w.dial(w.plain)
		w.idle = append(w.idle, nc)
		_, err := nc.Read(answer)
		if err == nil && i%2 == 0 {
			_, err = io.WriteString(nc, "EHLO client.example\r\n")
			if err == nil {
				_, err = nc.Read(answer)
			}
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	for range idleClients {
		<-w.resting // each gives its buffers up when it has been idle for a moment
	}
}

// obstruct has clients send and read nothing, and stop in a TLS handshake.
func (w *town) obstruct() {
	for range stuckReaders {
		nc := w.dial(w.plain)
		w.stuck = append(w.stuck, nc)
		go func() {
			help := bytes.Repeat([]byte("HELP\r\n"), 500)
			for {
				if _, err := nc.Write(help); err != nil {
					return
				}
			}
		}()
	}
	for i := range stuckHandshakes {
		nc := w.dial(w.secure)
		w.stuck = append(w.stuck, nc)
		_, _ = io.WriteString(nc, []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"}[i%3])
	}
}

// flood begins all floods.
func (w *town) flood() {
	for _, f := range floods() {
		w.all.Go(func() {
			for n := 0; n < floodConns || w.good.Load() > 0; n++ {
				replies, last, err := f.run(w.plain)
				switch {
				case err != nil:
					w.Errorf("%s: %v", f.name, err)
				case replies > f.replies:
					w.Errorf("%s: %d replies, the last one is %q; want at most %d", f.name, replies, last, f.replies)
				}
			}
		})
	}
}

// behave has clients deliver messages, and looks at the memory now and then.
func (w *town) behave(before usage) {
	for i := range goodClients {
		nc := w.dial([]string{w.plain, w.secure}[i%2])
		if i%2 == 1 {
			nc = tls.Client(nc, w.config)
		}
		w.all.Go(func() {
			defer w.good.Add(-1)
			defer nc.Close()
			p := prototest.NewPeer(w, nc)
			defer p.Close()
			p.Timeout = 2 * time.Minute
			p.Expect("220 ")
			p.Ask("EHLO client.example", "250")
			for m := range goodMessages {
				p.Ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<alice@d.example>", "250", "RCPT TO:<bob@d.example>", "250",
					"DATA", "354", goodMessage(i, m)+".", "250")
				if i == 0 && m%20 == 0 {
					w.checkMemory(before)
				}
			}
			p.Ask("QUIT", "221")
		})
	}
}

func goodMessage(client, m int) string { return fmt.Sprintf("message %d of client %d\r\n", m, client) }

// checkMemory compares the memory in use with what the documentation says of so many connections.
func (w *town) checkMemory(before usage) {
	if isRace {
		return
	}
	used, counted := inUse(), w.srv.Stats().Memory
	took := used.heap + used.stack - before.heap - before.stack
	work := int64(len(floods()) + goodClients)
	most := int64(idleClients)*(idleMemory+nearMemory) + int64(stuckHandshakes)*(connMemory+tlsMemory) +
		int64(stuckReaders)*(connMemory+replyMemory) + work*(connMemory+tlsMemory+mailMemory+replyMemory) + clientsMemory
	w.Logf("%d octets in use, at most %d expected, %d counted", took, most, counted)
	if took > most || took > counted+int64(idleClients)*nearMemory+clientsMemory {
		w.Errorf("%d octets are in use, want at most %d, and %d by the server's count", took, most, counted)
	}
}

// clientsMemory is for the buffers of the clients that do not rest.
const clientsMemory = 4 << 20

// shutDown ends the server. Clients that are idle are told; those that read nothing cannot be, and end with the
// context.
func (w *town) shutDown() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- w.srv.Shutdown(ctx) }()
	for _, nc := range w.idle {
		if said, err := io.ReadAll(nc); err != nil || !strings.HasPrefix(string(said), "421 ") {
			w.Fatalf("an idle client is told %q, and then %v", said, err)
		}
		nc.Close()
	}
	cancel()
	if err := <-over; err != nil && !errors.Is(err, context.Canceled) {
		w.Errorf("Shutdown returns %v", err)
	}
	for range 2 {
		if err := <-w.served; err != server.ErrServerClosed {
			w.Errorf("Serve returns %v", err)
		}
	}
	for _, nc := range w.stuck {
		nc.Close()
	}
	w.idle, w.stuck = nil, nil
}

// checkDelivered finds each message delivered once to each recipient, and no other.
func (w *town) checkDelivered() {
	got := w.take()
	for i := range goodClients {
		for m := range goodMessages {
			for _, to := range []string{"alice", "bob"} {
				k := delivery{to, goodMessage(i, m)}
				if n := got.delivered[k]; n != 1 {
					w.Errorf("%q is delivered %d times to %s", k.content, n, to)
				}
				delete(got.delivered, k)
			}
		}
	}
	if len(got.delivered) > 0 {
		w.Errorf("%d messages are delivered that nobody has sent", len(got.delivered))
	}
}

// checkNothingLeft finds no goroutine, descriptor or connection that was not there before. A timer that is left would
// keep its connection, and with it the session.
func (w *town) checkNothingLeft(goroutines, open int, before usage) {
	w.config = nil
	alive := func() (n int) {
		runtime.GC()
		for _, s := range w.sessions {
			if s.Value() != nil {
				n++
			}
		}
		return n
	}
	left := func() bool {
		return runtime.NumGoroutine() > goroutines || descriptors() > open || w.srv.Stats().Open > 0 || alive() > 0
	}
	for limit := time.Now().Add(10 * time.Second); left() && time.Now().Before(limit); {
		runtime.Gosched()
	}
	if left() {
		stacks := make([]byte, 1<<16)
		w.Errorf("left are %d goroutines, %d descriptors, %d connections, %d sessions\n%s", runtime.NumGoroutine()-goroutines,
			descriptors()-open, w.srv.Stats().Open, alive(), stacks[:runtime.Stack(stacks, true)])
	}
	if n := w.srv.Stats().Memory; n != 0 {
		w.Errorf("%d octets are still counted", n)
	}
}
