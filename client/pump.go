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

// A role is what a reply outstanding means to the client.
type role uint8

const (
	plain    role = iota // kept in Client.reply
	greeting             // likewise
	quit                 // likewise, and the end of the connection is no failure
	rset                 // cannot be refused
	mail
	rcpt
	data
	chunk   // a chunk that is not the last one
	content // the end of content, or the last chunk
)

// An expectation is a reply outstanding. Expectations stand in the order of the commands, and so will the replies.
type expectation struct {
	role role
	i    int32     // of rcpt: which one
	d    *delivery // that it belongs to, if any
	verb *proto.Verb
}

func (e expectation) name() string {
	switch {
	case e.role == greeting:
		return "the greeting"
	case e.verb == nil:
		return contentName
	}
	return e.verb.Name
}

// contentName stands for a verb in errors when content has been answered.
const contentName = "content"

// A queue is expectations in their order.
type queue struct {
	list []expectation
	head int
}

func (q *queue) len() int            { return len(q.list) - q.head }
func (q *queue) first() *expectation { return &q.list[q.head] }

func (q *queue) push(e expectation) {
	if q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
	q.list = append(q.list, e)
}

func (q *queue) pop() {
	q.list[q.head] = expectation{}
	q.head++
}

// expect notes that a reply is outstanding to what has just been appended to c.out.
func (c *Client) expect(e expectation) {
	c.waiting.push(e)
	if e.d != nil {
		e.d.open++
	}
}

// grace is how long a connection may take that is about to end, or has no reason to take any time at all.
const grace = 10 * time.Second

// patience returns how long the next thing to happen may take, negative if for ever.
func (c *Client) patience() time.Duration {
	t := &c.cfg.Timeouts
	switch {
	case c.writeErr != nil, c.readErr != nil,
		c.writing && c.waiting.len() == 0 && c.tx.State() != proto.Content:
		return grace // the server has said all it is going to say, or is about to say why it hung up
	case c.leaving:
		return t.Quit
	case c.writing || c.waiting.len() == 0:
		return t.Block
	}
	switch c.waiting.first().role {
	case greeting:
		return t.Greeting
	case mail:
		return t.Mail
	case rcpt:
		return t.Rcpt
	case data:
		return t.Data
	case chunk, content:
		return t.Content
	case quit:
		return t.Quit
	}
	if e, _ := c.set.Owner(c.waiting.first().verb); e != nil && t.Command >= 0 {
		return max(t.Command, e.MinTimeout)
	}
	return t.Command
}

// doing describes what is being waited for.
func (c *Client) doing() string {
	switch {
	case c.waiting.len() > 0 && c.flown > 0:
		return "waiting for the reply to " + c.waiting.first().name()
	case c.writing:
		return "sending"
	}
	return "idle"
}

// step waits for one thing to happen: a reply, which is dealt with, or the end of a write.
func (c *Client) step(ctx context.Context) error {
	ending := c.readErr != nil || c.writeErr != nil
	var late <-chan time.Time
	if d := c.patience(); d >= 0 {
		c.timer.Reset(d)
		defer c.timer.Stop()
		late = c.timer.C
	}
	for {
		if ok, err := c.next(); ok || err != nil {
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
			c.take(in, ok)
		case err := <-c.wrote:
			c.writing = false
			c.writeErr = err
			if err == nil {
				c.claim = nil
				return nil
			}
		case <-ctx.Done():
			return c.lost(ctx.Err())
		case <-late:
			return c.lost(cmp.Or(c.readErr, c.writeErr, os.ErrDeadlineExceeded))
		}
		if !ending && (c.readErr != nil || c.writeErr != nil) {
			ending = true
			c.timer.Reset(grace)
			late = c.timer.C
		}
	}
}

// next deals with the next reply that is complete, if there is one.
func (c *Client) next() (ok bool, err error) {
	ev := c.tx.Next()
	switch ev.Kind {
	case proto.Answer:
		return true, c.answered(ev)
	case proto.Fatal:
		return false, &ProtocolError{ev.Err.Err}
	}
	return false, nil
}

// take hands input to the engine.
func (c *Client) take(in input, ok bool) {
	if !ok {
		c.readErr = io.ErrUnexpectedEOF
		return
	}
	c.feed(in.p)
	if in.err != nil {
		c.readErr = in.err
		return
	}
	c.more <- struct{}{}
}

func (c *Client) feed(p []byte) {
	for len(p) > 0 {
		n := copy(c.tx.Space(), p)
		c.tx.Filled(n)
		p = p[n:]
	}
}

func (c *Client) lost(err error) error { return &LostError{Doing: c.doing(), Err: err} }

