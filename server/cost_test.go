package server_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// discard is a session that takes everything and keeps nothing.
type discard struct{}

func (discard) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (discard) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }

func (discard) Data(_ context.Context, r io.Reader) error {
	_, err := r.(io.WriterTo).WriteTo(io.Discard)
	return err
}

func discardServer(t testing.TB) *server.Server {
	return newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return discard{}, nil
	}), server.Options{})
}

// memory is a connection in memory that plays a client: the input is given by turns, and each is over when the server
// reads on. It does without goroutines and memory of its own.
type memory struct {
	turns  chan []byte
	idle   chan struct{} // the server has dealt with the turn
	rest   []byte
	began  bool
	last   []byte // what the server wrote last
	writes int
}

func newMemory() *memory {
	return &memory{turns: make(chan []byte), idle: make(chan struct{}), last: make([]byte, 0, 64<<10)}
}

func (m *memory) Read(p []byte) (int, error) {
	if len(m.rest) == 0 {
		if m.began {
			m.idle <- struct{}{}
		}
		m.began = true
		var ok bool
		if m.rest, ok = <-m.turns; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

func (m *memory) Write(p []byte) (int, error) {
	m.last = append(m.last[:0], p...)
	m.writes++
	return len(p), nil
}

// turn gives input to the server and waits until it wants more.
func (m *memory) turn(input []byte) {
	m.turns <- input
	<-m.idle
}

func (m *memory) Close() error                     { return nil }
func (m *memory) LocalAddr() net.Addr              { return nil }
func (m *memory) RemoteAddr() net.Addr             { return nil }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// serveMemory serves m, past EHLO, until the function returned is called.
func serveMemory(t testing.TB, srv *server.Server, m *memory) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeConn(context.Background(), m)
	}()
	m.turn([]byte("EHLO client.example\r\n"))
	return func() {
		close(m.turns)
		<-done
	}
}

// TestAllocations: a transaction with a sender and a recipient seen before costs no memory.
func TestAllocations(t *testing.T) {
	m := newMemory()
	defer serveMemory(t, discardServer(t), m)()
	turns := [][]byte{
		[]byte("MAIL FROM:<sender@client.example> SIZE=1000\r\n"),
		[]byte("RCPT TO:<one@d.example>\r\nRCPT TO:<two@d.example>\r\n"),
		[]byte("DATA\r\n"),
		[]byte(strings.Repeat("123456789 123456789 123456789\r\n", 1000) + ".\r\n"),
	}
	allocs := testing.AllocsPerRun(100, func() {
		for _, turn := range turns {
			m.turn(turn)
		}
	})
	if allocs != 0 {
		t.Errorf("a transaction costs %v allocations, want 0", allocs)
	}
	if !bytes.HasPrefix(m.last, []byte("250 2.0.0 Message accepted")) {
		t.Errorf("the server says %q at the end", m.last)
	}
}

// TestL02L05_OneWritePerGroup: the replies to what came in one piece leave in one piece (RFC 2920 section 3.2).
func TestL02L05_OneWritePerGroup(t *testing.T) {
	m := newMemory()
	defer serveMemory(t, discardServer(t), m)()
	group := "MAIL FROM:<a@b.example>\r\n" + strings.Repeat("RCPT TO:<c@d.example>\r\n", 50) + "DATA\r\n"
	for _, c := range []struct {
		name, say string
		replies   int
		writes    int
	}{
		{"MAIL, 50 RCPT and DATA", group, 52, 1},
		{"a message of 1000 lines", strings.Repeat("12345678\r\n", 1000) + ".\r\n", 1, 1},
		{"half a group", "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRC", 2, 1},
		{"the other half", "PT TO:<c@d.example>\r\n", 1, 1},
		// Of these, 354 cannot wait.
		{"one after the other", "DATA\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", 4, 2},
		{"what cannot wait", "NOOP\r\nFOO\r\nRSET\r\n", 3, 3},
	} {
		before := m.writes
		m.turn([]byte(c.say))
		if got := m.writes - before; got != c.writes {
			t.Errorf("%s: %d writes, want %d", c.name, got, c.writes)
		}
		if got := bytes.Count(m.last, []byte("\r\n")); c.writes == 1 && got != c.replies {
			t.Errorf("%s: %d replies, want %d", c.name, got, c.replies)
		}
	}
}

// TestPendingRepliesAreBounded: a client that sends without end and never waits does not make the server hold its
// replies without end.
func TestPendingRepliesAreBounded(t *testing.T) {
	m := newMemory()
	defer serveMemory(t, discardServer(t), m)()
	m.turn([]byte("MAIL FROM:<a@b.example>\r\n"))
	before := m.writes
	m.turn(bytes.Repeat([]byte("RCPT TO:<c@d.example>\r\n"), 900))
	if m.writes == before || cap(m.last) > 200<<10 {
		t.Errorf("900 replies took %d writes, with one of %d octets", m.writes-before, cap(m.last))
	}
}

// TestBackpressure: while the session does not read, nobody reads from the client.
func TestBackpressure(t *testing.T) {
	var read atomic.Int64
	proceed := make(chan struct{})
	st := &store{data: func(_ context.Context, r io.Reader) error {
		<-proceed
		_, err := io.Copy(io.Discard, r)
		return err
	}}
	here, there := net.Pipe()
	p := dialOver(t, newServer(t, st, server.Options{}), here, counted{there, &read})
	p.hello()
	p.begin()
	p.ask("DATA", "354 ")
	before := read.Load()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(here, strings.Repeat("12345678\r\n", 100_000)+".\r\n")
	}()
	if got := read.Load(); got != before {
		t.Errorf("the server read %d octets that nobody wants yet", got-before)
	}
	close(proceed)
	<-sent
	p.expect("250 ")
	p.quit()
}

type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func BenchmarkTransaction(b *testing.B) {
	m := newMemory()
	defer serveMemory(b, discardServer(b), m)()
	content := []byte(strings.Repeat(strings.Repeat("x", 74)+"\r\n", 1000) + ".\r\n")
	group := []byte("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		m.turn(group)
		m.turn(content)
	}
}
