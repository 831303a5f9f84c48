package client

import (
	"context"
	"errors"
	"strconv"

	"smtpkit.example/smtp/proto"
)

// A transaction is a message on its way: one envelope on one connection, and what the server has said of it so far.
type transaction struct {
	envelope
	c   *conn
	res *Result // grows with the replies

	// The recipients.

	states   []rcptState // of each
	answers  int         // how many RCPT commands have been answered
	accepted []int32     // the recipients that the server has accepted, in order
	served   int         // how many of accepted have had a reply to the content
	deferred []int32     // the recipients for whom the server had no room in this transaction

	// The replies.

	outstanding  int   // how many commands and contents wait for theirs
	mailErr      error // the refusal of MAIL
	goAhead      bool  // DATA was answered with 354
	perRecipient bool  // the server tells the outcome for each recipient, and then for all
	octets       int64 // how many octets of content have been appended
	answeredOnce bool  // the content has had a reply

	// The end.

	stopped error // why nothing more of the message is sent, or could be sent
	ended   bool  // the end of the content has been sent, or is being written
	unknown bool  // whether the server has taken the message is not known
}

// newTransaction returns a transaction for m on c. If stopped is set, m cannot be sent.
func newTransaction(c *conn, m *Message) *transaction {
	t := &transaction{envelope: envelope{m: m}, c: c, res: newResult(m), states: make([]rcptState, len(m.To))}
	if err := t.load(c); err != nil {
		t.fail(err)
		t.body.close()
	}
	return t
}

// run sends the message and waits for the end of the transaction. The server is left ready for another.
func (t *transaction) run(ctx context.Context) {
	if t.stopped != nil {
		return
	}
	c := t.c
	err := t.transmit(ctx)
	if err == nil {
		err = c.drain(ctx)
	}
	if err != nil {
		t.abandon(err)
		return
	}
	if c.unready() && c.reset(ctx) == nil {
		_ = c.drain(ctx) // the message is done; if this fails, the connection is closed, and the next call returns the reason
	}
}

// transmit sends the message as far as that is possible without knowing the replies to come. What has been appended
// last may not have been sent: the caller flushes. If there is an error, the connection is closed.
func (t *transaction) transmit(ctx context.Context) error {
	c := t.c
	if c.unready() {
		if err := c.reset(ctx); err != nil {
			return err
		}
	}
	if err := t.sendEnvelope(ctx); err != nil {
		return err
	}
	if !c.session.pipelining {
		if err := c.drain(ctx); err != nil {
			return err
		}
	}
	if t.hopeless() {
		return nil
	}
	if t.chunk != nil {
		return t.sendChunks(ctx)
	}
	return t.sendData(ctx)
}

// command appends a command of the transaction.
func (t *transaction) command(ctx context.Context, v *proto.Verb, args []byte, a answerer) error {
	if err := t.c.command(ctx, v, args, a); err != nil {
		return t.c.fail(ctx, err)
	}
	t.outstanding++
	return nil
}

