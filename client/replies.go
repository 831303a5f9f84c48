package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"smtpkit.example/smtp/proto"
)

// An answerer is what a reply is for.
type answerer interface {
	// sent is called when what the reply answers is about to be written.
	sent()
	// answered is called with the reply; due is the number of further replies to the same. An error closes the connection.
	answered(ctx context.Context, r proto.RawReply, due int) error
	// timeout returns which of the timeouts bounds the wait for the reply.
	timeout(t *Timeouts) time.Duration
}

// An expectation is a reply outstanding. Expectations stand in the order of the commands, and replies come in that
// order.
type expectation struct {
	answerer
	verb *proto.Verb // the command, or the one that the content or the line belongs to; nil for the greeting
	name string      // what is answered, for errors
}

// contentName is the name of content in errors, where other replies have that of a verb.
const contentName = "content"

// The lastReplies are the last replies of two kinds, of which each message has some.
type lastReplies struct {
	rcpt    proto.Reply // to RCPT
	content proto.Reply // to content
}

// A plainReply keeps the reply to a command that is not part of a transaction.
type plainReply struct{ c *conn }

func (p plainReply) sent() {}

func (p plainReply) answered(_ context.Context, r proto.RawReply, _ int) error {
	p.c.reply = r.Reply()
	return nil
}

func (p plainReply) timeout(t *Timeouts) time.Duration { return t.Command }

// A greetingReply keeps the greeting.
type greetingReply struct{ plainReply }

func (g greetingReply) timeout(t *Timeouts) time.Duration { return t.Greeting }

// A quitReply keeps the reply to QUIT.
type quitReply struct{ plainReply }

func (q quitReply) timeout(t *Timeouts) time.Duration { return t.Quit }

// A retractor is something that was accepted too early, if the write in hand fails.
type retractor interface {
	retract()
}

// lingerTimeout is how long a connection may take that is about to end, or has no reason to take any time at all.
const lingerTimeout = 10 * time.Second

// timeout returns how long the next thing to happen may take, negative if for ever.
func (c *conn) timeout() time.Duration {
	t := &c.cfg.Timeouts
	switch {
	case c.writeErr != nil, c.readErr != nil,
		c.writing && c.waiting.len() == 0 && c.tx.State() != proto.Content:
		return lingerTimeout // the server has said all it is going to say, or is about to say why it hung up
	case c.leaving:
		return t.Quit
	case c.intake.queue != nil && !c.writing && c.waiting.len() == 0:
		return -1
	case c.writing || c.waiting.len() == 0:
		return t.Block
	}
	e := c.waiting.first()
	d := e.timeout(t)
	if owner, _ := c.cfg.set.Owner(e.verb); owner != nil && d >= 0 {
		d = max(d, owner.MinTimeout)
	}
	return d
}

// doing describes what is being waited for.
func (c *conn) doing() string {
	switch {
	case c.waiting.len() > 0 && c.sent > 0:
		return "waiting for the reply to " + c.waiting.first().name
	case c.writing:
		return "sending"
	}
	return "idle"
}

// step waits for one thing to happen: a reply, which is dealt with, or the end of a write. What has happened already
// needs no timer.
func (c *conn) step(ctx context.Context) error {
	for c.readErr == nil {
		if ok, err := c.next(ctx); ok || err != nil {
			return err
		}
		select {
		case in, ok := <-c.in:
			c.receive(in, ok)
			continue
		case err := <-c.wrote:
			if c.written(err) {
				c.early = nil
				return nil
			}
		default:
		}
		break
	}
	return c.wait(ctx)
}

// wait is step with a limit to the time that it takes, which may be a message that comes in too.
func (c *conn) wait(ctx context.Context) error {
	ending := c.readErr != nil || c.writeErr != nil
	var late <-chan time.Time
	if d := c.timeout(); d >= 0 {
		c.timer.Reset(max(0, d-c.intake.spent))
		defer c.timer.Stop()
		late = c.timer.C
	}
	for {
		if ok, err := c.next(ctx); ok || err != nil {
			return err
		}
		input := c.in
		if c.readErr != nil {
			if !c.writing {
				return c.lost(c.readErr)
			}
			input = nil // all replies may be in, and then it matters whether all was sent that they answer
		}
		select {
		case in, ok := <-input:
			c.receive(in, ok)
		case err := <-c.wrote:
			if c.written(err) {
				c.early = nil
				return nil
			}
		case d, ok := <-c.intake.queue:
			c.intake.got, c.intake.closed = d, !ok
			return nil
		case <-ctx.Done():
			return c.lost(ctx.Err())
		case <-late:
			return c.lost(cmp.Or(c.readErr, c.writeErr, os.ErrDeadlineExceeded))
		}
		if !ending && (c.readErr != nil || c.writeErr != nil) {
			ending = true
			c.timer.Reset(lingerTimeout)
			late = c.timer.C
		}
	}
}

