package client

import "context"

// Send connects to the server at addr, sends a message, and says QUIT. The error is nil if all recipients were
// accepted. Addr and opt are those of [Dial].
//
// If a session came about, the error is a *SendError, whose Result tells the outcome for each recipient. Otherwise it
// is that of Dial. To send more than one message, or to see the reply to it, use a [Client].
//
// The timeouts allow a slow server several minutes for each step, as RFC 5321 wants it. Give ctx a deadline if somebody
// waits for the outcome.
func Send(ctx context.Context, addr string, opt *Options, m *Message) error {
	c, err := Dial(ctx, addr, opt)
	if err != nil {
		return err
	}
	defer func() { c.conn.quit(ctx) }() // the connection that the client has then: renew replaces it
	_, err = c.Send(ctx, m)
	return err
}

// Send sends a message. The result tells the outcome for each recipient, whatever happened. The error is nil if all
// recipients were accepted, and a *SendError otherwise. The recipients that the server accepts get the message even if
// it refuses others, unless the message has AllOrNone.
//
// If the connection has had nothing to do for five seconds, the content is not sent before the server has answered the
// envelope, which may cost a round trip: a connection that turns out to be dead leaves no message in doubt.
//
// A message may have more recipients than a server takes in one transaction. If the server says so when it is offered
// them, and Body can be read again, the others are sent the message in further transactions (RFC 5321 section
// 4.5.3.1.8). With such a Body no transaction has more than 1000 recipients, unless the server has said that it takes
// them.
//
// The client keeps to the limits that a server states (RFC 9422). If the server takes no more over this connection, the
// client says QUIT and makes a new connection with the same Options. It does so only if Dial made the connection and
// the session is still as Dial left it: not if a command sent with Do has made it begin anew. Other commands sent with
// Do are not repeated on the new connection. A recipient that was not offered to the server has a [LimitError].
//
// The client can be used again afterwards, with or without an error, unless it was closed. Then later calls return an
// error that wraps ErrClosed. Send closes the client
//   - if the server is too slow, does not follow the protocol, or says 421,
//   - if ctx ends while it waits,
//   - if the server refuses the content that follows DATA before all of it was sent,
//   - if Body fails after the server was told that content follows DATA: to end the content would send half a message.
func (c *Client) Send(ctx context.Context, m *Message) (*Result, error) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	if err := c.enter(ctx); err != nil {
		return unsent(m, err)
	}
	defer c.leave(ctx)
	return c.send(ctx, m)
}

func (c *Client) send(ctx context.Context, m *Message) (*Result, error) {
	told := c.conn.trace.message(ctx, m)
	res, err := c.transact(ctx, m)
	if told != nil {
		told(res, err)
	}
	return res, err
}

// transact is send without the trace of the outcome.
func (c *Client) transact(ctx context.Context, m *Message) (*Result, error) {
	if !c.conn.session.admits(m) {
		return c.sendParts(ctx, m)
	}
	t := newTransaction(c.conn, m)
	t.run(ctx)
	if len(t.deferred) == 0 {
		return t.finish()
	}
	p := &parts{c: c, m: m, res: t.res}
	p.merge(t, everyone(m), nil)
	return p.send(ctx)
}
