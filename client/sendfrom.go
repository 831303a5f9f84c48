package client

import (
	"context"
	"time"
)

// SendFrom sends messages that come in while others are on their way, until queue is closed. It is [Client.SendAll] for
// messages that are not there yet, such as those of other goroutines:
//
//	queue := make(chan *client.Delivery)
//	go c.SendFrom(ctx, queue, nil)
//	…
//	d := client.NewDelivery(ctx, m)
//	queue <- d
//	result, err := d.Wait()
//
// Unlike SendAll it deals with replies while it waits for a message. It takes no message from queue while as many are
// on their way as SendAll permits. If more is not nil, SendFrom calls it each time it is ready for another message,
// once for each: then a send to queue will not have to wait for long. Package pool sends over several connections in
// this way.
//
// Every message taken from queue gets its outcome, whatever happens. After a silence content waits for the server, as
// in [Client.Send]. Ctx bounds the whole: when it ends, the connection is closed. The context of a Delivery bounds only
// the wait for its outcome; its values reach the functions of a [Trace].
//
// SendFrom returns nil when queue was closed and all outcomes are known; the client can be used again then. It returns
// an error when the connection was closed or could not be used. A server that hangs up while nothing is on its way is
// noticed at once.
func (c *Client) SendFrom(ctx context.Context, queue <-chan *Delivery, more func()) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.leave(ctx)
	f := &feeder{stream: stream{c: c, each: settle}, queue: queue, more: more}
	for f.step(ctx) {
	}
	return f.finish(ctx)
}

// settle hands an outcome to the goroutine that waits for it.
func settle(m *Message, res *Result, err error) bool {
	m.delivery.finish(res, err)
	return true
}

// A feeder is a stream of messages from a channel.
type feeder struct {
	stream
	queue <-chan *Delivery // nil when it has been closed
	more  func()           // tells that a message is welcome
	told  bool             // more was called, and no message has come since
	heard int              // conn.heard, when it was looked at last
	spent time.Duration    // how long messages that came in have had the next reply waited for
}

// An intake is where a conn that waits for replies gets messages from.
type intake struct {
	queue  <-chan *Delivery // nil: none are welcome
	spent  time.Duration    // how much of the timeout has passed already
	got    *Delivery        // one that has come in
	closed bool             // there will not be another one
}

// step waits for one thing to happen, a message that comes in included, and deals with it. It reports false at
// the end: of the messages, or of the connection.
func (f *feeder) step(ctx context.Context) bool {
	c := f.c.conn
	if c.writeErr == nil && !c.writing {
		f.abandon(c.flush(ctx))
	}
	f.report(ctx)
	if c.closed != nil || f.queue == nil && f.list.len() == 0 {
		return false
	}
	if f.list.len() == 0 && c.idle.IsZero() {
		c.idle = time.Now()
	}
	if f.queue != nil && !f.crowded() {
		if !f.told && f.more != nil {
			f.more()
		}
		f.told = true
		if c.sent == 0 || c.heard != f.heard {
			f.heard, f.spent = c.heard, 0
		}
		c.intake = intake{queue: f.queue, spent: f.spent}
	}
	begun := time.Now()
	err := c.advance(ctx)
	in := c.intake
	c.intake = intake{}
	f.abandon(err)
	f.report(ctx)
	switch {
	case in.closed:
		f.queue = nil
	case in.got != nil:
		f.told = false
		f.spent += time.Since(begun)
		if err != nil {
			in.got.Fail(err)
			return false
		}
		f.add(in.got.in(ctx), &in.got.m)
	}
	return f.c.conn.closed == nil
}

// A messageContext is the context in which a message is sent: that of SendFrom, with the values of the message's own,
// for traces.
type messageContext struct {
	context.Context
	values context.Context
}

// in returns ctx with the values of the context of d.
func (d *Delivery) in(ctx context.Context) context.Context { return messageContext{ctx, d.ctx} }

// in returns ctx with the values of the message's own context.
func (t *transaction) in(ctx context.Context) context.Context {
	if t.m.delivery == nil {
		return ctx
	}
	return t.m.delivery.in(ctx)
}

func (m messageContext) Value(key any) any {
	if v := m.values.Value(key); v != nil {
		return v
	}
	return m.Context.Value(key)
}
