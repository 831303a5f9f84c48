package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
)

// TestRest: a connection that rests between any two turns says and does the same as one that does not.
func TestRest(t *testing.T) { synctest.Test(t, testRest) }

func testRest(t *testing.T) {
	content := strings.Repeat("0123456789 0123456789\r\n", 500)
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{Limits: server.Limits{MessageSize: 20_000}}))
	p.hello()
	for _, turn := range []struct{ say, want string }{
		{"NOOP " + strings.Repeat("x", 400), "250 "}, // longer than what a connection that rests reads at once
		{"BDAT 12000 LAST\r\n" + strings.Repeat("x", 11_998), "503 "},
		{"NOOP " + strings.Repeat("x", 5000), "500 "},
		{"MAIL FROM:<a@b.example>", "250 "},
		{"RCPT TO:<c@d.example>", "250 "},
		{"DATA", "354 "},
		{content + ".", "250 "},
		{"MAIL FROM:<a@b.example>", "250 "},
		{"RCPT TO:<c@d.example>", "250 "},
		{"BDAT 11500 LAST\r\n" + strings.TrimSuffix(content, "\r\n"), "250 "},
	} {
		time.Sleep(time.Minute)
		p.ask(turn.say, turn.want)
	}
	time.Sleep(time.Minute)
	p.quit()
	if got := st.messages(); len(got) != 2 || got[0] != content || got[1] != content {
		t.Errorf("got %d messages, want what was sent, twice", len(got))
	}
}

// TestZ192_IdleMemory: a connection whose client is silent costs little more than the least that a server can be, and
// no more if it is one of many. A stack grows by doubling: its limit is one doubling, and half of that for what else
// the runtime counts.
func TestZ192_IdleMemory(t *testing.T) {
	if !isAlone(t) {
		return
	}
	message := []string{"EHLO client.example\r\n", "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
		strings.Repeat("0123456789012\r\n", 20) + ".\r\n"}
	for name, turns := range map[string][]string{"after EHLO": message[:1], "after a message": message} {
		d := monologue{turns: turns}
		for _, n := range []int{200, 1000} {
			d.check(t, fmt.Sprintf("%s, %d connections", name, n), &d, n, func(got, least cost) bool {
				return got.heap <= least.heap+1500 && got.stack <= 3*least.stack
			})
		}
	}
}

// TestZ192_IdleMemoryTLS: the same for connections with TLS. Their stack is smaller than that of a goroutine that has
// made a handshake.
func TestZ192_IdleMemoryTLS(t *testing.T) {
	if !isAlone(t) {
		return
	}
	implicit := monologue{turns: []string{"EHLO client.example\r\n"}}
	implicit.server, implicit.client = tlsPair(t)
	later := implicit
	later.turns = []string{"EHLO client.example\r\n", startTLS, "EHLO client.example\r\n"}
	const n = 500 // many more than the goroutines whose stacks the runtime keeps
	for name, d := range map[string]monologue{"implicit": implicit, "STARTTLS": later} {
		d.check(t, name, &implicit, n, func(got, least cost) bool {
			return got.heap <= least.heap+2000 && got.stack <= least.stack*5/8
		})
	}
}

// isAlone runs the test in a process of its own, unless this is that process, for which it reports true. What a
// goroutine costs depends on those that there were before: the runtime keeps their stacks, and begins new ones with the
// average size, unless it is told not to.
func isAlone(t *testing.T) bool {
	t.Helper()
	const env = "SMTPKIT_TEST_ALONE"
	if os.Getenv(env) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), env+"="+t.Name(), "GODEBUG=adaptivestackstart=0")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// check fails the test unless a connection of serveSMTP costs little enough beside one of serveBarely with bare. What
// earlier tests leave behind may be freed between two measurements, and a stack that the runtime kept be used again: it
// takes three wrong ones in a row to fail.
func (d *monologue) check(t *testing.T, name string, bare *monologue, n int, ok func(got, least cost) bool) {
	t.Helper()
	var got, least cost
	for range 3 {
		least, got = bare.cost(t, n, serveBarely), d.cost(t, n, serveSMTP)
		if ok(got, least) {
			return
		}
	}
	t.Errorf("%s: a connection costs %d octets of heap and %d of stack; the least that one can be costs %d and %d",
		name, got.heap, got.stack, least.heap, least.stack)
}

// A cost is octets that are in use.
type cost struct{ heap, stack int64 }

