package server

import (
	"io"
	"strconv"

	"smtpkit.example/smtp/proto"
)

// A chunk is a part of the content (RFC 3030). It is zero for content that follows DATA.
type chunk struct {
	verb    *proto.Verb   // by which it came; nil behind DATA
	open    bool          // it has not been answered
	size    int64         // in octets
	left    int64         // octets that have not arrived; of no meaning behind DATA
	fetched bool          // it does not follow its command, but comes from src
	src     io.ReadCloser // nil when it has been read to its end
}

// isLast reports whether the content ends with the chunk in hand. Content behind DATA has no other.
func (b *body) isLast() bool { return b.chunk.verb == nil || b.chunk.verb.Ends() }

// isBetweenChunks reports whether a chunk was answered, and the next one has not begun.
func (b *body) isBetweenChunks() bool { return b.chunk.verb != nil && !b.chunk.open }

// beginChunk begins with a chunk, whose content comes from src unless that is nil. It reports false if the connection
// is at its end.
func (b *body) beginChunk(ev *proto.Event, src io.ReadCloser) bool {
	size := max(ev.Payload, 0)
	b.chunk = chunk{verb: ev.Verb, open: true, size: size, left: size, fetched: src != nil, src: src}
	b.chunks++
	if b.chunks > freeChunks && int64(b.chunks-freeChunks) > b.size/octetsPerChunk {
		b.c.close421(errChunks)
		b.breakOff()
		return false
	}
	if limit := b.c.srv.opt.Limits.MessageSize; limit > 0 && size > limit-b.size && b.refused == nil {
		b.refused = errTooBig
		b.err = errTooBig
	}
	return true
}

// answerChunk accepts a chunk that is not the last.
func (b *body) answerChunk() {
	b.chunk.open = false
	b.c.replies.send(proto.Reply{Code: 250, Status: proto.Status{2, 0, 0},
		Text: strconv.FormatInt(b.chunk.size, 10) + " octets received"})
	b.c.trace.answered()
}

// awaitChunk deals with what the client sends until the next chunk begins.
func (b *body) awaitChunk() {
	c := b.c
	for b.err == nil && !b.chunk.open {
		ev := c.pump.next(false)
		switch ev.Kind {
		case proto.Command:
			c.commands.handleBetweenChunks(&ev)
		case proto.Fatal:
			c.giveUp(ev.Err)
			b.breakOff()
		default:
			b.breakOff()
		}
	}
}

// handleBetweenChunks is handle for a command between two chunks. The session is at work on the message, so commands
// that would call it have to wait, and so do those of extensions.
func (m *commands) handleBetweenChunks(ev *proto.Event) {
	c, b := m.c, &m.c.body
	c.trace.command(ev)
	e := m.check(ev)
	if e == nil && isHello(ev.Verb) {
		_, e = helloName(ev.Args, c.srv.opt.Lax)
	}
	owner, i := c.srv.set.Owner(ev.Verb)
	var src io.ReadCloser
	if e == nil && c.srv.chunks[ev.Verb.Name] {
		if e = errNotOffered; c.greeting.offer.Has(i) {
			src, e = m.fetch(ev)
		}
	}
	switch {
	case e != nil:
		m.refuse(ev, e)
	case c.srv.chunks[ev.Verb.Name]:
		b.beginChunk(ev, src)
		return
	case owner != nil:
		m.refuse(ev, errMidway)
	case !m.pays(ev):
	case ev.Verb.Name == "NOOP":
		m.dispatch(ev)
	default: // EHLO, RSET, QUIT
		pending := *ev
		b.pending, b.err = &pending, ErrReset
		return
	}
	if ev.Verb == nil || ev.Verb.Last {
		c.replies.flush()
	}
	c.trace.answered()
	if c.rx.State() != proto.Chunks {
		if b.breakOff(); e != nil {
			b.err = e
		}
	}
}
