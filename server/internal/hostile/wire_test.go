package hostile

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// A halfCloser is a connection of which one direction can be closed, as with TCP.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// A wire is a connection in memory that breaks off when so many octets have passed.
type wire struct {
	near   halfCloser // the client's end
	far    *farEnd
	c      cutting
	broken atomic.Bool

	left int  // octets that the client may still send
	torn bool // some of what the client sent has not been
}

// A farEnd is the server's end of a wire.
type farEnd struct {
	halfCloser
	dead atomic.Bool

	mu   sync.Mutex
	left int // octets that the server may still send, if it is limited
	w    *wire
}

// errBroken is the error of a connection that has broken off, at the client's end.
var errBroken = errors.New("broken off")

// newWire returns a wire that breaks off before the octet at.
func newWire(c cutting, at int) *wire {
	a, b := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 49152}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 25), Port: 25}
	near, far := servertest.Pipe(a, b)
	w := &wire{near: near.(halfCloser), c: c, left: at}
	w.far = &farEnd{halfCloser: far.(halfCloser), left: at, w: w}
	return w
}

// serve serves the other end.
func (w *wire) serve(srv *server.Server, implicit bool, config *tls.Config) error {
	if implicit {
		return srv.ServeConn(context.Background(), tls.Server(w.far, config))
	}
	return srv.ServeConn(context.Background(), w.far)
}

// reset has the server find the connection reset, whatever was on its way.
func (w *wire) reset() {
	w.far.dead.Store(true)
	w.near.Close()
}

// snap breaks the connection off, in the client's direction.
func (w *wire) snap() {
	if w.broken.CompareAndSwap(false, true) {
		w.c.cut(w)
	}
}

// A nearEnd is the client's end as the client uses it.
type nearEnd struct {
	halfCloser
	w *wire
}

func (e nearEnd) Write(p []byte) (int, error) {
	w := e.w
	if w.c.output {
		return w.near.Write(p)
	}
	if w.broken.Load() {
		w.torn = true
		return 0, errBroken
	}
	if w.torn = len(p) > w.left; w.torn {
		p = p[:w.left]
	}
	n, err := w.near.Write(p)
	w.left -= n
	if w.left == 0 && err == nil {
		w.snap()
		err = errBroken
	}
	return n, err
}

func (f *farEnd) Read(p []byte) (int, error) {
	n, err := f.halfCloser.Read(p)
	if f.dead.Load() {
		return 0, &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	}
	return n, err
}

func (f *farEnd) Write(p []byte) (int, error) {
	if f.dead.Load() {
		return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
	}
	if !f.w.c.output {
		return f.halfCloser.Write(p)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p) < f.left {
		f.left -= len(p)
		return f.halfCloser.Write(p)
	}
	n, _ := f.halfCloser.Write(p[:f.left])
	f.left = 0
	f.w.broken.Store(true)
	f.dead.Store(true)
	f.Close()
	return n, &net.OpError{Op: "write", Err: syscall.EPIPE}
}

// A client plays the stretches of a dialogue.
type client struct {
	*wire
	out  *outcome
	nc   net.Conn
	r    *bufio.Reader
	over bool // it has found the connection broken
}

// begin begins the dialogue. A wire may break off before its first octet.
func (c *client) begin() {
	c.nc = nearEnd{c.near, c.wire}
	c.r = bufio.NewReader(c.nc)
	if !c.c.output && c.left == 0 {
		c.snap()
		c.over = true
	}
}

// secure makes the TLS handshake.
func (c *client) secure(config *tls.Config) {
	if c.over {
		return
	}
	nc := tls.Client(c.nc, config)
	if nc.Handshake() != nil || c.broken.Load() {
		c.over = true
		// What is left to be read are records of TLS.
		c.out.tls = true
	}
	c.nc, c.r, c.out.tls = nc, bufio.NewReader(nc), true
}

// send sends a stretch.
func (c *client) send(text string) {
	c.torn = false
	n, err := c.nc.Write([]byte(text))
	if n > 0 || err == nil {
		c.out.begun++
	}
	if !c.torn && (err == nil || errors.Is(err, errBroken)) {
		c.out.sent++
	}
	c.over = c.over || err != nil
}

// noReply stands for the code of a line that is no reply.
const noReply = 999

// await reads until the client has n replies, or can read no more.
func (c *client) await(n int) {
	for len(c.out.replies) < n {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.over = true
			return
		}
		c.out.text += line
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		code, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil {
			code = noReply
		}
		c.out.replies = append(c.out.replies, code)
	}
}
