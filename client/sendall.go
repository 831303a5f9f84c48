package client

import (
	"context"
	"iter"

	"smtpkit.example/smtp/proto"
)

const (
	// maxAhead is how many octets may be on their way at once, whose outcome is not known. It is enough to keep a line
	// busy that carries 40 MB in a second and has a round trip of 50 ms.
	maxAhead = 2 << 20
	// messageCost is how many octets a message counts for besides its own: a bound for the number of small messages.
	messageCost = 512
	// growth is how many messages may follow one whose outcome is not known, for each that has ended.
	growth = 64
	// maxMessagesAhead is how many messages that follows from the two.
	maxMessagesAhead = maxAhead / messageCost
)

// SendAll sends messages one after the other, without waiting for the replies to one before it begins the next, as far
// as the protocol allows. A message costs one round trip if the server takes pipelined commands, and none if it takes
// content in chunks too. Nothing follows the first message of a session before its outcome is known. SendAll calls each
// with the outcome of every message, as Send would have returned it, in the order of the messages. When each returns
// false, SendAll begins no further message, and goes on to call each for those on their way.
//
// SendAll takes the next message from msgs before it knows the outcome of the one before, and before all of that one
// has been sent. About 2 MiB of messages may be on their way, and no more than 4096 messages. If the connection is
// lost, the outcome of all of these is in doubt. So msgs must not wait for outcomes. If msgs waits for something else,
// such as messages that have yet to be written, the replies to those on their way, and the last of their octets, wait
// too.
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
		s.add(ctx, m)
		s.throttle(ctx)
		if s.full || c.conn.closed != nil {
			break
		}
	}
	return s.finish(ctx)
}

// A stream is messages on their way.
type stream struct {
	c     *Client
	each  func(*Message, *Result, error) bool
	list  queue[*transaction] // those not reported yet
	ahead int                 // how many octets they count for
	full  bool                // each has returned false
}

// add begins to send m.
func (s *stream) add(ctx context.Context, m *Message) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	c := s.c.conn
	if !c.session.admits(m) {
		s.sendAlone(ctx, m)
		return
	}
	told := c.trace.message(ctx, m)
	t := newTransaction(c, m)
	t.told = told
	s.list.push(t)
	if t.stopped == nil {
		s.abandon(s.push(ctx, t))
	}
	s.ahead += t.cost()
}

// sendAlone sends a message that the server does not take behind the others: one that takes more than one transaction,
// or another connection.
func (s *stream) sendAlone(ctx context.Context, m *Message) {
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
}

// push sends t as far as that is possible without waiting for the replies to it.
func (s *stream) push(ctx context.Context, t *transaction) error {
	c := t.c
	if err := t.transmit(ctx); err != nil {
		return err
	}
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

// crowded reports whether too much is on its way for another message. Nothing follows the first message of a session
// before its outcome is known, and the more messages have ended, the more may be on their way: if the server turns out
// to send more replies than it owes, few messages are in doubt.
func (s *stream) crowded() bool {
	most := growth * s.c.conn.session.inStep
	return s.list.len() > most || s.list.len() > 0 && s.ahead >= maxAhead
}

// throttle deals with the replies that have come in, and waits for more while too much is on its way.
func (s *stream) throttle(ctx context.Context) {
	c := s.c.conn
	if c.closed == nil {
		if err := c.poll(ctx); err != nil {
			s.abandon(c.fail(ctx, err))
		}
	}
	for s.report(ctx); s.crowded() && c.closed == nil; s.report(ctx) {
		if len(c.out) > 0 {
			s.abandon(c.flush(ctx))
		} else {
			s.abandon(c.advance(ctx))
		}
	}
}

// abandon resolves what is on its way if err says that the connection is closed.
func (s *stream) abandon(err error) {
	if err == nil {
		return
	}
	last := s.list.len() - 1
	for i := range last + 1 {
		if t := *s.list.at(i); i == last || t.open > 0 { // a refusal that nobody waits for is about the last one
			t.abandon(err)
		}
	}
}

// report calls each with the outcomes that are known, in the order of the messages.
func (s *stream) report(ctx context.Context) {
	for s.list.len() > 0 {
		t := *s.list.first()
		if !t.done() && t.c.closed == nil {
			break
		}
		if t.c.closed == nil {
			if t.prove(ctx); t.c.closed != nil {
				s.abandon(t.c.closed)
			}
		}
		s.list.pop()
		s.ahead -= t.cost()
		m, told := t.m, t.told
		res, err := t.finish()
		if told != nil {
			told(res, err)
		}
		if !s.each(m, res, err) {
			s.full = true
		}
	}
}

// finish waits for what is on its way, and leaves the server ready for other messages.
func (s *stream) finish(ctx context.Context) error {
	s.drain(ctx)
	c := s.c.conn
	endTransaction(ctx, c)
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
		s.report(ctx)
		if !c.writing && c.waiting.len() == 0 {
			break
		}
		s.abandon(c.advance(ctx))
	}
	s.report(ctx)
}
