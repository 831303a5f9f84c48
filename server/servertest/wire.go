package servertest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A wire is the server's end of a connection, inside of TLS. It watches what passes, and does what faults demand.
type wire struct {
	net.Conn
	line  *line
	below atomic.Bool // TLS has begun on it, and another wire is above

	handshake atomic.Pointer[Fault] // what garbles the octets that are written next
	stopped   atomic.Bool           // it reads from quiet instead, where nothing ever comes
	quiet     net.Conn
}

func newWire(nc net.Conn, l *line) *wire {
	quiet, _ := Pipe(nil, nil)
	return &wire{Conn: nc, line: l, quiet: quiet}
}

func (w *wire) Read(p []byte) (int, error) {
	switch {
	case w.below.Load():
		return w.Conn.Read(p)
	case w.stopped.Load():
		return w.quiet.Read(p)
	}
	room, err := w.line.room(len(p))
	if err != nil {
		return 0, err
	}
	n, err := w.Conn.Read(p[:room])
	w.line.received(p[:n])
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if !w.below.Load() {
		return w.line.send(w, p)
	}
	if f := w.handshake.Swap(nil); f != nil {
		if _, err := w.Conn.Write(f.edit(append([]byte(nil), p...))); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return w.Conn.Write(p)
}

func (w *wire) SetDeadline(t time.Time) error {
	_ = w.quiet.SetDeadline(t)
	return w.Conn.SetDeadline(t)
}

func (w *wire) SetReadDeadline(t time.Time) error {
	_ = w.quiet.SetReadDeadline(t)
	return w.Conn.SetReadDeadline(t)
}

func (w *wire) Close() error {
	w.line.close()
	_ = w.quiet.Close()
	if w == w.line.bottom && w.line.dropped.Load() {
		w.line.linger()
		return nil
	}
	return w.Conn.Close()
}

// CloseWrite closes the connection in the direction of the client.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection below.
func (w *wire) NetConn() net.Conn { return w.Conn }

// LingerTime and lingerOctets are for how long, and how much, is read from a connection that was dropped.
const (
	lingerTime   = time.Second
	lingerOctets = 1 << 20
)

// drop ends the connection for the client, behind what was written. TCP would take that back if the connection were
// closed with octets of the client's unread.
func (l *line) drop() {
	if !l.dropped.Swap(true) {
		l.log.add("-- the connection is dropped")
		_ = l.bottom.CloseWrite()
	}
}

// linger closes a connection that was dropped when the client has closed it, after a while, or with the server.
func (l *line) linger() {
	if l.lingers.Swap(true) {
		return
	}
	nc := l.bottom.Conn
	l.srv.serving.Go(func() {
		_ = nc.SetReadDeadline(time.Now().Add(lingerTime))
		defer context.AfterFunc(l.srv.ending, func() { _ = nc.SetReadDeadline(time.Now()) })()
		_, _ = io.Copy(io.Discard, io.LimitReader(nc, lingerOctets))
		_ = nc.Close()
	})
}

// wait waits for d. It reports false if the connection was closed.
func (l *line) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closed:
		return false
	}
}

// stall waits for the client to hang up, or for the connection to be closed.
func (w *wire) stall() {
	_ = w.Conn.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, w.Conn)
}

// A secureWire is a wire above TLS.
type secureWire struct {
	*wire
	tls *tls.Conn
}

// secure returns a wire above c, which is above below.
func secure(below *wire, c *tls.Conn) *secureWire {
	below.below.Store(true)
	return &secureWire{newWire(c, below.line), c}
}

func (w *secureWire) ConnectionState() tls.ConnectionState { return w.tls.ConnectionState() }

func (w *secureWire) HandshakeContext(ctx context.Context) error {
	err := w.line.beforeHandshake()
	if err == nil {
		err = w.tls.HandshakeContext(ctx)
	}
	w.line.handshaken(err)
	return err
}

// errDropped is the error of a connection that a fault has closed.
var errDropped = errors.New("smtp: a fault of servertest has dropped the connection")

// beforeHandshake does what faults of a handshake demand. It returns an error if there is to be none.
func (l *line) beforeHandshake() error {
	o := occasion{names: []string{Handshake}}
	if f := l.srv.faults.pick(delays, o); f != nil && !l.wait(f.delay) {
		return net.ErrClosed
	}
	f := l.srv.faults.pick(onReplies, o)
	switch {
	case f == nil:
		return nil
	case f.kind == garble:
		l.bottom.handshake.Store(f)
		return nil
	case f.kind == stall:
		l.bottom.stall()
	}
	l.drop()
	return errDropped
}

// handshaken notes the outcome of a handshake.
func (l *line) handshaken(err error) {
	if err != nil {
		l.log.add("-- the TLS handshake failed: " + err.Error())
		if l.srv.advise && isDistrust(err) {
			l.log.add("-- give the client Server.ClientTLS; for smtp.SendMail set Options.NoTLS")
		}
		return
	}
	l.log.add("-- TLS")
}

// isDistrust reports whether a client has ended the handshake because it does not trust the certificate.
func isDistrust(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate")
}

// startTLS returns x with a Serve that puts a wire above TLS.
func startTLS(x ext.Extension) ext.Extension {
	serve := x.Serve
	x.Serve = func(ctx context.Context, x ext.Command) (proto.Reply, error) {
		return serve(ctx, handoverCommand{x, lineOf(ctx)})
	}
	return x
}

type handoverCommand struct {
	ext.Command
	line *line
}

func (x handoverCommand) Handover(ctx context.Context, r proto.Reply,
	take func(context.Context, net.Conn) (net.Conn, error)) error {
	return x.Command.Handover(ctx, r, func(ctx context.Context, nc net.Conn) (net.Conn, error) {
		x.line.bottom.below.Store(true)
		if err := x.line.beforeHandshake(); err != nil {
			return nil, err
		}
		next, err := take(ctx, nc)
		x.line.handshaken(err)
		c, ok := next.(*tls.Conn)
		if err != nil || !ok {
			return next, err
		}
		return secure(x.line.bottom, c), nil
	})
}
