package client

import (
	"context"
	"errors"
	"fmt"
	"net"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Do sends a command and returns the reply, whatever its code. It is for the verbs of extensions, and for VRFY and the
// like. The error is not nil if there was no reply. Nothing has been sent if it is an *ext.UnsupportedError, because the
// verb belongs to an extension that the server does not offer, or if args have control characters in them.
//
// When the server takes no more messages over this connection, the command of an extension is sent over another one, as the
// message after it would be; see Send.
//
// Messages are sent by Send: a command that is followed by content is refused, and so are EHLO and QUIT. After a command
// whose success makes the session begin anew Do introduces the client again; an error of that comes with the reply, and closes
// the client.
func (c *Client) Do(ctx context.Context, verb, args string) (proto.Reply, error) {
	if err := c.begin(ctx); err != nil {
		return proto.Reply{}, err
	}
	defer c.end()
	return c.do(ctx, verb, args)
}

func (c *Client) do(ctx context.Context, verb, args string) (proto.Reply, error) {
	v := c.set.Table().Lookup(verb)
	if e, _ := c.set.Owner(v); e != nil && !c.greeting && c.spent() && c.renewable() == nil {
		// It may be about a message that follows, which could not be sent over this connection.
		if err := c.renew(ctx); err != nil {
			return proto.Reply{}, err
		}
	}
	if err := c.permit(v, verb); err != nil {
		return proto.Reply{}, err
	}
	r, err := c.exchange(ctx, v, []byte(args))
	if err == nil && c.tx.State() == proto.Closed {
		c.fail(ErrClosed)
	}
	if err != nil || c.tx.State() != proto.Hello {
		return r, err
	}
	c.forget()
	return r, c.again(ctx)
}

// again introduces the client after a command has made the session begin anew, unless Dial is about to.
func (c *Client) again(ctx context.Context) error {
	if c.greeting {
		return nil
	}
	c.altered = true
	err := c.introduce(ctx)
	if err != nil && c.broken == nil {
		// The session is not what it has to be, with authentication for instance.
		c.quit(ctx)
		c.broken = err
	}
	return err
}

// permit says why v must not be sent by Do, if so.
func (c *Client) permit(v *proto.Verb, name string) error {
	if v == nil {
		return fmt.Errorf("smtp: the command %q is unknown: add the extension it belongs to to Options.Extensions", name)
	}
	e, i := c.set.Owner(v)
	switch {
	case e != nil && !c.offer.Has(i):
		return &ext.UnsupportedError{Keyword: e.Keyword, What: "the command " + v.Name, Code: e.Missing}
	case v.Payload != nil || v.More == proto.Content:
		return fmt.Errorf("smtp: %s cannot be sent by Do, since content follows it: use Send", v.Name)
	case e == nil && v.In&proto.Hello != 0 && v.OK == proto.Ready && v.Last:
		return fmt.Errorf("smtp: %s cannot be sent by Do: Dial has done so", v.Name)
	case v.OK == proto.Closed:
		return fmt.Errorf("smtp: %s cannot be sent by Do: use Close", v.Name)
	case c.bare() && v.OK != proto.Handover:
		return &ext.TLSError{Err: fmt.Errorf("it is required, and %s was to be sent before it was started", v.Name)}
	}
	return nil
}

// exchange sends a command and returns the reply.
func (c *Client) exchange(ctx context.Context, v *proto.Verb, args []byte) (proto.Reply, error) {
	if err := c.command(ctx, v, args, expectation{verb: v}); err != nil {
		return proto.Reply{}, err
	}
	if err := c.drain(ctx); err != nil {
		return proto.Reply{}, err
	}
	return c.reply, nil
}

// Line sends a line of an exchange that a command has begun, and returns the reply.
func (c *Client) Line(ctx context.Context, line string) (proto.Reply, error) {
	if err := c.begin(ctx); err != nil {
		return proto.Reply{}, err
	}
	defer c.end()
	return c.line(ctx, line)
}

func (c *Client) line(ctx context.Context, line string) (proto.Reply, error) {
	out, err := c.tx.AppendLine(c.out, []byte(line))
	if err != nil {
		return proto.Reply{}, err
	}
	c.out = out
	c.expect(expectation{verb: exchangeLine})
	c.traceLine()
	if err := c.drain(ctx); err != nil {
		return proto.Reply{}, err
	}
	return c.reply, nil
}

// exchangeLine names a line of an exchange in errors.
var exchangeLine = &proto.Verb{Name: "a line of the exchange"}

// Noop asks for a sign of life. An error other than a refusal means that the connection is closed.
func (c *Client) Noop(ctx context.Context) error { return c.simple(ctx, "NOOP") }

// Reset makes the server forget what was said since the last message. Send does so where there is need; it is for
// transactions that were begun by Do.
func (c *Client) Reset(ctx context.Context) error { return c.simple(ctx, "RSET") }

func (c *Client) simple(ctx context.Context, verb string) error {
	r, err := c.Do(ctx, verb, "")
	if err != nil {
		return err
	}
	if r.Code/100 != 2 {
		return refusal(r, verb)
	}
	return nil
}

// Handover calls take with the connection after a command whose success means that it belongs to another protocol, such as
// TLS, and goes on with the connection that take returns, beginning with EHLO. What the server sent behind its last reply
// is what take reads first: a reply slipped in there breaks a handshake instead of being believed after it.
//
// An error of take, or nil for a connection, closes the client. It is for extensions.
func (c *Client) Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.end()
	return c.handOver(ctx, take)
}

func (c *Client) handOver(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	if c.tx.State() != proto.Handover {
		return errors.New("smtp: there is nothing to hand over: no command that leads to it has succeeded")
	}
	if err := c.stop(c.feed); err != nil {
		return c.fail(c.lost(err))
	}
	limited, cancel := withTimeout(ctx, c.cfg.Timeouts.Command)
	defer cancel()
	next, err := take(limited, ext.PrefixConn(c.conn, c.tx.Leftover()))
	if err == nil && next == nil {
		err = errors.New("smtp: the connection has not been returned")
	}
	if err != nil {
		return c.fail(err)
	}
	c.takeover++
	c.open(next)
	c.tx.Restart(proto.Hello)
	c.forget()
	c.secured(next)
	return c.again(ctx)
}

// Converse calls f with the connection, for a command of an extension that is more than one line and its reply. No other call
// can use the client meanwhile, and the connection must not be used after f has returned. Converse returns the error of f.
func (c *Client) Converse(ctx context.Context, f func(ctx context.Context, c ext.ClientConn) error) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.end()
	return f(ctx, dialogue{c})
}

// A dialogue is a client in the hands of an extension, which is called while the client is busy.
type dialogue struct{ *Client }

func (d dialogue) Do(ctx context.Context, verb, args string) (proto.Reply, error) {
	if err := d.check(ctx); err != nil {
		return proto.Reply{}, err
	}
	return d.do(ctx, verb, args)
}

func (d dialogue) Line(ctx context.Context, line string) (proto.Reply, error) {
	if err := d.check(ctx); err != nil {
		return proto.Reply{}, err
	}
	return d.line(ctx, line)
}

func (d dialogue) Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	return d.handOver(ctx, take)
}

// forget forgets what is known of a session that begins anew.
func (c *Client) forget() {
	c.caps, c.offer, c.groups, c.identity = proto.Caps{}, ext.Offer{}, false, ""
	c.bounds, c.mails, c.domains = ext.ServerLimits{}, 0, nil // limits are those of a session (RFC 9422)
	c.tx.SetGroups(false)
	c.tx.SetStatus(false)
}
