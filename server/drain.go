package server

import "smtpkit.example/smtp/proto"

// drain skips what is left of the content, or of the chunk in hand. It reports false if the connection is at its end: a
// client that sends too much of what nobody wants is given up.
func (b *body) drain() bool {
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
			b.count(ev.Data)
			b.drained += int64(len(ev.Data))
			if b.isTooMuch() {
				b.abandon()
				return false
			}
		case proto.EndOfBody:
			if !b.isLast() {
				return true
			}
			b.complete()
		default:
			return false
		}
	}
	return true
}

// isTooMuch reports whether the content, with what is left of the chunk in hand, is so much that the client is given
// up.
func (b *body) isTooMuch() bool {
	left := max(b.chunk.left, 0)
	if limit := b.c.srv.opt.Limits.MessageSize; limit > 0 {
		maxOctets := b.c.srv.opt.maxDrained()
		return left > maxOctets || b.size-limit+left > maxOctets
	}
	return left > maxDrain || b.drained+left > maxDrain
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
	maxOctets := c.srv.opt.maxDrained()
	if c.body.drained += n; n > maxOctets || c.body.drained > maxOctets {
		c.closeWith(e.Reply(), 1)
		return false
	}
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

// maxDrained returns how many octets beyond the largest message are skipped, and how many that belong to no message.
func (o *Options) maxDrained() int64 {
	if o.Limits.MessageSize > 0 {
		return max(o.Limits.MessageSize, minDrain)
	}
	return maxDrain
}
