package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// extension has an extension serve one of its verbs.
func (c *Conn) extension(ev proto.Event, e *ext.Extension) {
	if e.Serve == nil {
		c.account(ev.Verb, errNotServed.Reply())
		return
	}
	x := &c.exchange
	x.verb, x.args, x.handed, x.greets = ev.Verb, string(ev.Args), false, false
	if ev.Payload >= 0 && !c.swallow(ev.Payload, errNotServed) {
		return // there is no way to get at the payload other than as a chunk
	}
	c.watch.arm()
	r, err := e.Serve(c.ctx, x)
	c.watch.disarm()
	switch {
	case c.err != nil:
	case x.handed:
		c.anew()
	default:
		c.rx.SetStatus(c.status && !x.greets) // RFC 2034 section 4: not in a greeting
		c.account(x.verb, c.served(e.Keyword, r, err))
		c.rx.SetStatus(c.status)
		c.asked = false
	}
}

// served returns the reply for what Serve of the extension called keyword has returned.
func (c *Conn) served(keyword string, r proto.Reply, err error) proto.Reply {
	switch {
	case err == nil && r.Code/100 == 2:
		return c.replyTo(keyword, r.Err(), okPlain)
	case err == nil && r.Code != 0:
		err = fmt.Errorf("smtp: the extension answers with %d, which is no reply of success: return an error to refuse", r.Code)
	case asError(err) != nil && !isRefusal(asError(err).Code):
		err = fmt.Errorf("smtp: the extension refuses with %d: return a proto.Reply for success", asError(err).Code)
	}
	return c.replyTo(keyword, err, okPlain)
}

// anew goes on with another session after a hand-over.
func (c *Conn) anew() {
	c.endTransaction()
	c.endSession()
	if e := c.newSession(); e != nil {
		c.refusal = e
	}
}

// An exchange is the command that an extension serves. A connection has one, since it carries out one at a time.
type exchange struct {
	*Conn
	verb   *proto.Verb
	args   string
	handed bool // the connection has been handed over
	greets bool // the reply is a greeting
}

var _ ext.Command = (*exchange)(nil)

func (x *exchange) Verb() *proto.Verb { return x.verb }

func (x *exchange) Args() string { return x.args }

func (x *exchange) Authenticated(identity string) { x.identity = identity }

func (x *exchange) AuthFailed() int {
	x.failed++
	return x.failed
}

func (x *exchange) PermitUTF8() { x.asked = true }

func (x *exchange) Table() *proto.Table { return x.srv.set.Table() }

func (x *exchange) Serves(v *proto.Verb) bool {
	e, i := x.srv.set.Owner(v)
	if e == nil {
		return true
	}
	o, _ := x.srv.set.Offer(x)
	return o.Has(i)
}

func (x *exchange) Challenge(_ context.Context, r proto.Reply) (string, error) {
	c := x.Conn
	c.watch.disarm()
	defer c.watch.arm()
	if err := x.send(r, proto.Exchange); err != nil {
		return "", err
	}
	switch ev := c.next(false); {
	case ev.Kind == proto.Line && ev.Err != nil:
		return "", ev.Err
	case ev.Kind == proto.Line:
		return string(ev.Data), nil
	case ev.Kind == proto.Fatal:
		c.fatal(ev)
	}
	return "", x.lost()
}

// send sends r, which must lead to the state s.
func (x *exchange) send(r proto.Reply, s proto.State) error {
	c := x.Conn
	if c.err != nil {
		return x.lost()
	}
	if next, ok := x.verb.After(x.verb.In, r.Code); !ok || next != s {
		return fmt.Errorf("smtp: the reply %d to %s does not lead to %v: look at the row of the verb",
			r.Code, x.verb.Name, s)
	}
	out, err := c.rx.AppendReply(c.out, r)
	if err != nil {
		return fmt.Errorf("smtp: the reply %d to %s: %w", r.Code, x.verb.Name, err)
	}
	c.out = out
	c.traceReply(r)
	c.flush()
	if c.err != nil {
		return x.lost()
	}
	return nil
}