// poll deals with what has been received so far, without waiting.
func (c *Client) poll() error {
	for {
		ok, err := c.next()
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
			c.take(in, ok)
		default:
			return nil
		}
	}
}

// advance is step for those who are done with the connection if it fails.
func (c *Client) advance(ctx context.Context) error {
	if c.broken != nil {
		return c.broken
	}
	if err := c.step(ctx); err != nil {
		return c.fail(err)
	}
	return nil
}

// landed waits until nothing is being written.
func (c *Client) landed(ctx context.Context) error {
	for c.writing || c.writeErr != nil {
		if err := c.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// launch begins to write what has been appended to c.out, as soon as nothing else is being written.
func (c *Client) launch(ctx context.Context) error {
	if err := c.landed(ctx); err != nil {
		return err
	}
	if err := c.poll(); err != nil {
		return c.fail(err)
	}
	if len(c.out) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil && !c.leaving {
		return c.fail(c.lost(err)) // it ended while the body was being read, and what is not begun is known to have no effect
	}
	for i := c.waiting.head + c.flown; i < len(c.waiting.list); i++ {
		if e := &c.waiting.list[i]; e.role == content && e.d != nil {
			e.d.ended = true
		}
	}
	c.flown = c.waiting.len()
	c.write(c.out)
	c.out, c.spare = c.spare[:0], c.out
	return nil
}

// drain sends what has been appended and waits for all replies.
func (c *Client) drain(ctx context.Context) error {
	if err := c.launch(ctx); err != nil {
		return err
	}
	for c.writing || c.waiting.len() > 0 || c.writeErr != nil {
		if err := c.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// errEarly is a success that comes before what it answers has been sent.
var errEarly = fmt.Errorf("%w: it came before what it answers had been sent", proto.ErrOutOfStep)

// answered deals with a reply.
func (c *Client) answered(ev proto.Event) error {
	c.traceReply(ev.Reply)
	if c.tx.State() != proto.Exchange {
		c.secret = false
	}
	closed := c.tx.State() == proto.Closed
	if c.waiting.len() == 0 {
		return c.unasked(ev)
	}
	if c.flown == 0 && !closed {
		return &ProtocolError{errEarly}
	}
	e := *c.waiting.first()
	if ev.Due == 0 || closed {
		c.waiting.pop()
		c.flown = max(c.flown-1, 0)
		if e.d != nil {
			e.d.open--
		}
	}
	switch {
	case e.d != nil:
		e.d.answered(e, ev)
	case e.role != rset:
		c.reply = ev.Reply.Reply()
	case ev.Reply.Code >= 400 && !closed:
		return &ProtocolError{refusal(ev.Reply.Reply(), e.name())}
	}
	if e.role == content && ev.Reply.Code/100 == 2 && c.waiting.len() == 0 {
		c.dirty = false
		if c.writing {
			c.claim = e.d
		}
	}
	if closed && e.role != quit {
		return c.goodbye(ev, e.name())
	}
	return nil
}

// unasked deals with a reply while none is outstanding. The engine lets two pass: a refusal in the middle of content
// and 421. Either way that was the last word.
func (c *Client) unasked(ev proto.Event) error {
	if c.sending != nil {
		c.sending.answered(expectation{role: content, d: c.sending}, proto.Event{Reply: ev.Reply})
		return c.goodbye(ev, contentName)
	}
	return c.goodbye(ev, "")
}

// goodbye is the reply with which the server ended the session, as an error.
func (c *Client) goodbye(ev proto.Event, verb string) error { return refusal(ev.Reply.Reply(), verb) }

// fail closes the connection because of err, and returns err. What is still expected will not come.
func (c *Client) fail(err error) error {
	if c.broken != nil {
		return c.broken
	}
	if c.leaving || c.cut.Load() {
		err = ErrClosed
	}
	c.shut(err)
	return err
}

// shut closes the connection without a word, and records the reason.
func (c *Client) shut(err error) {
	c.broken = err
	c.raw.Close()
	if c.conn != c.raw {
		c.conn.Close()
	}
	// A write that had come to its end before the connection was closed has succeeded, whether or not anybody knew.
	if failed := c.finish(); c.claim != nil && failed != nil {
		c.claim.revoke()
	}
	c.timer.Stop()
	c.waiting, c.flown, c.out, c.spare = queue{}, 0, nil, nil
	if c.cfg.trace.Closed != nil {
		if errors.Is(err, ErrClosed) {
			err = nil
		}
		c.cfg.trace.Closed(err)
	}
}

// trim lets go of buffers that only large messages need, so that idle connections are small.
func (c *Client) trim() {
	const idle = 4 << 10
	if c.writing {
		return
	}
	if cap(c.out) > idle {
		c.out = nil
	}
	if cap(c.spare) > idle {
		c.spare = nil
	}
}