// inUse returns the cost of everything that is not garbage.
func inUse() cost {
	for range 4 { // a sync.Pool is empty after two, and each may halve a stack
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return cost{int64(m.HeapAlloc), int64(m.StackInuse)}
}

// A monologue is what a client says before it falls silent.
type monologue struct {
	server, client *tls.Config // nil in plaintext
	turns          []string    // of which each gets an answer; TLS begins at first, or after startTLS
}

const startTLS = "STARTTLS\r\n"

// isImplicit reports whether TLS begins at first.
func (d *monologue) isImplicit() bool { return d.client != nil && !slices.Contains(d.turns, startTLS) }

// cost returns what a connection costs, at both ends, when its client has fallen silent. It is the average of n
// connections.
func (d *monologue) cost(t *testing.T, n int, serve func(*testing.T, *patientListener, *monologue) func()) cost {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &patientListener{tcp, make(chan struct{}, n*(len(d.turns)+1))}
	defer serve(t, l, d)()
	near := make([]net.Conn, 0, n)
	defer func() {
		for _, nc := range near {
			nc.Close()
		}
	}()
	answer := make([]byte, 4<<10)
	before := inUse()
	for range n {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if d.isImplicit() {
			nc = tls.Client(nc, d.client)
		}
		_, err = nc.Read(answer)
		for _, turn := range d.turns {
			if err == nil {
				_, err = io.WriteString(nc, turn)
			}
			if err == nil {
				_, err = nc.Read(answer)
			}
			if turn == startTLS {
				nc = tls.Client(nc, d.client)
			}
		}
		near = append(near, nc)
		if err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		<-l.waiting
	}
	after := inUse()
	return cost{(after.heap - before.heap) / int64(n), (after.stack - before.stack) / int64(n)}
}

// patience is less than what servers give their clients by default.
const patience = time.Minute

// A patientListener accepts connections that tell when their reader is ready to wait for longer than patience.
type patientListener struct {
	net.Listener
	waiting chan struct{}
}

func (l *patientListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{nc.(*net.TCPConn), l.waiting}, nil
}

// A sizedConn records how many octets are asked for.
type sizedConn struct {
	net.Conn
	last atomic.Int64
}

func (c *sizedConn) Read(p []byte) (int, error) {
	c.last.Store(int64(len(p)))
	return c.Conn.Read(p)
}

// TestRestsAgain: a connection that is at work again reads into a large buffer, and rests again after that.
func TestRestsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		nc := &sizedConn{Conn: there}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = discardServer(t).ServeConn(context.Background(), nc)
		}()
		go io.Copy(io.Discard, here)
		const small = 32
		for range 3 {
			io.WriteString(here, "NOOP\r\n")
			synctest.Wait()
			if got := nc.last.Load(); got != commandBuffer {
				t.Errorf("at work, the server reads %d octets at once, want %d", got, commandBuffer)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got := nc.last.Load(); got != small {
				t.Errorf("at rest, the server reads %d octets at once, want %d", got, small)
			}
		}
		here.Close()
		<-done
	})
}

// TestTimeoutBeforeRest: a timeout that is due before a rest comes in time.
func TestTimeoutBeforeRest(t *testing.T) {
	for name, timeouts := range map[string]server.Timeouts{
		"session": {Session: time.Second},
		"command": {Command: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			want := max(timeouts.Session, timeouts.Command)
			inBubble(t, want, func(t *testing.T) {
				p := dial(t, newServer(t, &store{}, server.Options{Timeouts: timeouts}))
				p.hello()
				if timeouts.Session > 0 {
					time.Sleep(want - 50*time.Millisecond)
					p.ask("NOOP", "250 ")
				}
				p.expect("421 ")
				<-p.done
			})
		})
	}
}

type patientConn struct {
	*net.TCPConn
	waiting chan<- struct{}
}

func (c *patientConn) SetReadDeadline(d time.Time) error {
	err := c.TCPConn.SetReadDeadline(d)
	if time.Until(d) > patience {
		c.waiting <- struct{}{}
	}
	return err
}

// serveSMTP starts a server whose sessions discard everything. It has a long patience only with a client that is
// silent.
func serveSMTP(t *testing.T, l *patientListener, d *monologue) (stop func()) {
	s := newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return discard{}, nil
	}), server.Options{
		Limits:    server.Limits{Conns: -1, ConnsPerHost: -1},
		Timeouts:  server.Timeouts{Content: patience},
		TLSConfig: d.server,
	})
	if d.isImplicit() {
		go s.ServeTLS(l)
	} else {
		go s.Serve(l)
	}
	return func() { _ = s.Shutdown(context.Background()) }
}

// serveBarely starts the least that a server can be: a goroutine with a small buffer for each connection. It says
// something at first and to everything that it reads.
func serveBarely(_ *testing.T, l *patientListener, d *monologue) (stop func()) {
	var all sync.WaitGroup
	serve := func(nc net.Conn) {
		defer all.Done()
		defer nc.Close()
		if d.isImplicit() {
			nc = tls.Server(nc, d.server)
		}
		buf := make([]byte, 512)
		for {
			if _, err := io.WriteString(nc, "220 ready\r\n"); err != nil {
				return
			}
			if _, err := nc.Read(buf); err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Add(1)
			l.waiting <- struct{}{}
			go serve(nc)
		}
	})
	return func() {
		l.Close()
		all.Wait()
	}
}
