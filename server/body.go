package server

import (
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"smtpkit.example/smtp/proto"
)

// A body is the reader that is given to Session.Data. It pulls content out of the connection as it is read, chunk by
// chunk if it comes in chunks: when the chunk in hand is used up it answers it, and deals with what the client sends
// until the next one. So there is neither a pipe nor a goroutine nor a spool, and a session that reads slowly slows
// the client down. The connection has one body, which is used for message after message.
type body struct {
	c    *Conn
	data []byte // octets that have arrived and not been read
	err  error  // what Read returns behind them

	size    int64         // octets of the content so far
	refused *proto.Error  // why the content cannot be accepted
	done    bool          // the end has arrived; guarded by results.mu while the session is at work
	active  bool          // the session is at work
	reply   proto.Reply   // what the session said to the message
	chosen  bool          // reply was chosen by the session
	drained int64         // octets passed over
	waited  time.Duration // for octets to arrive
	wire    int64         // octets that did

	inChunk bool
	verb    *proto.Verb // of the chunk in hand
	chunk   int64       // octets in it
	left    int64       // those of them that have not arrived; of no meaning behind DATA
	chunks  int
	fetched bool          // the chunk in hand does not come from the client
	src     io.ReadCloser // it comes from here
	room    []byte        // what was read of it
	pending proto.Event   // a command that ended the content before its end

	big   *[contentBuffer]byte // lent to the receiver
	small []byte               // the buffer it had before
}

var errDataEnded = errors.New("smtp: the message was read after Data had returned")

// begin prepares for another content.
func (b *body) begin() {
	*b = body{c: b.c, big: b.big, small: b.small}
	b.borrow()
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
	if b.verb != nil && !b.inChunk {
		b.between()
		return
	}
	if b.fetched {
		b.moreFetched()
		return
	}
	switch ev := b.c.next(true); ev.Kind {
	case proto.Body:
		if b.count(ev.Data) {
			b.data = ev.Data
		} else {
			b.err = b.refused
		}
	case proto.EndOfBody:
		b.end()
	default:
		b.fail()
	}
}

// count counts octets of content. It reports false if there are too many of them.
func (b *body) count(p []byte) bool {
	b.size += int64(len(p))
	b.left -= int64(len(p))
	if limit := b.c.srv.opt.MaxSize; limit > 0 && b.size > limit && b.refused == nil {
		b.refused = errTooBig
	}
	return b.refused == nil
}

// end takes note of the end of the content, or of a chunk.
func (b *body) end() {
	if b.verb != nil && !b.verb.Ends() {
		b.answerChunk()
		return
	}
	b.complete()
	if b.err = io.EOF; b.refused != nil {
		b.err = b.refused
	}
	// Nothing reads from here on until the session is done.
	b.c.watch.arm()
}

// complete takes note of the end of the content.
func (b *body) complete() {
	b.c.lmtp.mu.Lock()
	defer b.c.lmtp.mu.Unlock()
	if b.refused == nil && !b.c.binary && b.c.rx.BareNewline() {
		b.refused = errBare
	}
	b.done = true
}

// fail makes Read return why the connection is at its end.
func (b *body) fail() {
	b.err = io.ErrUnexpectedEOF
	if e := asError(b.c.err); e != nil {
		b.err = e
	} else if b.c.bye != nil {
		b.err = b.c.bye
	}
}

// start begins with a chunk, which comes from src unless that is nil. It reports false if the connection is at its end.
func (b *body) start(ev proto.Event, src io.ReadCloser) bool {
	b.verb, b.inChunk = ev.Verb, true
	b.src, b.fetched = src, src != nil
	b.chunk = max(ev.Payload, 0)
	b.left = b.chunk
	b.chunks++
	if b.chunks > freeChunks && int64(b.chunks-freeChunks) > b.size/octetsPerChunk {
		b.c.dismiss(errChunks)
		b.fail()
		return false
	}
	if limit := b.c.srv.opt.MaxSize; limit > 0 && b.chunk > limit-b.size && b.refused == nil {
		b.refused = errTooBig
		b.err = errTooBig
	}
	return true
}

// answerChunk accepts a chunk that is not the last.
func (b *body) answerChunk() {
	b.inChunk = false
	b.c.reply(proto.Reply{Code: 250, Status: proto.Status{2, 0, 0},
		Text: strconv.FormatInt(b.chunk, 10) + " octets received"})
}

// between deals with what the client sends, from the end of a chunk to the beginning of the next one.
func (b *body) between() {
	c := b.c
	for b.err == nil && !b.inChunk {
		ev := c.next(false)
		switch ev.Kind {
		case proto.Command:
			b.midway(ev)
		case proto.Fatal:
			c.fatal(ev)
			b.fail()
		default:
			b.fail()
		}
	}
}

