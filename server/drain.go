package server

import "smtpkit.example/smtp/proto"

// drain skips what is left of the content, or of the chunk in hand. It reports false if the connection is at its end: a
// client that sends too much of what nobody wants is given up.
func (b *body) drain() bool {
	b.dropRest()
	if b.chunk.fetched && b.chunk.open && !b.done {
		b.skipFetched()
		return true
	}
	if !b.done && b.isTooMuch() {
		b.abandon()
		return false
	}
	for !b.done {
		switch ev := b.c.pump.next(true); ev.Kind {
		case proto.Body:
			b.drop(ev.Data)
			if b.isTooMuch() {
				b.abandon()
				return false
			}
		case proto.EndOfBody:
			if !b.isLast() {
				return true
			}
			b.endText()
			b.complete()
		default:
			return false
		}
	}
	return true
}

// isTooMuch reports whether the content, with what is left of the chunk in hand, is so much that the client is given
// up: more than twice as much as the largest message. Less is read and dropped, however large the chunk is, and the
// session goes on (RFC 3030 section 2).
func (b *body) isTooMuch() bool {
	left := max(b.chunk.left, 0)
	if limit := b.c.srv.opt.Limits.MessageSize; limit > 0 {
		return left > b.c.srv.opt.maxDrained()-(b.size-limit)
	}
	return left > maxDrain-b.drained
}

// abandon ends the connection in the middle of content that was refused.
func (b *body) abandon() {
	r := b.reply
	if r.Code < 400 || b.refused != nil && !b.decided {
		r = errTooBig.Reply()
	}
	n := 1
	if b.chunk.verb == nil && b.c.srv.opt.Protocol == proto.LMTP {
		n = b.c.rx.Rcpts()
	}
	b.c.closeWith(r, n)
}

// skipPayload skips the payload of a command that is refused with e. It reports false if the connection is at its end.
func (m *commands) skipPayload(n int64, e *proto.Error) bool {
	c := m.c
	if n > c.srv.opt.maxSkipped()-c.body.drained {
		c.closeWith(e.Reply(), 1)
		return false
	}
	c.body.drained += n
	for {
		switch ev := c.pump.next(true); ev.Kind {
		case proto.Body:
		case proto.EndOfBody:
			return true
		default:
			return false
		}
	}
}

// maxSkipped returns how many octets are skipped that belong to no message: as many as those of a message that is too
// large. The client may have sent them behind a MAIL that was refused for its size.
func (o *Options) maxSkipped() int64 { return max(o.Limits.MessageSize, 0) + o.maxDrained() }

// maxDrained returns how many octets beyond the largest message are skipped.
func (o *Options) maxDrained() int64 {
	if o.Limits.MessageSize > 0 {
		return max(o.Limits.MessageSize, minDrain)
	}
	return maxDrain
}
