//go:build !race

package server_test

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/server"
)

// The race detector empties pools at random, so that allocations cannot be counted with it.

// A countingConn is a client in memory whose connection counts what the server does to it.
type countingConn struct {
	*memory
	calls   calls
	content int    // octets of content to send behind the turn
	end     []byte // behind the content
}

// The calls are what a server did to a connection.
type calls struct {
	reads, writes, readDeadlines, writeDeadlines int
}

// contentLines are lines of content, as they are on the wire.
var contentLines = []byte(strings.Repeat(strings.Repeat("x", 74)+"\r\n", 1000))

// Read reads what is left of the turn, then the content and the end of it, and after that the next turn.
func (c *countingConn) Read(p []byte) (int, error) {
	c.calls.reads++
	if len(c.rest) > 0 || c.content == 0 {
		return c.memory.Read(p)
	}
	n := 0
	for n < len(p) && c.content > 0 {
		at := c.content % len(contentLines) // so that the content ends where a line does
		from := contentLines[(len(contentLines)-at)%len(contentLines):]
		m := copy(p[n:], from)
		n += m
		c.content -= m
	}
	if c.content == 0 {
		c.rest = c.end
	}
	return n, nil
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.calls.writes++
	return c.memory.Write(p)
}

func (c *countingConn) SetReadDeadline(time.Time) error { c.calls.readDeadlines++; return nil }

func (c *countingConn) SetWriteDeadline(time.Time) error { c.calls.writeDeadlines++; return nil }

// An expense is what a transaction costs.
type expense struct {
	calls
	allocs, octets int // allocated
}

func (c *countingConn) cost(transaction func()) expense {
	var before, after runtime.MemStats
	c.calls = calls{}
	runtime.ReadMemStats(&before)
	transaction()
	runtime.ReadMemStats(&after)
	return expense{c.calls, int(after.Mallocs - before.Mallocs), int(after.TotalAlloc - before.TotalAlloc)}
}

// least returns the least cost of a few transactions: the runtime allocates now and then for itself.
func (c *countingConn) least(transactions ...func()) expense {
	least := c.cost(transactions[0])
	for _, f := range transactions[1:] {
		if next := c.cost(f); next.octets < least.octets {
			least = next
		}
	}
	return least
}

// quietly keeps the collector from emptying pools, and everything else from running, while allocations are counted.
func quietly(t *testing.T) {
	percent, procs := debug.SetGCPercent(-1), runtime.GOMAXPROCS(1)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		runtime.GOMAXPROCS(procs)
	})
}

// countingClient serves a client that counts.
func countingClient(t *testing.T, srv *server.Server) *countingConn {
	c := &countingConn{memory: newMemory()}
	t.Cleanup(serveAs(srv, c.memory, c))
	return c
}

// growthServer takes large messages, and many connections.
func growthServer(t *testing.T) *server.Server {
	return newServer(t, discardBackend, server.Options{Limits: server.Limits{MessageSize: 1 << 30, Conns: 5000}})
}

// checkAccepted checks that the last reply accepts a message.
func (c *countingConn) checkAccepted(t *testing.T) {
	t.Helper()
	if !bytes.HasSuffix(c.last, []byte("250 2.0.0 Message accepted\r\n")) {
		t.Fatalf("the server says %q", c.last)
	}
}

