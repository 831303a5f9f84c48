package server_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/server"
)

// TestIdleMemory: a connection whose client is silent costs little more than the least that a server can be, and no
// more if it is one of many. A stack grows by doubling: its limit is one doubling, and half of that for what else the
// runtime counts.
func TestIdleMemory(t *testing.T) {
	serve := func(l net.Listener) func() {
		s := newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
			return discard{}, nil
		}), server.Options{
			Limits:   server.Limits{Conns: -1, ConnsPerHost: -1},
			Timeouts: server.Timeouts{Content: patience}, // only commands are awaited for longer
		})
		go s.Serve(l)
		return func() { _ = s.Shutdown(context.Background()) }
	}
	message := []string{"EHLO client.example\r\n", "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
		strings.Repeat("0123456789012\r\n", 20) + ".\r\n"}
	for name, turns := range map[string][]string{"after EHLO": message[:1], "after a message": message} {
		_ = costOf(t, 1000, serveBarely, turns, len(turns)+1) // the runtime keeps what it needs for so many goroutines
		least := costOf(t, 1000, serveBarely, turns, len(turns)+1)
		for _, n := range []int{200, 1000} {
			got := costOf(t, n, serve, turns, 1)
			if got.heap > least.heap+1500 || got.stack > 3*least.stack {
				t.Errorf("%s: one of %d connections costs %d octets of heap and %d of stack; %d and %d would do",
					name, n, got.heap, got.stack, least.heap, least.stack)
			}
		}
	}
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

// costOf returns what a connection costs, at both ends, whose client has got an answer to each of its turns and is
// silent. It is the average of n connections. The server waits for longer than patience as often as waits says, the
// last time for what the client never says.
func costOf(t *testing.T, n int, serve func(net.Listener) (stop func()), turns []string, waits int) cost {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &patientListener{tcp, make(chan struct{}, n*waits)}
	defer serve(l)()
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
		near = append(near, nc)
		_, err = nc.Read(answer)
		for _, turn := range turns {
			if err == nil {
				_, err = io.WriteString(nc, turn)
			}
			if err == nil {
				_, err = nc.Read(answer)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range n * waits {
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

// serveBarely is the least that a server can be: a goroutine with a small buffer for each connection.
func serveBarely(l net.Listener) (stop func()) {
	var all sync.WaitGroup
	serve := func(nc net.Conn) {
		defer all.Done()
		defer nc.Close()
		buf := make([]byte, 512)
		for {
			if _, err := io.WriteString(nc, "220 ready\r\n"); err != nil {
				return
			}
			_ = nc.SetReadDeadline(time.Now().Add(2 * patience))
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
			go serve(nc)
		}
	})
	return func() {
		l.Close()
		all.Wait()
	}
}
