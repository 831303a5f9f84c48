package client

import (
	"context"
	"iter"

	"smtpkit.example/smtp/proto"
)

// maxMessagesAhead is how many messages may be on their way at once.
const maxMessagesAhead = 100

// SendAll sends messages one after the other, without waiting for the replies to one before it begins the next, as far
// as the protocol allows. A message costs one round trip if the server takes pipelined commands, and none if it takes
// content in chunks too. SendAll calls each with the outcome of every message, as Send would have returned it, in the
// order of the messages. When each returns false, SendAll begins no further message.
//
// SendAll takes the next message from msgs before it knows the outcome of the one before, and before all of that one
// has been sent, up to 100 messages ahead. So msgs must not wait for outcomes. If msgs waits for something else, such
// as messages that have yet to be written, the replies to those on their way, and the last of their octets, wait too.
//
// The goroutine that calls SendAll calls msgs and each, and reads the bodies. None of these may use the client. A
// recipient for whom a transaction had no room has a *proto.Error with the code 452: send the message to it again
// later. What is beyond the limits that a server has stated is sent as by [Client.Send].
//
// The error is not nil if the connection was closed or could not be used. The outcomes of the messages on their way say
// so too; messages that were not taken from msgs are not begun.
func (c *Client) SendAll(ctx context.Context, msgs iter.Seq[*Message], each func(*Message, *Result, error) bool) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.leave(ctx)
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
	list []*transaction // those not reported yet, in order
	full bool           // each has returned false
}

// add begins to send m. It reports whether more messages are welcome.
func (s *stream) add(ctx context.Context, m *Message) bool {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	c := s.c.conn
	if !c.session.admits(m) {
		return s.sendAlone(ctx, m)
	}
	t := newTransaction(c, m)
	s.list = append(s.list, t)
	if t.stopped == nil {
		s.abandon(s.push(ctx, t))
	}
	s.abandon(s.throttle(ctx))
	s.report()
	return !s.full && c.closed == nil
}

// sendAlone sends a message that the server does not take behind the others: one that takes more than one transaction,
// or another connection.
func (s *stream) sendAlone(ctx context.Context, m *Message) bool {
	c := s.c
	limits := c.conn.session.limits
	s.drain(ctx)
	var res *Result
	var err error
	switch {
	case c.conn.closed != nil:
		res, err = unsent(m, &LimitError{limits, &closedError{c.conn.closed}})
	case s.full:
		res, err = unsent(m, &LimitError{limits, errUnwanted})
	default:
		res, err = c.send(ctx, m)
	}
	s.full = !s.each(m, res, err) || s.full
	return !s.full && c.conn.closed == nil
}

// push sends t as far as that is possible without waiting for the replies to it.
func (s *stream) push(ctx context.Context, t *transaction) error {
	c := t.c
	if err := t.transmit(ctx); err != nil {
		return err
	}
	t.body.close()
	if t.chunk != nil && !c.writing || len(c.out) >= blockSize {
		// While one write is under way, messages gather for the next. Content after DATA waits for the next message in any
		// case, whose envelope follows it in the same flight.
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	if c.cfg.Protocol == proto.LMTP {
		// A server may refuse the end of content with one reply, where there have to be as many as recipients. The client
		// would take the replies to what follows for those that the server owes.
		return c.drain(ctx)
	}
	return nil
}

// throttle deals with the replies that have come in, and waits for more while too many messages wait for theirs.
func (s *stream) throttle(ctx context.Context) error {
	c := s.c.conn
	if c.closed != nil {
		return nil
	}
	if err := c.poll(ctx); err != nil {
		return c.fail(ctx, err)
	}
	for len(s.list) >= maxMessagesAhead && !s.list[0].done() {
		if err := c.flush(ctx); err != nil {
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

// abandon resolves what is on its way if err says that the connection is closed.
func (s *stream) abandon(err error) {
	if err == nil {
		return
	}
	for _, t := range s.list {
		t.abandon(err)
	}
}

// report calls each with the outcomes that are known, in the order of the messages.
func (s *stream) report() {
	for len(s.list) > 0 && (s.list[0].done() || s.list[0].c.closed != nil) {
		t := s.list[0]
		s.list = s.list[1:]
		res, err := t.result()
		if !s.each(t.m, res, err) {
			s.full = true
		}
	}
}

// finish waits for what is on its way, and leaves the server ready for other messages.
func (s *stream) finish(ctx context.Context) error {
	s.drain(ctx)
	c := s.c.conn
	if c.closed == nil && c.unready() {
		if c.reset(ctx) == nil {
			_ = c.drain(ctx)
		}
	}
	return c.closed
}

// drain waits for what is on its way.
func (s *stream) drain(ctx context.Context) {
	c := s.c.conn
	for c.closed == nil {
		if err := c.flush(ctx); err != nil {
			s.abandon(err)
			break
		}
		s.report()
		if !c.writing && c.waiting.len() == 0 {
			break
		}
		s.abandon(c.advance(ctx))
	}
	s.report()
}