// sendEnvelope appends MAIL and RCPT. To a server that takes pipelined commands they go as one group.
func (t *transaction) sendEnvelope(ctx context.Context) error {
	c := t.c
	if err := t.command(ctx, c.cfg.verbs.mail, t.mail, mailReply{t}); err != nil {
		return err
	}
	for i := range t.m.To {
		c.session.note(t.m.To[i].Address.Domain)
		if !c.session.pipelining {
			if err := c.drain(ctx); err != nil {
				return err
			}
		}
		if t.mailErr != nil {
			return nil
		}
		if err := t.command(ctx, c.cfg.verbs.rcpt, t.rcptArgs(i), rcptReply{t}); err != nil {
			return err
		}
		if len(c.out) >= blockSize {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendData sends the content by DATA. The end of it is appended, and not flushed.
func (t *transaction) sendData(ctx context.Context) error {
	c := t.c
	if c.tx.Ahead() != proto.Rcpt {
		return nil // all recipients are known to have been refused
	}
	if err := t.command(ctx, c.cfg.verbs.data, nil, dataReply{t}); err != nil {
		return err
	}
	if err := c.drain(ctx); err != nil {
		return err
	}
	switch {
	case !t.goAhead:
		return nil
	case t.mailErr != nil:
		return c.fail(ctx, &ProtocolError{Err: errSenderRefused})
	case len(t.accepted) == 0:
		return t.endData(ctx) // an empty message, which it has to refuse (RFC 2920 section 3.1)
	}
	c.uploading = expectation{answerer: earlyContentReply{contentReply{t}}, verb: c.cfg.verbs.data, name: contentName}
	defer func() { c.uploading = expectation{} }()
	for {
		p := t.body.block()
		if t.sevenBit && has8bit(p) {
			return t.abort(ctx, t.eightBitError(c))
		}
		before := len(c.out)
		out, err := c.tx.AppendBody(c.out, p)
		if err != nil {
			return c.fail(ctx, err)
		}
		c.out = out
		t.octets += int64(len(c.out) - before)
		if t.body.last() {
			return t.endData(ctx)
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
		if err := t.body.next(); err != nil {
			return t.abort(ctx, &MessageError{What: "reading the body", Err: err})
		}
	}
}

var errSenderRefused = errors.New("smtp: it asks for the content of a message whose sender it refused")

// abort gives up in the middle of content. To close the connection is the only way to tell the server: the end of
// content would make it take half a message for a whole one.
func (t *transaction) abort(ctx context.Context, err error) error {
	t.fail(err)
	return t.c.fail(ctx, err)
}

// endData appends the end of the content.
func (t *transaction) endData(ctx context.Context) error {
	c := t.c
	before := len(c.out)
	out, err := c.tx.AppendEnd(c.out)
	if err != nil {
		return c.fail(ctx, err)
	}
	c.out = out
	t.octets += int64(len(c.out) - before)
	c.waiting.push(expectation{answerer: contentReply{t}, verb: c.cfg.verbs.data, name: contentName})
	t.outstanding++
	return nil
}

// maxChunksAhead is how many chunks may wait for their replies. What the server refuses late, it has been sent in vain.
const maxChunksAhead = 16

// sendChunks sends the content in chunks. The first one goes along with the envelope, so that a small message takes no
// round trip of its own; the others follow when the replies to the recipients are known. The last one is appended, and
// not flushed.
func (t *transaction) sendChunks(ctx context.Context) error {
	c := t.c
	var enc proto.Encoder
	for first := true; ; first = false {
		if !t.binary && t.sevenBit && has8bit(t.body.block()) {
			t.fail(t.eightBitError(c))
			return nil
		}
		last := t.body.last()
		if err := t.sendChunk(ctx, &enc, last); err != nil || last {
			return err
		}
		ahead := maxChunksAhead
		if first || !c.session.pipelining {
			ahead = 1
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
		for t.outstanding >= ahead {
			if err := c.advance(ctx); err != nil {
				return err
			}
		}
		if t.hopeless() {
			return nil
		}
		if err := t.body.next(); err != nil {
			t.fail(&MessageError{What: "reading the body", Err: err})
			return nil
		}
	}
}

// sendChunk appends the current block as a chunk.
func (t *transaction) sendChunk(ctx context.Context, enc *proto.Encoder, last bool) error {
	c := t.c
	p := t.body.block()
	if !t.binary {
		c.text = enc.Append(c.text[:0], p)
		p = c.text
	}
	var room [32]byte
	args := strconv.AppendInt(room[:0], int64(len(p)), 10)
	a := answerer(chunkReply{t})
	if last {
		args = append(args, " LAST"...)
		a = contentReply{t}
	}
	if err := t.command(ctx, t.chunk, args, a); err != nil {
		return err
	}
	c.dirty = true
	out, err := c.tx.AppendPayload(c.out, p)
	if err != nil {
		return c.fail(ctx, err)
	}
	c.out = out
	t.octets += int64(len(p))
	return nil
}
