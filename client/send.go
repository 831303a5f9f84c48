package client

import (
	"context"
	"errors"
	"strconv"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Send sends a message. The result tells about each recipient, whatever happened; the error is nil if all of them were
// accepted, and a *SendError otherwise. Those whom the server accepts get the message even if it refuses others.
//
// A transaction may have more recipients than the server takes at once. If it says so, and Body is an io.Seeker, the rest
// are sent in further transactions (RFC 5321 section 4.5.3.1.8); more than 1000 are not offered at once unless the server has
// said that it takes them. If the server has said beforehand how much it takes
// (RFC 9422), no more than that is offered to it, and when it takes no more over this connection, a client made by [Dial]
// says QUIT and makes another one, with the same Options. If a command sent by Do has made the session begin anew, there is no
// other connection; others are not repeated, so that what they say of the next message holds for its first transaction. Those who are not offered to the server have a [LimitError].
//
// The client can be used again afterwards, whether or not there was an error, unless the connection was closed: then
// further calls return an error that wraps ErrClosed. It is closed if the server is too slow, breaks the rules or says
// 421, if it refuses the content before all of it has been sent after DATA, if ctx ends meanwhile, and if Body fails after
// the server was told that content follows: to end the content then would be to send half a message.
func (c *Client) Send(ctx context.Context, m *Message) (*Result, error) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	if err := c.begin(ctx); err != nil {
		return unsent(m, err)
	}
	defer c.end()
	return c.send(ctx, m)
}

func (c *Client) send(ctx context.Context, m *Message) (*Result, error) {
	if !c.admits(m) {
		return c.sendParts(ctx, m)
	}
	d := c.sendOne(ctx, m)
	if len(d.later) == 0 {
		return d.outcome()
	}
	p := &parts{c: c, m: m, res: d.res}
	p.take(d, everyone(m), nil)
	return p.send(ctx)
}

// remaining returns those of left at the places at.
func remaining(left, at []int32) []int32 {
	var rest []int32
	for _, i := range at {
		rest = append(rest, left[i])
	}
	return rest
}

// summary returns the error that goes with res, nil if all went well.
func summary(res *Result, unknown bool) error {
	var first error
	for i := range res.Recipients {
		err := res.Recipients[i].Err
		if err != nil && (first == nil || unknown && !inDoubt(first) && inDoubt(err)) {
			first = err
		}
	}
	if first == nil {
		return nil
	}
	return &SendError{Result: res, Unknown: unknown, Err: first}
}

// inDoubt reports whether err leaves open what became of a recipient: if the outcome is unknown at all, it is for those who
// have neither been refused nor spared.
func inDoubt(err error) bool {
	_, refused := asType[*proto.Error](err)
	_, spared := asType[*LimitError](err)
	return !refused && !spared
}

// unsent is the outcome for a message that was not even begun.
func unsent(m *Message, err error) (*Result, error) {
	d := newDelivery(m)
	d.stop(err)
	return d.outcome()
}

// sendOne sends a message and waits for the end of it. The server is left ready for another.
func (c *Client) sendOne(ctx context.Context, m *Message) *delivery {
	d := c.prepare(m)
	if d.stopped != nil {
		return d
	}
	err := c.transmit(ctx, d)
	if err == nil {
		err = c.drain(ctx)
	}
	if err != nil {
		d.abandon(err)
		return d
	}
	if c.unready() && c.reset(ctx) == nil {
		_ = c.drain(ctx) // the message is done; if this fails, the connection is closed, and the next call tells why
	}
	return d
}

// unready reports whether RSET is needed before another message.
func (c *Client) unready() bool { return c.dirty || c.tx.Ahead() != proto.Ready }

// reset appends RSET.
func (c *Client) reset(ctx context.Context) error {
	c.dirty = false
	if err := c.command(ctx, c.rset, nil, expectation{role: rset, verb: c.rset}); err != nil {
		return c.fail(err)
	}
	return nil
}

// transmit sends d as far as it can without knowing how it ends: what has been appended last may be left for whoever calls
// launch. The error is not nil if the connection is closed.
func (c *Client) transmit(ctx context.Context, d *delivery) error {
	if c.unready() {
		if err := c.reset(ctx); err != nil {
			return err
		}
	}
	if err := c.envelope(ctx, d); err != nil {
		return err
	}
	if !c.groups {
		if err := c.drain(ctx); err != nil {
			return err
		}
	}
	if d.hopeless() {
		return nil
	}
	if d.verb != nil {
		return c.sendChunks(ctx, d)
	}
	return c.sendData(ctx, d)
}

