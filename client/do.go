package client

import (
	"context"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Do sends a command and returns the reply, whatever its code. It is for VRFY and for the commands of extensions. Send
// messages with Send: Do refuses commands that content follows, and EHLO and QUIT.
//
// The error is nil if there was a reply. Nothing was sent if the error is an *ext.UnsupportedError, because the server
// does not offer the extension that the verb belongs to, or if args has control characters in it.
//
// If the server takes no more messages over this connection, the command of an extension goes over a new one, as the
// next message would; see [Client.Send]. If the success of a command makes the session begin anew, as that of XCLIENT
// does, Do introduces the client again. An error of that comes with the reply, and the client is closed.
func (c *Client) Do(ctx context.Context, verb, args string) (proto.Reply, error) {
	if err := c.enter(ctx); err != nil {
		return proto.Reply{}, err
	}
	defer c.leave(ctx)
	if e, _ := c.cfg.set.Owner(c.cfg.set.Table().Lookup(verb)); e != nil {
		if err := c.makeRoom(ctx); err != nil {
			return proto.Reply{}, err
		}
	}
	return c.conn.do(ctx, verb, args)
}

// Converse calls f with the connection while the client is busy, and returns the error of f. It is for functions that
// send an extension's commands, such as ehlo.SendATRN, where one command and its reply are not enough; for those there
// is [Client.Do]. F must not use the client. The connection refuses to be used after f has returned.
func (c *Client) Converse(ctx context.Context, f func(context.Context, ext.ClientConn) error) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.leave(ctx)
	if err := c.makeRoom(ctx); err != nil {
		return err
	}
	return lend(c.conn, func(e extensionConn) error { return f(ctx, e) })
}

// makeRoom makes a new connection if the server takes no more messages over this one, and that is possible: what is
// about to be sent may be about the message that follows, which would have to go over another connection.
func (c *Client) makeRoom(ctx context.Context) error {
	if c.conn.tx.State() != proto.Ready || !c.conn.session.exhausted() || c.renewable() != nil {
		return nil
	}
	return c.renew(ctx)
}

// Noop asks the server for a sign of life. An error other than a refusal means that the client is closed.
func (c *Client) Noop(ctx context.Context) error { return c.simple(ctx, "NOOP") }

// Reset ends a transaction that was begun with Do. Send leaves none behind.
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
