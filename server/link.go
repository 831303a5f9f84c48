package server

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// A link is the network connection to the client.
type link struct {
	raw         net.Conn             // what was accepted
	nc          net.Conn             // raw, or what it was handed over to, such as a *tls.Conn
	tls         *tls.ConnectionState // of nc; nil in plaintext
	certificate *tls.Certificate     // presented in the last full handshake
	awaitsTLS   bool                 // it begins with a TLS handshake, before which nothing may be sent

	// Server.Shutdown looks at these from another goroutine, to wake the connection if it waits for a command.
	mu      sync.Mutex // guards what follows, and nc for wake
	idle    bool       // we wait for a command, and no transaction is open
	between bool       // we wait for a command of a transaction that is open

	// What stress cuts; see cutWait.
	wait   wait
	cut    bool // the wait, because it was too long
	spared bool // stress does not concern this client; only the goroutine of the connection changes it
	since  time.Time
}

// use goes on with the connection nc, of which state is the stateOf.
func (l *link) use(nc net.Conn, state *tls.ConnectionState) {
	l.mu.Lock()
	l.nc = nc
	l.mu.Unlock()
	l.tls, l.awaitsTLS = state, false
}

// stateOf returns the state of TLS on nc, nil if nc is in plaintext.
func stateOf(nc net.Conn) *tls.ConnectionState {
	t, ok := nc.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	return &state
}

// read reads. It does not return without an octet or an error.
func (l *link) read(p []byte) (int, error) {
	for range 100 {
		if n, err := l.nc.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// write writes p within the given time; 0 is no limit.
func (l *link) write(p []byte, timeout time.Duration) error {
	now := time.Now()
	l.mu.Lock()
	l.begin(waitWrite, now)
	if timeout > 0 {
		_ = l.nc.SetWriteDeadline(now.Add(timeout))
	}
	l.mu.Unlock()
	_, err := l.nc.Write(p)
	l.waited()
	return err
}

// close closes the connection. With linger, it reads on for a while: if it closed with octets of the client's unread,
// TCP would reset the connection, and the last reply might be lost.
func (l *link) close(linger bool) {
	if w, ok := l.nc.(interface{ CloseWrite() error }); ok && linger && w.CloseWrite() == nil {
		_ = l.nc.SetReadDeadline(time.Now().Add(lingerTimeout))
		_, _ = io.Copy(io.Discard, io.LimitReader(l.nc, lingerOctets))
	}
	l.nc.Close()
	l.raw.Close()
}

// halfCloses reports whether the client can shut down its own direction and still read, as over TCP and TLS. Over other
// connections, such as a net.Pipe, the end of the input is the end of the connection.
func (l *link) halfCloses() bool {
	for _, nc := range []net.Conn{l.nc, l.socket()} {
		if _, ok := nc.(interface{ CloseWrite() error }); ok {
			return true
		}
	}
	return false
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// wake makes a connection that waits for its client notice that the server is shutting down. Lastly is when the next
// command has to have arrived if a transaction is open. Any goroutine may call it.
func (l *link) wake(lastly time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.wait == waitHandshake:
		l.raw.Close()
	case l.idle:
		_ = l.nc.SetReadDeadline(past)
	case l.between:
		_ = l.nc.SetReadDeadline(lastly)
	}
}

// waited says that the connection does not wait for its client any more. It reports whether stress has cut the wait.
func (l *link) waited() (cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle, l.between, l.wait = false, false, noWait
	return l.cut
}

// handshakes says that a handshake begins.
func (l *link) handshakes() {
	l.mu.Lock()
	l.begin(waitHandshake, time.Now())
	l.mu.Unlock()
}