// next deals with the next reply that is complete, if there is one.
func (c *conn) next(ctx context.Context) (ok bool, err error) {
	ev := c.tx.Next()
	switch ev.Kind {
	case proto.Answer:
		return true, c.answered(ctx, &ev)
	case proto.Fatal:
		return false, &ProtocolError{Err: explainReply(ev.Err.Err)}
	}
	return false, nil
}

// explainReply adds to the error for a malformed reply which option tolerates it.
func explainReply(err error) error {
	if errors.Is(err, proto.ErrLaxReply) {
		return fmt.Errorf("%w: if the server is known for that, set Limits.LaxReplies of the Options", err)
	}
	return err
}

// receive hands input to the engine.
func (c *conn) receive(in input, ok bool) {
	if !ok {
		c.readErr = io.ErrUnexpectedEOF
		return
	}
	feed(c.tx, in.p)
	if in.err != nil {
		c.readErr = in.err
		return
	}
	c.more <- struct{}{}
}

// feed gives the engine p.
func feed(tx *proto.Sender, p []byte) {
	for len(p) > 0 {
		n := copy(tx.Space(), p)
		tx.Filled(n)
		p = p[n:]
	}
}

func (c *conn) lost(err error) error { return &LostError{Doing: c.doing(), Err: err} }

// poll deals with what has been received so far, without waiting.
func (c *conn) poll(ctx context.Context) error {
	for {
		ok, err := c.next(ctx)
		switch {
		case err != nil:
			return err
		case ok:
			continue
		case c.readErr != nil:
			return c.lost(c.readErr)
		}
		select {
		case in, ok := <-c.in:
			c.receive(in, ok)
		default:
			return nil
		}
	}
}

// advance is step for callers that are done with the connection if it fails.
func (c *conn) advance(ctx context.Context) error {
	if c.closed != nil {
		return c.closed
	}
	if err := c.step(ctx); err != nil {
		return c.fail(ctx, err)
	}
	return nil
}

// errEarly is the cause of the error if a success comes before what it answers has been sent.
var errEarly = fmt.Errorf("%w: it came before what it answers had been sent", proto.ErrOutOfStep)

// answered hands a reply to what it answers.
func (c *conn) answered(ctx context.Context, ev *proto.Event) error {
	c.heard++
	state := c.tx.State()
	if c.waiting.len() == 0 || c.sent == 0 && ev.Reply.Code >= 400 {
		return c.unsolicited(ctx, ev.Reply)
	}
	e := *c.waiting.first()
	closed := state == proto.Closed
	c.trace.answer(ctx, &e, ev.Reply, state)
	if state == proto.Exchange {
		c.exchange = e.verb
	}
	if c.sent == 0 && !closed {
		return &ProtocolError{Err: errEarly}
	}
	if ev.Due == 0 || closed {
		c.waiting.pop()
		c.sent = max(c.sent-1, 0)
	}
	if err := e.answered(ctx, ev.Reply, ev.Due); err != nil {
		return err
	}
	if _, ok := e.answerer.(quitReply); closed && !ok {
		return refusal(ev.Reply.Reply(), e.name)
	}
	return nil
}

// unsolicited deals with a reply while none is due: nothing has been sent that waits for one, whatever has been
// appended. Those that pass are a refusal in the middle of content, and one between commands: 421, or what servers say
// in place of it to a client that was silent for too long. The server has ended the session, and that is the error.
// Nothing is in doubt.
func (c *conn) unsolicited(ctx context.Context, r proto.RawReply) error {
	e := c.uploading
	if c.waiting.len() > 0 && c.waiting.first().name == contentName {
		e = *c.waiting.first() // the end of the content has been appended, and a part of the content sent
	}
	c.trace.reply(ctx, e.verb, r, c.tx.State())
	refused := refusal(r.Reply(), e.name)
	if e.answerer != nil {
		if err := e.answered(ctx, r, 0); err != nil {
			return err
		}
		return refused
	}
	if !refused.Temporary() {
		// It is not about the message whose turn it would have been.
		return &LostError{Doing: c.doing(), Err: refused}
	}
	return refused
}
