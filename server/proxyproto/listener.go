// Package proxyproto tells a server behind a load balancer who its clients are. It reads the header with their
// addresses that a proxy sends at the beginning of a connection, by the PROXY protocol of HAProxy, version 1 or 2.
//
//	l, err := net.Listen("tcp", ":25")
//	…
//	err = srv.Serve(proxyproto.NewListener(l, &proxyproto.Options{Trusted: balancers}))
//
// The header comes first, even before the handshake of ServeTLS.
//
// If the proxy does not know the client, or connects on its own behalf, RemoteAddr is the address of the proxy. So do
// not permit the address of a proxy anything that is not permitted to everybody: leave it out of the networks that an
// extension or a backend trusts.
package proxyproto

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Options are the options of a listener. [NewListener] copies them.
type Options struct {
	// Trusted are the networks of the proxies. A connection from there has to begin with a header; without one, or with a
	// malformed one, it is closed without a reply. A connection from elsewhere is passed on as it is, so that the server
	// refuses a header in front of it: anybody could claim to be anybody. Default: no proxy is trusted.
	Trusted []netip.Prefix
	// Timeout is how long a proxy may take to send the header. Default 10 seconds, although a proxy that follows the
	// specification sends it at once. There is always a limit.
	Timeout time.Duration
	// MaxPending is how many connections may wait for their headers. While there are so many, no more are accepted.
	// Default 256. There is always a limit.
	MaxPending int
	// Rejected is called for each connection that was closed because its header was missing or malformed, with the address
	// of the proxy. It may be called concurrently. The error io.EOF means that the proxy sent nothing, for instance to
	// check whether the port is open.
	Rejected func(proxy net.Addr, err error)
}

const (
	defaultTimeout    = 10 * time.Second
	defaultMaxPending = 256
)

// NewListener returns a listener that accepts the connections of l. RemoteAddr and LocalAddr of a connection through a
// trusted proxy are those of the client, and of what the client connected to, if the proxy tells them. Its method
// NetConn returns the connection to the proxy.
//
// Headers are read in the background, so a slow proxy delays no other connection. Closing the listener closes l, and
// the connections that have not been accepted.
func NewListener(l net.Listener, opt *Options) net.Listener {
	p := &listener{
		Listener: l,
		accepted: make(chan accepted),
		closed:   make(chan struct{}),
		pending:  make(map[net.Conn]struct{}),
	}
	if opt != nil {
		p.opt = *opt
	}
	p.opt.Trusted = slices.Clone(p.opt.Trusted)
	if p.opt.Timeout <= 0 {
		p.opt.Timeout = defaultTimeout
	}
	if p.opt.MaxPending <= 0 {
		p.opt.MaxPending = defaultMaxPending
	}
	p.room = make(chan struct{}, p.opt.MaxPending)
	return p
}

type listener struct {
	net.Listener
	opt      Options
	begin    sync.Once
	accepted chan accepted
	room     chan struct{} // has an element for each connection pending

	mu      sync.Mutex
	closed  chan struct{}
	pending map[net.Conn]struct{}
}

// An accepted is a result of Accept.
type accepted struct {
	nc  net.Conn
	err error
}

// Accept waits for the next connection whose header has arrived. Its errors are those of the listener beneath.
func (l *listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.run() })
	select {
	case a := <-l.accepted:
		return a.nc, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the listener.
func (l *listener) Close() error {
	l.mu.Lock()
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	for nc := range l.pending {
		nc.Close()
	}
	l.mu.Unlock()
	return l.Listener.Close()
}

// run accepts connections until the listener is closed.
func (l *listener) run() {
	for {
		select {
		case l.room <- struct{}{}:
		case <-l.closed:
			return
		}
		nc, err := l.Listener.Accept()
		if err == nil && l.trusts(nc.RemoteAddr()) && l.enter(nc) {
			go l.receive(nc)
			continue
		}
		<-l.room
		if !l.deliver(accepted{nc, err}) {
			return
		}
	}
}

func (l *listener) trusts(addr net.Addr) bool {
	a, ok := addr.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return false
	}
	ip := a.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(l.opt.Trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// enter adds nc to the connections that wait for their headers. It reports false if the listener is closed.
func (l *listener) enter(nc net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return false
	default:
	}
	l.pending[nc] = struct{}{}
	return true
}

func (l *listener) leave(nc net.Conn) {
	l.mu.Lock()
	delete(l.pending, nc)
	l.mu.Unlock()
}

// deliver hands a to Accept. If the listener is closed, it closes the connection and reports false.
func (l *listener) deliver(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.closed:
		if a.nc != nil {
			a.nc.Close()
		}
		return false
	}
}

// receive reads the header of a connection, and delivers the connection.
func (l *listener) receive(nc net.Conn) {
	defer func() { <-l.room }()
	c, err := l.read(nc)
	l.leave(nc)
	if err == nil {
		l.deliver(accepted{nc: c})
		return
	}
	nc.Close()
	select {
	case <-l.closed:
		return // Close ended it
	default:
	}
	if l.opt.Rejected != nil {
		l.opt.Rejected(nc.RemoteAddr(), err)
	}
}

// read reads the header, and returns the connection with what follows it.
func (l *listener) read(nc net.Conn) (net.Conn, error) {
	if err := nc.SetReadDeadline(time.Now().Add(l.opt.Timeout)); err != nil {
		return nil, err
	}
	buf := make([]byte, 0, 256)
	for want := 1; ; {
		buf = slices.Grow(buf, want-len(buf))
		n, err := nc.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		h, used, wrong := parse(buf)
		switch {
		case wrong == nil:
			_ = nc.SetReadDeadline(time.Time{}) // which fails only on a connection that is closed
			return &conn{Conn: nc, rest: buf[used:], remote: h.client, local: h.server}, nil
		case wrong != errShort:
			return nil, wrong
		case err == io.EOF && len(buf) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		want = used
	}
}

// A conn is a connection through a proxy.
type conn struct {
	net.Conn
	rest          []byte   // what was read behind the header
	remote, local net.Addr // nil if the proxy does not tell
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 && len(p) > 0 {
		n := copy(p, c.rest)
		if c.rest = c.rest[n:]; len(c.rest) == 0 {
			c.rest = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *conn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.Conn.RemoteAddr()
}

func (c *conn) LocalAddr() net.Addr {
	if c.local != nil {
		return c.local
	}
	return c.Conn.LocalAddr()
}

// NetConn returns the connection to the proxy.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes the connection for writing, if that is possible.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