// midway deals with a command between chunks. Commands of extensions have to wait, since the session is at work.
func (b *body) midway(ev proto.Event) {
	c := b.c
	c.traceCommand(&ev)
	e := c.refuse(&ev)
	if e == nil && isHello(ev.Verb) {
		_, e = helloName(ev.Args)
	}
	owner, i := c.srv.set.Owner(ev.Verb)
	var src io.ReadCloser
	if e == nil && c.srv.chunks[ev.Verb.Name] {
		if e = errNotOffered; c.offer.Has(i) {
			src, e = c.fetch(ev)
		}
	}
	switch {
	case e != nil:
		c.decline(ev, e)
	case c.srv.chunks[ev.Verb.Name]:
		b.start(ev, src)
		return
	case owner != nil:
		c.decline(ev, errMidway)
	case c.tooMuch(&ev):
	case ev.Verb.Name == "NOOP":
		c.carryOut(ev)
	default: // EHLO, RSET, QUIT
		b.pending, b.err = ev, ErrReset
		return
	}
	if ev.Verb == nil || ev.Verb.Last {
		c.flush()
	}
	if c.rx.State() != proto.Chunks {
		if b.fail(); e != nil {
			b.err = e
		}
	}
}

// drain passes over what is left of the content, or of the chunk in hand. It reports false if the connection is at
// its end: a client that sends so much that nobody wants is given up.
func (b *body) drain() bool {
	c := b.c
	if b.fetched && b.inChunk && !b.done {
		b.skipFetched()
		return true
	}
	if !b.done && b.tooMuch(max(b.left, 0)) {
		b.giveUp()
		return false
	}
	for !b.done {
		switch ev := c.next(true); ev.Kind {
		case proto.Body:
			b.count(ev.Data)
			b.drained += int64(len(ev.Data))
			if b.tooMuch(max(b.left, 0)) {
				b.giveUp()
				return false
			}
		case proto.EndOfBody:
			if b.verb != nil && !b.verb.Ends() {
				return true
			}
			b.complete()
		default:
			return false
		}
	}
	return true
}

// tooMuch reports whether the content, with n octets more, is so much that the client is given up.
func (b *body) tooMuch(n int64) bool {
	if limit := b.c.srv.opt.MaxSize; limit > 0 {
		return n > b.c.drainLimit() || b.size-limit+n > b.c.drainLimit()
	}
	return n > maxDrain || b.drained+n > maxDrain
}

// giveUp ends the connection in the middle of content that was refused.
func (b *body) giveUp() {
	r := b.reply
	if r.Code < 400 || b.refused != nil && !b.chosen {
		r = errTooBig.Reply()
	}
	n := 1
	if b.verb == nil && b.c.srv.opt.Protocol == proto.LMTP {
		n = b.c.rx.Rcpts()
	}
	b.c.abandon(r, n)
}

// abandon ends the connection with a reply that is not due yet, because the client is not done with what it sends.
func (c *Conn) abandon(r proto.Reply, n int) {
	for range n {
		c.out = proto.AppendReply(c.out, r, c.status, c.utf8)
		c.traceReply(r)
	}
	c.flush()
	c.linger = true
	c.end(&proto.Error{Code: r.Code, Status: r.Status, Text: r.Text})
}

// drainLimit returns how much beyond the largest message is passed over, and how much of what is no message.
func (c *Conn) drainLimit() int64 {
	if c.srv.opt.MaxSize > 0 {
		return max(c.srv.opt.MaxSize, minDrain)
	}
	return maxDrain
}

// swallow passes over the payload of a command that is refused with e. It reports false if the connection is at its
// end.
func (c *Conn) swallow(n int64, e *proto.Error) bool {
	if c.body.drained += n; n > c.drainLimit() || c.body.drained > c.drainLimit() {
		c.abandon(e.Reply(), 1)
		return false
	}
	for {
		switch ev := c.next(true); ev.Kind {
		case proto.Body:
		case proto.EndOfBody:
			return true
		default:
			return false
		}
	}
}

// slow takes note of n octets for which d was waited, and reports whether that makes the content too slow.
func (b *body) slow(n int, d time.Duration) bool {
	b.waited += d
	b.wire += int64(n)
	o := &b.c.srv.opt
	return o.MinRate > 0 && b.waited > o.MinRateGrace && float64(b.wire) < float64(o.MinRate)*b.waited.Seconds()
}

var buffers = sync.Pool{New: func() any { return new([contentBuffer]byte) }}

// borrow lends the receiver a large buffer.
func (b *body) borrow() {
	if b.big != nil {
		return
	}
	big := buffers.Get().(*[contentBuffer]byte)
	old := b.c.rx.Lend(big[:])
	if &old[0] == &big[0] {
		buffers.Put(big)
		return
	}
	b.big, b.small = big, old
}

// giveBack takes the large buffer from the receiver again, if there is not too much in it.
func (b *body) giveBack() {
	if b.big == nil {
		return
	}
	b.data = nil
	if old := b.c.rx.Lend(b.small); &old[0] == &b.small[0] {
		return
	}
	buffers.Put(b.big)
	b.big, b.small = nil, nil
}
