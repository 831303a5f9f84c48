package server

import (
	"errors"
	"os"
	"time"

	"smtpkit.example/smtp/proto"
)

// A pump reads from the client when the engine needs input, and decides how long to wait for it.
type pump struct {
	c     *Conn
	since time.Time // when we began to wait for the command line that is awaited; zero if none is
	until time.Time // the end of the session; zero if there is none
	old   time.Time // when the session is to end with the transaction in hand; zero if it is not
}

// next returns the next event that is not NeedInput. The kind Over means that there will be no more; Conn.end says why.
// With content, the content of a message is awaited, and else a command.
func (p *pump) next(content bool) proto.Event {
	for {
		ev := p.poll(content)
		if ev.Kind != proto.NeedInput {
			return ev
		}
		p.fill(content)
	}
}

// poll is next that does not wait: it returns NeedInput when nothing is left to be dealt with, and all replies have
// been written, or wait for the rest of a line or of content that has most likely arrived.
func (p *pump) poll(content bool) proto.Event {
	c := p.c
	if c.end.err != nil {
		return proto.Event{Kind: proto.End}
	}
	ev := c.rx.Next()
	if ev.Kind == proto.NeedInput {
		if c.loan.flooded && (content || c.rx.Buffered() > 0) {
			return ev // in the middle of content, or of a line
		}
		if c.replies.flush(); c.end.err != nil {
			return proto.Event{Kind: proto.End}
		}
	} else if !content {
		p.since = time.Time{}
	}
	return ev
}

// fill reads what the client has sent, or waits for it.
func (p *pump) fill(content bool) {
	c := p.c
	c.loan.forInput(content || c.transaction.open)
	space := c.rx.Space()
	n, err := c.background.readAhead(space)
	cut := false
	if n == 0 && err == nil {
		now := time.Now()
		d, soft := p.readDeadline(now, content)
		w, since := waitCommand, p.since
		if content {
			w, since = waitContent, now
		}
		if !p.await(d, soft, w, since) {
			c.close421(errShutdown)
			return
		}
		n, err = c.link.read(space)
		cut = c.link.waited()
		c.loan.resting = false
		if n == 0 && soft && errors.Is(err, os.ErrDeadlineExceeded) {
			p.tire()
			return
		}
		if (content || c.body.active) && n > 0 && c.body.isSlow(n, time.Since(now)) {
			c.rx.Filled(n)
			c.close421(errTooSlow)
			return
		}
	}
	c.rx.Filled(n)
	if n == 0 {
		c.replies.flush() // what was held
		p.failed(err, cut)
	}
	c.loan.flooded = n == len(space)
}

// holdsReplies reports whether replies wait to be written until more has been read. A client that pipelines gets them
// in fewer writes so. They must not wait for long: a client may send no more before it has some of them, even in the
// middle of a chunk (RFC 2920 section 3.2).
func (p *pump) holdsReplies() bool { return p.c.loan.flooded && len(p.c.replies.out) > 0 }

// tire is called when nothing has come for as long as replies may wait, or for as long as the connection is kept ready.
func (p *pump) tire() {
	if p.holdsReplies() {
		p.c.loan.flooded = false // so that they are written before the next read
	} else {
		p.c.rest()
	}
}

// failed ends the connection, from which nothing has come because of err. Stress may have cut the wait.
func (p *pump) failed(err error, cut bool) {
	c := p.c
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		c.disconnect(err)
	case c.srv.closing.Load() && c.rx.State()&(proto.Content|proto.Chunks) == 0:
		c.close421(errShutdown) // Shutdown has interrupted the read
	case p.isOld():
		c.endOfAge()
		c.cancel(os.ErrDeadlineExceeded)
	case cut:
		c.close421(errStress)
		c.cancel(os.ErrDeadlineExceeded)
	default:
		c.close421(errTimeout)
		c.cancel(os.ErrDeadlineExceeded)
	}
}

// readDeadline returns when the read that begins now has to be over. The time for a command line runs from when we
// began to wait for it, however it dribbles in. A soft deadline is not the end of the connection: tire is called.
func (p *pump) readDeadline(now time.Time, content bool) (deadline time.Time, soft bool) {
	opt := &p.c.srv.opt
	var d time.Time
	switch {
	case content:
		if t := opt.Timeouts.Content; t > 0 {
			d = now.Add(t)
		}
	default:
		if p.since.IsZero() {
			p.since = now
		}
		if t := opt.Timeouts.Command; t > 0 {
			d = p.since.Add(t)
		}
	}
	if p.isShutdownGrace(content) {
		d = earlier(d, p.c.srv.lastCommand)
	}
	d = earlier(d, p.until)
	if !content && p.c.rx.State()&proto.Transaction == 0 {
		d = earlier(d, p.old)
	}
	soon := p.c.restTime(now, content)
	if p.holdsReplies() {
		soon = now.Add(holdDelay)
	}
	if !soon.IsZero() && (d.IsZero() || soon.Before(d)) {
		return soon, true
	}
	return d, false
}

// isOld reports whether no further transaction may begin, and none is open.
func (p *pump) isOld() bool {
	return !p.old.IsZero() && p.c.rx.State()&(proto.Transaction|proto.Closed) == 0 && !time.Now().Before(p.old)
}

// isShutdownGrace reports whether the server is shutting down, and waits for a command of a transaction into which no
// content has come yet. The client has until Server.lastCommand to send it.
func (p *pump) isShutdownGrace(content bool) bool {
	return !content && p.c.srv.closing.Load() && p.c.rx.State()&(proto.Mail|proto.Rcpt|proto.Broken) != 0
}

// earlier returns the earlier of two times, of which a zero one is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// await prepares a read that has to be over at d, in a wait that has begun at since. It reports false if the server is
// shutting down and the client has no transaction open. Shutdown leaves a soft deadline in a transaction alone, which
// is near; see link.wake.
func (p *pump) await(d time.Time, soft bool, w wait, since time.Time) bool {
	c, l := p.c, &p.c.link
	idle := c.rx.State()&proto.Transaction == 0
	l.mu.Lock()
	defer l.mu.Unlock()
	if idle && c.srv.closing.Load() {
		return false
	}
	content := w == waitContent
	l.idle, l.between = idle, !idle && !soft && !content && c.rx.State() != proto.Chunks
	l.begin(w, since)
	if p.isShutdownGrace(content) {
		d = earlier(d, c.srv.lastCommand) // the shutdown may have begun since d was computed
	}
	_ = l.nc.SetReadDeadline(d)
	return true
}
