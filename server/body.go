package server

import (
	"errors"
	"io"
	"time"

	"smtpkit.example/smtp/proto"
)

// A body is the content of a message, and the reader that Session.Data is given. It pulls content out of the connection
// as the session reads, chunk by chunk if it comes in chunks: when the chunk in hand is used up, it answers the chunk
// and deals with what the client sends until the next one. So there is no pipe, no goroutine and no spool, and a
// session that reads slowly slows the client down. A connection has one body, for message after message.
type body struct {
	c *Conn

	// What Read returns.
	data []byte // octets that have arrived
	err  error  // behind them

	newlines newlines // makes line endings CRLF; unused unless Options.NormalizeNewlines is set

	// The content so far.
	size    int64        // in octets
	header  header       // what it begins with
	refused *proto.Error // why it cannot be accepted, whatever the session says
	done    bool         // it has arrived to its end; guarded by recipients.mu while the session is at work

	// The session.
	active  bool        // it is at work
	decided bool        // reply is a refusal that the session has chosen, and goes before refused
	reply   proto.Reply // its answer to the message

	// What the content costs us.
	drained  int64         // octets that nobody wanted, and that we skipped
	waited   time.Duration // for octets to arrive
	received int64         // octets that we waited for

	// Content in chunks.
	chunk   chunk // the one in hand, or the last one
	chunks  int
	pending *proto.Event       // a command by which the client gave the message up between chunks; nil if it did not
	fetched *[fetchBuffer]byte // a buffer for content that does not come from the client; nil if there was none
}

var errDataEnded = errors.New("smtp: the message was read after Data had returned")

// begin prepares for another content.
func (b *body) begin() {
	*b = body{c: b.c}
	b.c.loan.forContent()
}

// Read reads content. See Session.Data.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(b.data) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.more()
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// WriteTo writes what is left of the content to w, straight from the connection's buffer.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		if len(b.data) > 0 {
			n, err := w.Write(b.data)
			sum += int64(n)
			b.data = b.data[n:]
			if err == nil && len(b.data) > 0 {
				err = io.ErrShortWrite
			}
			if err != nil {
				return sum, err
			}
		}
		if b.err != nil {
			if b.err == io.EOF {
				return sum, nil
			}
			return sum, b.err
		}
		b.more()
	}
}

// more gets more data, or an error.
func (b *body) more() {
	switch {
	case b.isBetweenChunks():
		b.awaitChunk()
		return
	case b.newlines.isBusy():
		b.give(b.newlines.next())
		return
	case b.chunk.fetched:
		b.moreFetched()
		return
	}
	switch ev := b.c.pump.next(true); ev.Kind {
	case proto.Body:
		b.take(ev.Data)
	case proto.EndOfBody:
		b.end()
	default:
		b.breakOff()
	}
}

// count counts octets of content for the session. It reports false if there are too many of them.
func (b *body) count(p []byte) bool {
	b.size += int64(len(p))
	if limit := b.c.srv.opt.Limits.MessageSize; limit > 0 && b.size > limit && b.refused == nil {
		b.refused = errTooBig
	}
	if b.refused == nil {
		b.refused = b.header.check(p, &b.c.srv.opt.Limits, b.c.transaction.binary)
	}
	return b.refused == nil
}

// end deals with the end of the content, or of a chunk.
func (b *body) end() {
	if !b.isLast() {
		b.answerChunk()
		return
	}
	b.endText()
	b.complete()
	if b.err = io.EOF; b.refused != nil {
		b.err = b.refused
	}
	// Nobody reads from the client from here on, until the session returns.
	b.c.background.start()
}

// complete records that the content has arrived to its end.
func (b *body) complete() {
	b.c.recipients.mu.Lock()
	defer b.c.recipients.mu.Unlock()
	if b.refused == nil {
		b.refused = b.bareRefusal()
	}
	b.done = true
}

// breakOff makes Read return why the connection is at its end.
func (b *body) breakOff() {
	b.err = io.ErrUnexpectedEOF
	if e := asError(b.c.end.err); e != nil {
		b.err = e
	} else if b.c.end.bye != nil {
		b.err = b.c.end.bye
	}
}

// isSlow counts n octets for which we waited d, and reports whether the content comes too slowly.
func (b *body) isSlow(n int, d time.Duration) bool {
	b.waited += d
	b.received += int64(n)
	o := &b.c.srv.opt
	grace := o.Timeouts.MinRateGrace
	if st := (claims{b.c}).stress(); st != nil && st.MinRateGrace > 0 {
		grace = min(grace, st.MinRateGrace)
	}
	return o.Limits.MinRate > 0 && b.waited > grace &&
		float64(b.received) < float64(o.Limits.MinRate)*b.waited.Seconds()
}
