package servertest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A Listener is a net.Listener in memory, for tests without a network. What dials it gets a connection that has
// buffers, deadlines and addresses, and can be closed in one direction as a TCP connection can. It works in a bubble of
// testing/synctest: goroutines that wait for such a connection, or for a listener, are durably blocked. In a bubble,
// make the listener there.
//
// Its methods may be called concurrently.
type Listener struct {
	addr    net.Addr
	backlog chan net.Conn
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	next int // the port of the next client
}

// backlogSize is how many connections may wait to be accepted. Dial waits then.
const backlogSize = 128

// Listen returns a listener with an address of your choice. Nil stands for 192.0.2.25:25.
func Listen(addr net.Addr) *Listener {
	if addr == nil {
		addr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 25), Port: 25}
	}
	return &Listener{addr: addr, backlog: make(chan net.Conn, backlogSize), closed: make(chan struct{}), next: firstPort}
}

// firstPort is the port of the first client: the first of those that IANA leaves to clients.
const firstPort = 49152

// Accept returns the server's end of the next connection. It returns net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	if l.isClosed() {
		return nil, net.ErrClosed
	}
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept and Dial fail, and closes the connections that nobody has accepted yet. The others go on.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = nil
	})
	for {
		select {
		case c := <-l.backlog:
			c.Close()
		default:
			return err
		}
	}
}

// Addr returns the address that Listen was given.
func (l *Listener) Addr() net.Addr { return l.addr }

// DialContext returns the client's end of a new connection, whatever the network and the address. It has the form of
// the fields named DialContext elsewhere, as in net/http and in this library's client. The client's address is
// 192.0.2.1, with another port each time.
func (l *Listener) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	port := l.next
	if l.next++; l.next > 65535 {
		l.next = firstPort
	}
	l.mu.Unlock()
	return l.DialFrom(ctx, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port})
}

// DialFrom is DialContext for a client whose address is remote: this is what the server sees.
func (l *Listener) DialFrom(ctx context.Context, remote net.Addr) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	refused := &net.OpError{Op: "dial", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	if l.isClosed() {
		return nil, refused
	}
	here, there := Pipe(remote, l.addr)
	select {
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	case l.backlog <- there:
	}
	if l.isClosed() {
		l.Close() // Close may have looked before there was anything
	}
	return here, nil
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Pipe returns the two ends of a connection in memory, whose addresses are a and b. Each direction has a buffer of 64
// KiB: Write waits when it is full. Both ends have the method CloseWrite, after which the other end reads io.EOF while
// the other direction goes on.
//
// When the other end is closed, one more Write succeeds, as with TCP, and those behind it return io.ErrClosedPipe. An
// end that is closed returns net.ErrClosed. After a deadline, calls return os.ErrDeadlineExceeded until another one is
// set.
func Pipe(a, b net.Addr) (net.Conn, net.Conn) {
	there, back := newStream(), newStream()
	return &memoryConn{local: a, remote: b, in: back, out: there}, &memoryConn{local: b, remote: a, in: there, out: back}
}

// A memoryConn is one end.
type memoryConn struct {
	local, remote net.Addr
	in, out       *stream
}

func (c *memoryConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memoryConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *memoryConn) LocalAddr() net.Addr         { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr        { return c.remote }

func (c *memoryConn) Close() error {
	c.out.end(true)
	c.in.abandon()
	return nil
}

// CloseWrite ends the direction to the other end.
func (c *memoryConn) CloseWrite() error { return c.out.end(false) }

func (c *memoryConn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	c.out.setDeadline(&c.out.writing, t)
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writing, t)
	return nil
}

// streamSize is the size of a buffer.
const streamSize = 64 << 10

// A stream is one direction of a connection.
type stream struct {
	mu     sync.Mutex
	change sync.Cond // of anything below
	buf    []byte

	ended     bool // the writer has closed this direction
	closed    bool // the writer's end is closed
	abandoned bool // the reader's end is closed
	told      bool // the writer has written to it

	reading, writing deadline
}

// A deadline is a time after which one end waits no more.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newStream() *stream {
	s := &stream{}
	s.change.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.abandoned:
			return 0, net.ErrClosed
		case s.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[:copy(s.buf, s.buf[n:])]
			s.change.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.change.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended:
			return n, net.ErrClosed
		case s.abandoned && n == 0 && !s.told:
			s.told = true
			return len(p), nil
		case s.abandoned:
			return n, io.ErrClosedPipe
		case s.writing.passed():
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		}
		if space := min(streamSize-len(s.buf), len(p)-n); space > 0 {
			s.buf = append(s.buf, p[n:n+space]...)
			n += space
			s.change.Broadcast()
			if n == len(p) {
				return n, nil
			}
			continue
		}
		s.change.Wait()
	}
}

// end closes the direction. With whole, the writer's end is closed.
func (s *stream) end(whole bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.ended, s.closed = true, s.closed || whole
	s.writing.stop()
	s.change.Broadcast()
	return nil
}

// abandon says that nobody will read.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned, s.buf = true, nil
	s.reading.stop()
	s.change.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			s.mu.Lock()
			s.change.Broadcast()
			s.mu.Unlock()
		})
	}
	s.change.Broadcast()
}