// TestRecipientsGrow: a recipient costs the same whether there are 10 or 1000, which are all different and new.
func TestRecipientsGrow(t *testing.T) {
	quietly(t)
	c := countingClient(t, growthServer(t))
	serial := 0
	transaction := func(rcpts int) func() {
		var group bytes.Buffer
		group.WriteString("MAIL FROM:<sender@client.example>\r\n")
		for range rcpts {
			serial++
			fmt.Fprintf(&group, "RCPT TO:<recipient%06d@host%06d.example>\r\n", serial, serial)
		}
		group.WriteString("DATA\r\n")
		return func() {
			c.turn(group.Bytes())
			c.turn([]byte(".\r\n"))
		}
	}
	of := func(rcpts int) expense {
		transaction(rcpts)()
		got := c.least(transaction(rcpts), transaction(rcpts), transaction(rcpts))
		c.checkAccepted(t)
		return got
	}
	few := of(10)
	for _, n := range []int{100, 1000} {
		got, more := of(n), n-10
		if allocs := got.allocs - few.allocs; allocs > 2*more {
			t.Errorf("%d recipients more than 10 cost %d allocations, want 2 each", more, allocs)
		}
		if octets := got.octets - few.octets; octets > 100*more {
			t.Errorf("%d recipients more than 10 cost %d octets, want 100 each", more, octets)
		}
		input := n * len("RCPT TO:<recipient000000@host000000.example>\r\n")
		if most := 4 + input/(commandBuffer/2); got.reads > most || got.readDeadlines > most || got.writes != few.writes ||
			got.writeDeadlines != few.writeDeadlines {
			t.Errorf("%d recipients cost %+v, want at most %d reads; 10 cost %+v", n, got, most, few)
		}
	}
}

// TestContentGrows: content is read in pieces of 64 KB, and costs no memory beyond the buffer.
func TestContentGrows(t *testing.T) {
	quietly(t)
	const envelope = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	for _, verb := range []string{"DATA", "BDAT"} {
		c := countingClient(t, growthServer(t))
		transaction := func(size int) func() {
			group, end := []byte(envelope+"DATA\r\n"), []byte("\r\n.\r\n")
			if verb == "BDAT" {
				group, end = fmt.Appendf(nil, "%sBDAT %d LAST\r\n", envelope, size), nil
			}
			return func() {
				c.content, c.end = size, end
				c.turn(group)
			}
		}
		of := func(size int) expense {
			transaction(size)()
			got := c.least(transaction(size), transaction(size))
			c.checkAccepted(t)
			return got
		}
		least := of(1 << 10)
		for _, size := range []int{100 << 10, 10 << 20, 100 << 20} {
			got := of(size)
			if got.allocs != least.allocs || got.octets != least.octets || got.writes != least.writes ||
				got.writeDeadlines != least.writeDeadlines {
				t.Errorf("%d octets by %s cost %+v, 1 KB costs %+v", size, verb, got, least)
			}
			if most := 4 + size/(63<<10); got.reads > most || got.readDeadlines > most {
				t.Errorf("%d octets by %s cost %+v, want at most %d reads", size, verb, got, most)
			}
		}
	}
}

// TestConnectionsGrow: a message, and a connection with a message, cost the same whatever other connections there are,
// and nobody looks at these.
func TestConnectionsGrow(t *testing.T) {
	quietly(t)
	srv := growthServer(t)
	c := countingClient(t, srv)
	message := func(c *countingConn) {
		c.turn([]byte("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"))
		c.turn([]byte("hello\r\n.\r\n"))
	}
	fresh := &countingConn{memory: newMemory()}
	connection := func() {
		fresh.turns, fresh.began = make(chan []byte), false
		stop := serveAs(srv, fresh.memory, fresh)
		message(fresh)
		stop()
	}
	of := func() (sameConnection, newConnection expense) {
		same, anew := func() { message(c) }, connection
		same()
		sameConnection = c.least(same, same, same)
		c.checkAccepted(t)
		anew()
		newConnection = fresh.least(anew, anew, anew)
		fresh.checkAccepted(t)
		return sameConnection, newConnection
	}
	var others []*countingConn
	same, anew := of()
	for _, n := range []int{1, 100, 1000} {
		for len(others) < n {
			o := &countingConn{memory: &memory{turns: make(chan []byte), idle: make(chan struct{})}}
			t.Cleanup(serveAs(srv, o.memory, o))
			others = append(others, o)
		}
		for _, o := range others {
			o.calls = calls{}
		}
		gotSame, gotAnew := of()
		if gotSame != same {
			t.Errorf("beside %d connections, a message costs %+v, and %+v alone", n, gotSame, same)
		}
		if gotAnew != anew {
			t.Errorf("beside %d connections, a connection costs %+v, and %+v alone", n, gotAnew, anew)
		}
		for _, o := range others {
			if o.calls != (calls{}) {
				t.Fatalf("beside %d connections, one that is idle had to do %+v", n, o.calls)
			}
		}
	}
}
