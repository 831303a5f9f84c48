package client

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"smtpkit.example/smtp/proto"
)

// A transaction is a message on its way: its envelope on one connection, its content, and what the server has said so
// far. Transactions come from a pool, and go back once all is known.
type transaction struct {
	c   *conn
	m   *Message
	res *Result // grows with the replies

	told func(*Result, error) // the trace's, to be called with the outcome; nil if there is none

	// What is sent.

	envelope *envelope // nil once the message has been sent, or could not be
	body     body
	chunk    *proto.Verb // carries chunks; nil for DATA
	octets   int64       // how many octets of content have been appended
	commands int         // how many octets the arguments of the commands have

	// The recipients.

	states   []rcptState // of each
	pending  int         // how many are pending
	open     int         // how many are not resolved
	answers  int         // how many RCPT commands have been answered
	accepted int         // how many the server has accepted
	served   int         // how many of those have had a reply to the content
	next     int         // no recipient before this one waits for a reply to the content
	deferred []int32     // the recipients for whom the server had no room in this transaction

	// The replies.

	outstanding  int   // how many commands and contents wait for theirs
	mailErr      error // the refusal of MAIL
	goAhead      bool  // DATA was answered with 354
	perRecipient bool  // the server tells the outcome for each recipient, and then for all
	answeredOnce bool  // the content has had a reply

	// The end.

	stopped error // why nothing more of the message is sent, or could be sent
	ended   bool  // the end of the content has been sent, or is being written
	unknown bool  // whether the server has taken the message is not known
}

var transactions = sync.Pool{New: func() any { return new(transaction) }}

// newTransaction returns a transaction for m on c. If stopped is set, m cannot be sent.
func newTransaction(c *conn, m *Message) *transaction {
	t := transactions.Get().(*transaction)
	n := len(m.To)
	*t = transaction{c: c, m: m, res: newResult(m), states: slices.Grow(t.states[:0], n)[:n], pending: n, open: n}
	clear(t.states)
	loaded := false
	defer func() { // also if a function of the user's panics
		if !loaded {
			t.sent()
		}
	}()
	if err := t.load(); err != nil {
		t.fail(err)
		return t
	}
	loaded = true
	return t
}

// sent lets go of what is needed only until the message has been sent, and puts the body back to its beginning if that
// is possible.
func (t *transaction) sent() {
	t.body.close()
	if e := t.envelope; e != nil {
		t.commands = len(e.mail) + len(e.rcpts)
		e.release()
		t.envelope = nil
	}
	if t.m.hold() {
		var panicked error // which Wait tells
		defer t.m.release(nil, &panicked)
		if !t.body.rewind() {
			t.m.used = t.m.Body
		}
	}
}

// cost returns for how many octets t counts among the messages on their way. Of long content most has been answered,
// chunk by chunk.
func (t *transaction) cost() int {
	return messageCost + t.commands + int(min(t.octets, maxAhead/2))
}

// finish returns what result does, and gives t back to the pool. Call it when t is done, or the connection is closed:
// no reply is expected for t then.
func (t *transaction) finish() (*Result, error) {
	res, err := t.result()
	if len(t.states) <= maxOffered {
		*t = transaction{states: t.states}
		transactions.Put(t)
	}
	return res, err
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
	t.prove(ctx)
	endTransaction(ctx, c) // the message is done; if this fails, the connection is closed, and the next call returns the reason
}

// transmit sends the message as far as that is possible without knowing the replies to come. What has been appended
// last may not have been sent: the caller flushes. If there is an error, the connection is closed.
func (t *transaction) transmit(ctx context.Context) error {
	defer t.sent() // also if a function of the user's panics
	c := t.c
	c.waiting.grow(len(t.m.To) + 4)
	c.reserve(len(t.envelope.mail) + len(t.envelope.rcpts) + len(t.body.block()))
	if c.unready() {
		if err := c.reset(ctx); err != nil {
			return err
		}
	}
	if err := t.sendEnvelope(ctx); err != nil {
		return err
	}
	wait := t.m.AllOrNone && len(t.m.To) > 1
	if silent := t.afterSilence(); wait || silent || !c.session.pipelining {
		if err := c.drain(ctx); err != nil {
			return err
		}
	}
	if wait && t.withhold() != nil || t.hopeless() {
		return nil
	}
	if t.chunk != nil {
		return t.sendChunks(ctx)
	}
	return t.sendData(ctx)
}

