package server

import (
	"io"
	"slices"
	"sync"

	"smtpkit.example/smtp/proto"
)

// A recipients collects the outcomes that RecipientData reports for the recipients of a message. They are sent in the
// order of the recipients, each as soon as the content has arrived to its end and all earlier ones are known.
type recipients struct {
	c      *Conn
	report func(rcpt int, r proto.Reply, err error) // the method outcome, bound once

	// mu guards what follows, and the sending of replies, while DataEach is at work: outcomes are reported from any
	// goroutine.
	mu      sync.Mutex
	active  bool          // DataEach is at work
	split   bool          // this is SMTP: a 353 comes before the outcomes, and a reply for all behind them
	replies []proto.Reply // for each recipient; a zero Code means that the outcome is not known yet
	sent    int           // how many of them
}

func (l *recipients) init(c *Conn) {
	l.c = c
	l.report = l.outcome
}

// begin prepares for n recipients; 0 if the message has one outcome for all.
func (l *recipients) begin(n int, split bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active, l.sent, l.split = n > 0, 0, split
	l.replies = slices.Grow(l.replies[:0], n)[:n]
	clear(l.replies)
}

// ask has the session take the message, and takes outcomes from it until it returns, or panics.
func (l *recipients) ask(each RecipientData, content io.Reader) error {
	l.begin(l.c.rx.Rcpts(), l.c.srv.opt.Protocol == proto.SMTP)
	defer l.finish()
	return each.DataEach(l.c.ctx, content, l.report)
}

// rest forgets the outcomes of the last message.
func (l *recipients) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replies, l.sent = nil, 0
}

func (l *recipients) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = false
}

// outcome records what DataEach reports for a recipient.
func (l *recipients) outcome(rcpt int, chosen proto.Reply, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.active || rcpt < 0 || rcpt >= len(l.replies) {
		// The caller may be late, and the goroutine of the connection at work: nothing that it owns is looked at here.
		l.c.srv.opt.Logger.Error("smtp: a result for no recipient of the message", "rcpt", rcpt, "err", err)
		return
	}
	if l.replies[rcpt].Code != 0 {
		return
	}
	var r proto.Reply
	if err == nil {
		r = l.c.replies.chosen("DataEach", chosen, okMessage)
	} else if r = l.c.replies.refused("DataEach", err); r.Code == 421 {
		r.Code = 451 // the other recipients are to get their replies
	}
	l.replies[rcpt] = r
	if b := &l.c.body; b.done && b.refused == nil {
		l.send()
		l.c.replies.flush()
	}
}

// fill sets the outcomes that are not known, or all that have not been sent, to r. It reports whether the message is
// accepted for a recipient.
func (l *recipients) fill(r proto.Reply, all bool) bool {
	accepted := false
	for i := range l.replies {
		if i >= l.sent && (all || l.replies[i].Code == 0) {
			l.replies[i] = r
		}
		accepted = accepted || l.replies[i].Code/100 == 2
	}
	return accepted
}

// send sends the outcomes that are known.
func (l *recipients) send() {
	for l.sent < len(l.replies) && l.replies[l.sent].Code != 0 && l.c.end.err == nil {
		if l.split && l.sent == 0 {
			l.c.replies.sendOne(outcomesFollow)
		}
		l.c.replies.sendOne(l.replies[l.sent])
		l.sent++
	}
}

// overall returns the reply for all recipients, where r is what the session said to the message. The client takes the
// message for accepted, for those recipients that accepted it, if and only if the reply is positive.
func (l *recipients) overall(r proto.Reply) proto.Reply {
	worst := l.replies[0]
	for _, reply := range l.replies {
		switch {
		case reply.Code/100 == 2 && r.Code/100 == 2:
			return r
		case reply.Code/100 == 2:
			return okMessage
		case reply.Code/100 == 4 && worst.Code/100 != 4:
			worst = reply // worth another attempt
		}
	}
	return worst
}
