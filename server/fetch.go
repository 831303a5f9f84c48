package server

import (
	"errors"
	"io"
	"log/slog"

	"smtpkit.example/smtp/proto"
)

// fetch has an extension get the content of a chunk that does not follow its command (RFC 4468). It returns nil and nil
// for a chunk that does.
func (m *commands) fetch(ev *proto.Event) (io.ReadCloser, *proto.Error) {
	c := m.c
	e, _ := c.srv.set.Owner(ev.Verb)
	if e.Fetch == nil || ev.Payload >= 0 {
		return nil, nil
	}
	choice := m.choice // of the Data that may be at work meanwhile
	c.background.start()
	src, err := e.Fetch(c.ctx, c, string(ev.Args))
	c.background.stop()
	m.choice = choice
	if err == nil && src == nil {
		err = errors.New("smtp: the extension returned neither content nor an error")
	}
	if err != nil {
		return nil, c.replies.refused(e.Keyword, err).Err()
	}
	return src, nil
}

// pull returns the next octets of a chunk that was fetched, nil at its end. Nobody reads from the connection meanwhile.
func (b *body) pull() []byte {
	c := b.c
	if b.fetched == nil {
		b.fetched = new([fetchBuffer]byte)
	}
	for empty := 0; b.chunk.src != nil; empty++ {
		c.background.start()
		n, err := 0, c.ctx.Err() // the client may be gone
		if err == nil {
			n, err = b.chunk.src.Read(b.fetched[:])
		}
		if err == nil && n == 0 && empty == 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			b.closeSource()
		}
		if err != nil && err != io.EOF && b.refused == nil {
			b.refused = c.replies.refused(b.chunk.verb.Name, err).Err()
		}
		if n > 0 {
			b.chunk.size += int64(n)
			c.rx.Include(b.fetched[:n], false)
			return b.fetched[:n]
		}
	}
	return nil
}

// moreFetched is more for a chunk that is fetched.
func (b *body) moreFetched() {
	p := b.pull()
	switch {
	case p != nil:
		b.take(p)
	case b.refused != nil:
		b.err = b.refused
	default:
		b.endFetched()
		b.end()
	}
}

// skipFetched is drain for a chunk that is fetched. What the session has refused need not be fetched to its end.
func (b *body) skipFetched() {
	for b.refused == nil && b.reply.Code < 400 {
		p := b.pull()
		if p == nil {
			break
		}
		b.drop(p)
	}
	b.closeSource()
	if b.isLast() {
		b.endFetched()
		b.endText()
		b.complete()
	}
}

// endFetched tells the engine that a chunk that was fetched is at its end.
func (b *body) endFetched() {
	if b.isLast() {
		b.c.rx.Include(nil, true)
	}
}

// closeSource closes the source of a chunk that is fetched.
func (b *body) closeSource() {
	if b.chunk.src == nil {
		return
	}
	b.c.background.stop()
	if err := b.chunk.src.Close(); err != nil {
		b.c.log(slog.LevelInfo, "smtp: closing what was fetched failed", "verb", b.chunk.verb.Name, "err", err)
	}
	b.chunk.src = nil
}