// maxSilence is for how long a connection may have had nothing to do and still be trusted to be there.
const maxSilence = 5 * time.Second

// afterSilence reports whether the connection had nothing to do for so long that the server, or something in between,
// may have dropped it. Content is not sent over it then before the server has given a sign of life: if it gives none,
// it is certain that the message was not accepted.
func (t *transaction) afterSilence() bool {
	since := t.c.idle
	t.c.idle = time.Time{}
	return !since.IsZero() && time.Since(since) > maxSilence
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
	if err := t.command(ctx, c.cfg.verbs.mail, t.envelope.mail, mailReply{t}); err != nil {
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
		if err := t.command(ctx, c.cfg.verbs.rcpt, t.envelope.rcptArgs(i), rcptReply{t}); err != nil {
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
	case t.accepted == 0:
		return t.endData(ctx) // an empty message, which it has to refuse (RFC 2920 section 3.1)
	}
	c.uploading = expectation{answerer: earlyContentReply{contentReply{t}}, verb: c.cfg.verbs.data, name: contentName}
	defer func() { c.uploading = expectation{} }()
	for {
		p := t.body.block()
		if t.envelope.sevenBit && has8bit(p) {
			return t.abort(ctx, c.cfg.eightBitError())
		}
		c.reserve(len(p) + len(p)/16)
		before := len(c.out)
		out, err := c.tx.AppendBody(c.out, p)
		if err != nil {
			return c.fail(ctx, err)
		}
		c.out = out
		t.octets += int64(len(c.out) - before)
		if t.body.last() {
			if !t.m.commit() {
				return t.abort(ctx, errAbandoned)
			}
			return t.endData(ctx)
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
		if !t.nextBlock() {
			return c.fail(ctx, t.stopped)
		}
	}
}

// errAbandoned means that the message was a Delivery for whose outcome nobody waits any longer. Nobody sees the error.
var errAbandoned = errors.New("smtp: nobody waits for the outcome")

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
// round trip of its own. So does a second one, if the content ends with it and the server has accepted a message
// before. Other chunks follow when the replies to the recipients are known. The last one is appended, and not flushed.
func (t *transaction) sendChunks(ctx context.Context) error {
	c := t.c
	var enc proto.Encoder
	for first := true; ; first = false {
		if t.envelope.sevenBit && has8bit(t.body.block()) {
			t.fail(c.cfg.eightBitError())
			return nil
		}
		last := t.body.last()
		if last && !t.m.commit() {
			t.fail(errAbandoned)
			return nil
		}
		if err := t.sendChunk(ctx, &enc, last); err != nil || last {
			return err
		}
		ahead := maxChunksAhead
		if first || !c.session.pipelining {
			ahead = 1
		}
		if ahead == 1 {
			if !t.nextBlock() {
				return nil
			}
			if t.body.last() && c.session.pipelining && c.session.accepted {
				continue
			}
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
		for t.outstanding >= ahead {
			if err := c.advance(ctx); err != nil {
				return err
			}
		}
		if t.hopeless() || ahead > 1 && !t.nextBlock() {
			return nil
		}
	}
}

// nextBlock goes on to the next block of the body. It reports false if that has failed.
func (t *transaction) nextBlock() bool {
	err := t.readBlock()
	if err != nil {
		t.fail(err)
	}
	return err == nil
}

func (t *transaction) readBlock() (err error) {
	if !t.m.hold() {
		return errAbandoned
	}
	defer t.m.release(&t.body, &err) // also if the body panics
	if err := t.body.next(); err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	return nil
}

// sendChunk appends the current block as a chunk.
func (t *transaction) sendChunk(ctx context.Context, enc *proto.Encoder, last bool) error {
	c, e := t.c, t.envelope
	p := t.body.block()
	if !e.binary && !enc.Skip(p) {
		p = c.encode(enc, p)
	}
	e.args = strconv.AppendInt(e.args[:0], int64(len(p)), 10)
	a := answerer(chunkReply{t})
	if last {
		e.args = append(e.args, " LAST"...)
		a = contentReply{t}
	}
	c.reserve(len(t.chunk.Name) + len(e.args) + len(" \r\n") + len(p))
	if err := t.command(ctx, t.chunk, e.args, a); err != nil {
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
