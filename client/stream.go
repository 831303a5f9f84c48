package client

import (
	"context"
	"iter"

	"smtpkit.example/smtp/proto"
)

// messagesAhead is how many messages may be on their way at once.
const messagesAhead = 100

// SendAll sends messages one behind the other, without waiting for the replies to one before it begins the next as far as
// the protocol allows: a message costs one round trip where the server takes groups of commands, and none where it takes
// content in chunks too. It calls each with the outcome of every message, as Send would have returned it, in the order of
// the messages. When each returns false, no further message is begun.
//
// The next message is taken from msgs before the outcome of the last one is known, and before all of that has left, up to
// 100 of them ahead; so msgs must not wait for outcomes, and is not for messages that have yet to come in. Msgs, each and
// the bodies of the messages are used by the goroutine that calls SendAll, and must not use the client. Recipients for
// which a transaction had no room are left to the caller; see [Temporary]. What is beyond limits that the server has stated
// is sent as by Send.
//
// The error is not nil if the connection was closed or could not be used. The outcomes of the messages on their way say so
// too; those not taken from msgs are not begun.
func (c *Client) SendAll(ctx context.Context, msgs iter.Seq[*Message], each func(*Message, *Result, error) bool) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.end()
	s := &stream{c: c, each: each}
	for m := range msgs {
		if !s.add(ctx, m) {
			break
		}
	}
	return s.finish(ctx)
}

// A stream is messages on their way.
type stream struct {
	c    *Client
	each func(*Message, *Result, error) bool
	list []*delivery // those not reported yet, in order
	full bool        // each has returned false
}

// add begins to send m. It reports whether more messages are welcome.
func (s *stream) add(ctx context.Context, m *Message) bool {
	c := s.c
	if !c.admits(m) {
		return s.apart(ctx, m)
	}
	d := c.prepare(m)
	s.list = append(s.list, d)
	if d.stopped == nil {
		s.broken(s.push(ctx, d))
	}
	s.broken(s.room(ctx))
	s.report()
	return !s.full && c.broken == nil
}

// apart sends a message by itself that the server does not take behind the others: it takes more than one transaction, or
// another connection.
func (s *stream) apart(ctx context.Context, m *Message) bool {
	c := s.c
	limits := c.bounds
	s.settle(ctx)
	var res *Result
	var err error
	switch {
	case c.broken != nil:
		res, err = unsent(m, &LimitError{limits, &closedError{c.broken}})
	case s.full:
		res, err = unsent(m, &LimitError{limits, errUnwanted})
	default:
		res, err = c.send(ctx, m)
	}
	s.full = !s.each(m, res, err) || s.full
	return !s.full && c.broken == nil
}

func (s *stream) push(ctx context.Context, d *delivery) error {
	c := s.c
	if err := c.transmit(ctx, d); err != nil {
		return err
	}
	d.body.close()
	if d.verb != nil && !c.writing || len(c.out) >= blockSize {
		// While one write is under way, messages gather for the next. Content after DATA waits for the next
		// message in any case, whose envelope follows it in the same flight.
		if err := c.launch(ctx); err != nil {
			return err
		}
	}
	if c.cfg.Protocol == proto.LMTP {
		// A server that refuses the end of content with one reply, where there have to be as many as recipients, would
		// have us take the replies to what follows for those that it owes.
		return c.drain(ctx)
	}
	return nil
}

// room deals with the replies that have come in, and waits for more while too many messages wait for theirs.
func (s *stream) room(ctx context.Context) error {
	c := s.c
	if c.broken != nil {
		return nil
	}
	if err := c.poll(); err != nil {
		return c.fail(err)
	}
	for len(s.list) >= messagesAhead && !s.list[0].done() {
		if err := c.launch(ctx); err != nil {
			return err
		}
		if s.list[0].done() {
			break
		}
		if err := c.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// broken settles what is on its way if the connection is closed.
func (s *stream) broken(err error) {
	if err == nil {
		return
	}
	for _, d := range s.list {
		d.abandon(err)
	}
}

// report reports what is done.
func (s *stream) report() {
	for len(s.list) > 0 && (s.list[0].done() || s.c.broken != nil) {
		d := s.list[0]
		s.list = s.list[1:]
		res, err := d.outcome()
		if !s.each(d.m, res, err) {
			s.full = true
		}
	}
}

// finish waits for what is on its way, and leaves the server ready for other messages.
func (s *stream) finish(ctx context.Context) error {
	c := s.c
	s.settle(ctx)
	if c.broken == nil && c.unready() {
		if c.reset(ctx) == nil {
			_ = c.drain(ctx)
		}
	}
	return c.broken
}

// settle waits for what is on its way.
func (s *stream) settle(ctx context.Context) {
	c := s.c
	for c.broken == nil {
		if err := c.launch(ctx); err != nil {
			s.broken(err)
			break
		}
		s.report()
		if !c.writing && c.waiting.len() == 0 {
			break
		}
		s.broken(c.advance(ctx))
	}
	s.report()
}
