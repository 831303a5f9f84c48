package client

import (
	"context"
	"errors"

	"smtpkit.example/smtp/proto"
)

// A resetState is what a server is known to make of RSET, which it must not refuse (RFC 5321 section 4.1.1.5). Some do.
type resetState uint8

const (
	resetUntried resetState = iota
	resetTaken
	resetRefused
)

// A resetReply is the reply to RSET. A refusal means that the transaction goes on: what has been sent behind RSET is
// taken for a part of it, and the outcome of that is not known.
type resetReply struct{ plainReply }

func (p resetReply) answered(_ context.Context, r proto.RawReply, _ int) error {
	c := p.c
	switch {
	case c.tx.State() == proto.Closed:
	case r.Code < 400:
		c.session.resets = resetTaken
	case c.sent > 0:
		return breach(refusal(r.Reply(), c.cfg.verbs.rset.Name))
	default:
		c.session.resets, c.dirty = resetRefused, true
	}
	return nil
}

// unready reports whether the transaction before has to be ended before another message.
func (c *conn) unready() bool { return c.dirty || c.tx.Ahead() != proto.Ready }

// reset ends a transaction. It appends RSET. Other commands may follow at once if the server is known to take it, or if
// something is outstanding, so that nobody waits for that. Otherwise reset waits for the reply. If that is a refusal,
// and from then on, EHLO takes the place of RSET: it does the same (RFC 5321 section 4.1.4).
func (c *conn) reset(ctx context.Context) error {
	if c.session.resets != resetRefused {
		alone := c.waiting.len() == 0
		c.dirty = false
		if err := c.command(ctx, c.cfg.verbs.rset, nil, resetReply{plainReply{c}}); err != nil {
			return c.fail(ctx, err)
		}
		if c.session.pipelining && (c.session.resets == resetTaken || !alone) {
			return nil
		}
		if err := c.drain(ctx); err != nil {
			return err
		}
		if c.session.resets == resetTaken {
			return nil
		}
	}
	if err := c.ehlo(ctx); err != nil {
		return c.fail(ctx, breach(err))
	}
	c.dirty = false
	return nil
}

// breach returns a refusal that the protocol does not permit as a ProtocolError, and other errors as they are. The
// error does not wrap the refusal, which would pass for one of the message in hand.
func breach(err error) error {
	if e, ok := err.(*proto.Error); ok {
		return &ProtocolError{Err: errors.New(e.Error())}
	}
	return err
}

// endTransaction leaves the server ready for another message.
func endTransaction(ctx context.Context, c *conn) {
	// RSET, and EHLO if a server refuses it that has taken it before.
	for range 2 {
		if c.closed != nil || !c.unready() || c.reset(ctx) != nil || c.drain(ctx) != nil {
			return
		}
	}
}
