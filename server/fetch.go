package server

import (
	"errors"
	"io"

	"smtpkit.example/smtp/proto"
)

// fetch has an extension get the content of a chunk that does not follow its command. It returns nil and nil for a
// chunk that does.
func (c *Conn) fetch(ev proto.Event) (io.ReadCloser, *proto.Error) {
	e, _ := c.srv.set.Owner(ev.Verb)
	if e.Fetch == nil || ev.Payload >= 0 {
		return nil, nil
	}
	c.watch.arm()
	src, err := e.Fetch(c.ctx, c, string(ev.Args))
	c.watch.disarm()
	if err == nil && src == nil {
		err = errors.New("smtp: the extension returned neither content nor an error")
	}
	if err != nil {
		return nil, c.fetchFailed(e.Keyword, err)
	}
	return src, nil
}

// fetchFailed returns the refusal that err stands for.
func (c *Conn) fetchFailed(what string, err error) *proto.Error {
	if e := c.refusalOf(what, err); e != nil {
		return e
	}
	c.logError(what, err)
	return errFetch
}

// pull returns the next octets of a chunk that was fetched, nil at the end of it. Nobody reads from the connection
// meanwhile.
func (b *body) pull() []byte {
	if b.room == nil {
		b.room = make([]byte, fetchBuffer)
	}
	for idle := 0; b.src != nil; idle++ {
		b.c.watch.arm()
		n, err := 0, b.c.ctx.Err() // the client may be gone
		if err == nil {
			n, err = b.src.Read(b.room)
		}
		if err == nil && n == 0 && idle == 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			b.closeSource()
		}
		if err != nil && err != io.EOF && b.refused == nil {
			b.refused = b.c.fetchFailed(b.verb.Name, err)
		}
		if n > 0 {
			b.chunk += int64(n)
			b.c.rx.Include(b.room[:n], false)
			return b.room[:n]
		}
	}
	return nil
}

// moreFetched is more for a chunk that was fetched.
func (b *body) moreFetched() {
	p := b.pull()
	switch {
	case p != nil && b.count(p):
		b.data = p
	case b.refused != nil:
		b.err = b.refused
	default:
		b.endFetched()
		b.end()
	}
}

// skipFetched is drain for a chunk that was fetched. What the session has refused need not be fetched to its end.
func (b *body) skipFetched() {
	for b.refused == nil && b.reply.Code < 400 {
		p := b.pull()
		if p == nil {
			break
		}
		b.count(p)
	}
	b.closeSource()
	if b.verb.Ends() {
		b.endFetched()
		b.complete()
	}
}

func (b *body) endFetched() {
	if b.verb.Ends() {
		b.c.rx.Include(nil, true)
	}
}

// closeSource is done with what was fetched.
func (b *body) closeSource() {
	if b.src == nil {
		return
	}
	b.c.watch.disarm()
	if err := b.src.Close(); err != nil {
		b.c.srv.opt.Logger.Info("smtp: closing what was fetched failed", "remote", addrString(b.c.raw), "verb", b.verb.Name, "err", err)
	}
	b.src = nil
}
