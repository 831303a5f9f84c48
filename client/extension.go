package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// An extensionConn is a conn in the hands of an extension, which is called while the client is busy.
type extensionConn struct {
	c    *conn
	over *atomic.Bool // the call has returned, and the conn belongs to the client again
}

// A negotiation is the extensionConn that Negotiate is given.
type negotiation struct{ extensionConn }

var (
	_ ext.Client      = (*Client)(nil)
	_ ext.ClientConn  = extensionConn{}
	_ ext.Negotiation = negotiation{}
)

// lend calls f with c.
func lend(c *conn, f func(extensionConn) error) error {
	e := extensionConn{c: c, over: new(atomic.Bool)}
	defer e.over.Store(true)
	return f(e)
}

var errOver = errors.New("smtp: the call that was given this connection has returned: use the client")

func (e extensionConn) Caps() proto.Caps          { return e.c.session.caps }
func (e extensionConn) Policy() ext.Policy        { return e.c.policy }
func (e extensionConn) TLS() *tls.ConnectionState { return e.c.tls }
func (e extensionConn) Verified() bool            { return e.c.verified }
func (e extensionConn) Identity() string          { return e.c.session.identity }

func (e extensionConn) check(ctx context.Context) error {
	if e.over.Load() {
		return errOver
	}
	return e.c.check(ctx)
}

func (e extensionConn) Do(ctx context.Context, verb, args string) (proto.Reply, error) {
	if err := e.check(ctx); err != nil {
		return proto.Reply{}, err
	}
	return e.c.do(ctx, verb, args)
}

func (e extensionConn) Line(ctx context.Context, line string) (proto.Reply, error) {
	if err := e.check(ctx); err != nil {
		return proto.Reply{}, err
	}
	return e.c.line(ctx, line)
}

func (e extensionConn) Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	if err := e.check(ctx); err != nil {
		return err
	}
	return e.c.handOver(ctx, take)
}

func (n negotiation) Secret() { n.c.trace.secret = true }

func (n negotiation) Authenticated(identity string) {
	n.c.session.identity = identity
	n.c.altered = n.c.altered || !n.c.introducing
}

// do sends a command that the table knows by the name verb, and returns the reply.
func (c *conn) do(ctx context.Context, verb, args string) (proto.Reply, error) {
	v := c.cfg.set.Table().Lookup(verb)
	if err := c.permits(v, verb); err != nil {
		return proto.Reply{}, err
	}
	r, err := c.roundTrip(ctx, v, []byte(args))
	if err == nil && c.tx.State() == proto.Closed {
		c.fail(ctx, ErrClosed)
	}
	if err != nil || c.tx.State() != proto.Hello {
		return r, err
	}
	c.forget()
	return r, c.restart(ctx)
}

// permits returns why v must not be sent by do, or nil.
func (c *conn) permits(v *proto.Verb, name string) error {
	if v == nil {
		return fmt.Errorf("smtp: the command %q is unknown: add the extension it belongs to to Options.Extensions", name)
	}
	e, i := c.cfg.set.Owner(v)
	switch {
	case e != nil && !c.session.offer.Has(i):
		return &ext.UnsupportedError{Keyword: e.Keyword, What: "the command " + v.Name, Code: e.Missing}
	case v.Payload != nil || v.More == proto.Content:
		return fmt.Errorf("smtp: %s cannot be sent by Do, since content follows it: use Send", v.Name)
	case e == nil && v.In&proto.Hello != 0 && v.OK == proto.Ready && v.Last:
		return fmt.Errorf("smtp: %s cannot be sent by Do: Dial has done so", v.Name)
	case v.OK == proto.Closed:
		return fmt.Errorf("smtp: %s cannot be sent by Do: use Close", v.Name)
	case c.needsTLS() && v.OK != proto.Handover:
		return &ext.TLSError{Err: fmt.Errorf("it is required, and %s was to be sent before it was started", v.Name)}
	}
	return nil
}

// handOver gives the connection to take, and goes on with the one that take returns.
func (c *conn) handOver(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	if c.tx.State() != proto.Handover {
		return errors.New("smtp: there is nothing to hand over: no command that leads to it has succeeded")
	}
	if err := c.stopReading(func(p []byte) { feed(c.tx, p) }); err != nil {
		return c.fail(ctx, c.lost(err))
	}
	limited, cancel := withTimeout(ctx, c.cfg.Timeouts.Command)
	defer cancel()
	next, err := take(limited, ext.PrefixConn(c.conn, c.tx.Leftover()))
	if err == nil && next == nil {
		err = errors.New("smtp: the connection has not been returned")
	}
	if err != nil {
		return c.fail(ctx, err)
	}
	c.handovers++
	c.start(next)
	c.tx.Restart(proto.Hello)
	c.forget()
	c.secured(ctx, next)
	return c.restart(ctx)
}