// lost returns why the connection is at its end.
func (x *exchange) lost() error {
	if e := asError(x.err); e != nil {
		return e
	}
	return io.ErrUnexpectedEOF
}

type takeFunc = func(context.Context, net.Conn) (net.Conn, error)

func (x *exchange) Handover(_ context.Context, r proto.Reply, take takeFunc) error {
	c := x.Conn
	c.watch.disarm()
	defer c.watch.arm()
	if err := x.send(r, proto.Handover); err != nil {
		return err
	}
	nc, err := x.hand(take)
	if err != nil {
		// Whatever was said now would be said in clear to whom it may concern.
		c.srv.opt.Logger.Info("smtp: hand-over failed", "remote", addrString(c.raw), "verb", x.verb.Name, "err", err)
		c.end(fmt.Errorf("smtp: %s: %w", x.verb.Name, err))
		return err
	}
	c.use(nc)
	c.rx.Restart(proto.Hello)
	c.setStatus(c.srv.status)
	c.forgetClient()
	if c.origin != nil {
		o := *c.origin
		o.Protocol, o.Hello, o.Login = "", "", "" // said in the session that is over
		c.origin = &o
	}
	x.handed = true
	return nil
}

func (x *exchange) Restart(_ context.Context, o *ext.Origin) (proto.Reply, error) {
	c := x.Conn
	if next, _ := x.verb.After(x.verb.In, 220); next != proto.Hello {
		return proto.Reply{}, fmt.Errorf("smtp: the session cannot begin anew after %s: its success does not lead to %v", x.verb.Name, proto.Hello)
	}
	c.watch.disarm()
	defer c.watch.arm()
	c.endTransaction()
	c.endSession()
	c.forgetClient()
	c.setStatus(c.srv.status)
	c.origin, c.hello = o, o.Hello
	if c.identity = o.Login; o.Login == ext.Unavailable {
		c.identity = ""
	}
	if c.hello == ext.Unavailable {
		c.hello = ""
	}
	x.greets = true
	r := c.begin()
	if isRefusal(r.Code) {
		return proto.Reply{}, r.Err()
	}
	return r, nil
}

func (x *exchange) Surrender(_ context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error {
	c := x.Conn
	c.watch.disarm()
	if err := x.send(r, proto.Handover); err != nil {
		return err
	}
	_ = c.nc.SetDeadline(time.Time{})
	err := serve(c.ctx, x.rest())
	if err == nil {
		c.quit = true
		c.end(errSurrendered)
		return nil
	}
	c.srv.opt.Logger.Info("smtp: the connection given away failed", "remote", addrString(c.raw), "verb", x.verb.Name, "err", err)
	c.end(fmt.Errorf("smtp: %s: %w", x.verb.Name, err))
	return err
}

// errSurrendered is why a connection is at its end that was given away.
var errSurrendered = errors.New("smtp: the connection was given away")

// hand calls take with the connection.
func (x *exchange) hand(take takeFunc) (net.Conn, error) {
	c := x.Conn
	if !c.shake(true) {
		return nil, ErrServerClosed
	}
	defer c.shake(false)
	var deadline time.Time
	if t := c.srv.opt.HandshakeTimeout; t > 0 {
		deadline = time.Now().Add(t)
	}
	_ = c.nc.SetDeadline(deadline)
	ctx, cancel := c.handshakeContext()
	defer cancel()
	given := &showing{x.rest(), c}
	next, err := take(ctx, given)
	if next == net.Conn(given) {
		next = given.Conn
	}
	if err == nil && next == nil {
		err = errors.New("smtp: the connection was not given back")
	}
	if err == nil {
		_ = c.nc.SetDeadline(time.Time{})
	}
	return next, err
}

// rest returns the connection, which reads first what was read of it already.
func (x *exchange) rest() net.Conn {
	c := x.Conn
	if first := append(c.rx.Leftover(), c.watch.leftover()...); len(first) > 0 {
		return ext.PrefixConn(c.nc, first)
	}
	return c.nc
}