// envelope appends MAIL and RCPT. Where the server takes groups of commands they are one.
func (c *Client) envelope(ctx context.Context, d *delivery) error {
	if err := c.command(ctx, c.mail, d.mail, expectation{role: mail, d: d, verb: c.mail}); err != nil {
		return c.fail(err)
	}
	for i := range d.m.To {
		c.note(d.m.To[i].Address.Domain)
		if !c.groups {
			if err := c.drain(ctx); err != nil {
				return err
			}
		}
		if d.sender != nil {
			return nil
		}
		e := expectation{role: rcpt, i: int32(i), d: d, verb: c.rcpt}
		if err := c.command(ctx, c.rcpt, d.rcptArgs(i), e); err != nil {
			return c.fail(err)
		}
		if len(c.out) >= blockSize {
			if err := c.launch(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// command appends a command. Where it must not follow what is outstanding, that is awaited first.
func (c *Client) command(ctx context.Context, v *proto.Verb, args []byte, e expectation) error {
	for {
		out, err := c.tx.AppendCommand(c.out, v, args)
		if err == nil {
			c.out = out
			if v == c.mail {
				c.mails++
			}
			c.expect(e)
			c.traceCommand(v, args)
			return nil
		}
		if !errors.Is(err, proto.ErrMustWait) || c.waiting.len() == 0 {
			return err
		}
		if err := c.drain(ctx); err != nil {
			return err
		}
	}
}

// sendData sends the content by DATA. The end of it is left in c.out.
func (c *Client) sendData(ctx context.Context, d *delivery) error {
	if c.tx.Ahead() != proto.Rcpt {
		return nil // all recipients are known to have been refused
	}
	if err := c.command(ctx, c.data, nil, expectation{role: data, d: d, verb: c.data}); err != nil {
		return c.fail(err)
	}
	if err := c.drain(ctx); err != nil {
		return err
	}
	switch {
	case !d.go354:
		return nil
	case d.sender != nil:
		return c.fail(&ProtocolError{errors.New("smtp: it asks for the content of a message whose sender it refused")})
	case len(d.good) == 0:
		return c.endData(d, 0) // an empty message, which it has to refuse (RFC 2920 section 3.1)
	}
	c.sending = d
	defer func() { c.sending = nil }()
	var octets int64
	for {
		p := d.body.block()
		if d.seven && has8bit(p) {
			return c.abort(d, c.needEightBit())
		}
		before := len(c.out)
		out, err := c.tx.AppendBody(c.out, p)
		if err != nil {
			return c.fail(err)
		}
		c.out = out
		octets += int64(len(c.out) - before)
		if d.body.last() {
			return c.endData(d, octets)
		}
		if err := c.launch(ctx); err != nil {
			return err
		}
		if err := d.body.next(); err != nil {
			return c.abort(d, &MessageError{What: "reading the body", Err: err})
		}
	}
}

// abort gives up in the middle of content. There is no way to tell the server so but to close the connection; the end of
// content would make it take half a message for a whole one.
func (c *Client) abort(d *delivery, err error) error {
	d.stop(err)
	return c.fail(err)
}

func (c *Client) endData(d *delivery, octets int64) error {
	out, err := c.tx.AppendEnd(c.out)
	if err != nil {
		return c.fail(err)
	}
	octets += int64(len(out) - len(c.out))
	c.out = out
	c.expect(expectation{role: content, d: d})
	c.traceContent(octets)
	return nil
}

// needEightBit says why content with octets above 127 cannot go on.
func (c *Client) needEightBit() error {
	return c.set.Unsupported(ext.EightBit, "content with 8-bit octets")
}

// chunksAhead is how many chunks may wait for their replies. What the server refuses late, it has been sent in vain.
const chunksAhead = 16

// sendChunks sends the content in chunks. The first one goes along with the envelope, so that a small message takes no
// round trip of its own; the others follow when the recipients are known. The last one is left in c.out.
func (c *Client) sendChunks(ctx context.Context, d *delivery) error {
	var enc proto.Encoder
	for first := true; ; first = false {
		if !d.binary && d.seven && has8bit(d.body.block()) {
			d.stop(c.needEightBit())
			return nil
		}
		last := d.body.last()
		if err := c.chunk(ctx, d, &enc, last); err != nil || last {
			return err
		}
		wait := chunksAhead
		if first || !c.groups {
			wait = 1
		}
		if err := c.launch(ctx); err != nil {
			return err
		}
		for d.open >= wait {
			if err := c.advance(ctx); err != nil {
				return err
			}
		}
		if d.hopeless() {
			return nil
		}
		if err := d.body.next(); err != nil {
			d.stop(&MessageError{What: "reading the body", Err: err})
			return nil
		}
	}
}

// chunk appends the current block of d as a chunk.
func (c *Client) chunk(ctx context.Context, d *delivery, enc *proto.Encoder, last bool) error {
	p := d.body.block()
	if !d.binary {
		c.text = enc.Append(c.text[:0], p)
		p = c.text
	}
	var room [32]byte
	args := strconv.AppendInt(room[:0], int64(len(p)), 10)
	e := expectation{role: chunk, d: d, verb: d.verb}
	if last {
		args = append(args, " LAST"...)
		e.role = content
	}
	if err := c.command(ctx, d.verb, args, e); err != nil {
		return c.fail(err)
	}
	c.dirty = true
	out, err := c.tx.AppendPayload(c.out, p)
	if err != nil {
		return c.fail(err)
	}
	c.out = out
	c.traceContent(int64(len(p)))
	return nil
}
