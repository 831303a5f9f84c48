package server

import (
	"slices"
	"sync"

	"smtpkit.example/smtp/proto"
)

// results are the outcomes that RecipientData tells. They are sent in the order of the recipients and as soon as may
// be: when the content has arrived to its end, and those before are known.
type results struct {
	c      *Conn
	report func(rcpt int, r proto.Reply, err error)

	// mu guards what follows, and the sending of replies, while DataEach is at work.
	mu      sync.Mutex
	on      bool
	split   bool          // they have to be announced, and summed up
	replies []proto.Reply // a zero Code means not known yet
	sent    int
}

func (l *results) init(c *Conn) {
	l.c = c
	l.report = l.result
}

// begin prepares for n recipients, none of which have results of their own if n is zero.
func (l *results) begin(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on, l.sent, l.split = n > 0, 0, false
	l.replies = slices.Grow(l.replies[:0], n)[:n]
	clear(l.replies)
}

func (l *results) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on = false
}

func (l *results) result(rcpt int, chosen proto.Reply, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.on || rcpt < 0 || rcpt >= len(l.replies) {
		l.c.srv.opt.Logger.Error("smtp: a result for no recipient of the message", "rcpt", rcpt, "err", err)
		return
	}
	if l.replies[rcpt].Code != 0 {
		return
	}
	if err == nil && chosen.Code != 0 {
		err = chosen.Err()
	}
	r := l.c.replyTo("DataEach", err, okMessage)
	if r.Code == 421 {
		r.Code = 451 // the others have a right to their replies
	}
	l.replies[rcpt] = r
	if b := &l.c.body; b.done && b.refused == nil {
		l.send()
		l.c.flush()
	}
}

// send sends the results that are known.
func (l *results) send() {
	for l.sent < len(l.replies) && l.replies[l.sent].Code != 0 && l.c.err == nil {
		if l.split && l.sent == 0 {
			l.c.replyOnce(eachFollows)
		}
		l.c.replyOnce(l.replies[l.sent])
		l.sent++
	}
}

// overall returns the reply for all recipients, where r is what the session said to the message. The client takes the
// message for accepted, by whoever accepted it, if and only if that is positive.
func (l *results) overall(r proto.Reply) proto.Reply {
	worst := l.replies[0]
	for _, reply := range l.replies {
		switch {
		case reply.Code/100 == 2 && r.Code/100 == 2:
			return r
		case reply.Code/100 == 2:
			return okMessage
		case reply.Code/100 == 4 && worst.Code/100 != 4:
			worst = reply // the client may have more luck with this one
		}
	}
	return worst
}
