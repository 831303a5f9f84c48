package server

import (
	"time"

	"smtpkit.example/smtp/proto"
)

// restTime returns when the connection is to rest if nothing arrives until then. It is zero if the connection rests
// already, or has input or a transaction.
func (c *Conn) restTime(now time.Time, content bool) time.Time {
	if content || c.loan.resting || c.rx.Buffered() > 0 || c.rx.State()&proto.Transaction != 0 {
		return time.Time{}
	}
	return now.Add(restDelay)
}

// rest gives up all memory that only a client at work needs. What follows makes it anew.
func (c *Conn) rest() {
	c.loan.rest()
	c.background.rest()
	c.recipients.rest()
	c.replies.forget()
	c.body.fetched = nil
	c.body.newlines = newlines{}
	c.greeting.lines = nil
}
