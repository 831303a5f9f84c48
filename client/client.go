package client

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Client sends messages to one server, over one connection at a time. [Dial] makes one.
//
// A client does one thing at a time. It may be used by several goroutines, but a method that is called while another
// call runs returns [ErrBusy]. Close may be called at any time. The accessors, from Caps to RemoteAddr, may be called
// when no other call runs, and from the functions of a [Trace].
type Client struct {
	cfg    *config
	policy ext.Policy
	route  *route // to the server; nil: the connection was not made by Dial

	busy atomic.Bool // a call is running
	stop interrupter

	conn *conn // never nil; renew replaces it
}

// Close says QUIT, waits for the reply, and closes the connection. If another call is running, Close closes the
// connection at once, and that call fails with [ErrClosed]. The error is always nil: the reply to QUIT is of no
// interest.
func (c *Client) Close() error {
	if !c.busy.CompareAndSwap(false, true) {
		c.stop.close()
		return nil
	}
	defer c.busy.Store(false)
	c.conn.quit(context.Background())
	return nil
}

// Err returns why the client can send no more, or nil if it can as far as is known. An error wraps [ErrClosed], and the
// reason. Err sends nothing, and does not wait: it looks at what has come in, so that it knows of a server that has
// hung up or said 421 while the client had nothing to do. [Client.Noop] asks the server. While another call runs, Err
// returns nil. Err is a call too: one that begins while Err runs returns [ErrBusy].
func (c *Client) Err() error {
	if !c.busy.CompareAndSwap(false, true) {
		return nil
	}
	defer c.busy.Store(false)
	return c.conn.check(context.Background())
}

// enter is called at the beginning of each call, and leave at its end. If enter returns an error, the call must do
// nothing.
func (c *Client) enter(ctx context.Context) error {
	if !c.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	err := c.conn.check(ctx)
	if err != nil {
		c.busy.Store(false)
	}
	return err
}

func (c *Client) leave(ctx context.Context) {
	c.conn.leave(ctx)
	c.busy.Store(false)
}

// Caps returns what the server offered in its last reply to EHLO, less Options.Without.
func (c *Client) Caps() proto.Caps { return c.conn.session.caps }

// TLS returns the state of TLS, or nil if the connection has none.
func (c *Client) TLS() *tls.ConnectionState { return c.conn.tls }

// Verified reports whether the server's certificate was verified: by package crypto/tls, or by the functions for it in
// Options.TLSConfig if that has InsecureSkipVerify.
func (c *Client) Verified() bool { return c.conn.verified }

// ServerName returns the name that the server's certificate has to be for: the host that was dialled, unless
// Options.TLSConfig names another one. It is "" for a unix socket.
func (c *Client) ServerName() string { return c.policy.TLSConfig.ServerName }

// Identity returns the name that the client has authenticated as, or "".
func (c *Client) Identity() string { return c.conn.session.identity }

// LocalAddr returns the address of the client's end of the connection. It can be nil for a connection given to
// [NewClient].
func (c *Client) LocalAddr() net.Addr { return c.conn.raw.LocalAddr() }

// RemoteAddr returns the address of the server's end of the connection. It can be nil for a connection given to
// [NewClient].
func (c *Client) RemoteAddr() net.Addr { return c.conn.raw.RemoteAddr() }

// An interrupter lets Close end what another call waits for.
type interrupter struct {
	mu     sync.Mutex
	closed bool   // Close was called while another call was running
	stop   func() // ends the wait
}

// set makes stop what Close calls.
func (i *interrupter) set(stop func()) {
	i.mu.Lock()
	i.stop = stop
	closed := i.closed
	i.mu.Unlock()
	if closed {
		stop()
	}
}

func (i *interrupter) close() {
	i.mu.Lock()
	i.closed = true
	stop := i.stop
	i.mu.Unlock()
	stop()
}

func (i *interrupter) isClosed() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.closed
}
