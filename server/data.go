package server

import "smtpkit.example/smtp/proto"

// data answers DATA: everything is decided before the 354.
func (c *Conn) data(ev proto.Event) {
	if c.binary {
		c.account(ev.Verb, errBinary.Reply())
		c.flush()
		return
	}
	c.reply(proto.Reply{Code: 354, Text: "Start mail input; end with <CRLF>.<CRLF>"})
	c.flush()
	c.body.begin()
	if c.takeData() && c.body.drain() {
		c.answer()
	}
}

// chunk deals with a chunk of content. The first one has the session take the message, and the session's reader pulls
// the others, so that a chunk that arrives here later belongs to a message that the session accepted unread.
func (c *Conn) chunk(ev proto.Event) {
	b := &c.body
	src, e := c.fetch(ev)
	if e != nil {
		c.account(ev.Verb, e.Reply())
		return
	}
	defer b.closeSource()
	first := c.rx.State() != proto.Chunks
	if first {
		b.begin()
	}
	if !b.start(ev, src) || first && !c.takeData() {
		return
	}
	if ev := b.pending; ev.Kind == proto.Command {
		b.pending = proto.Event{}
		c.carryOut(ev)
		c.settle()
		if ev.Verb.Last {
			c.flush()
		}
		return
	}
	if !b.inChunk || !b.drain() {
		return
	}
	switch {
	case b.verb.Ends():
		c.answer()
	case b.refused != nil && !b.chosen:
		c.reply(b.refused.Reply())
	case b.reply.Code >= 400:
		c.reply(b.reply)
	default:
		b.answerChunk()
	}
}

// takeData has the session take the message. It reports false if the connection is at its end.
func (c *Conn) takeData() bool {
	b := &c.body
	b.active = true
	var err error
	if c.each != nil && (c.srv.opt.Protocol == proto.LMTP || c.rx.Splits() && c.rx.Rcpts() > 1) {
		c.lmtp.begin(c.rx.Rcpts())
		c.lmtp.split = c.srv.opt.Protocol == proto.SMTP
		err = c.each.DataEach(c.ctx, b, c.lmtp.report)
		c.lmtp.finish()
	} else {
		c.lmtp.begin(0)
		err = c.session.Data(c.ctx, b)
	}
	c.watch.disarm()
	b.active, b.data = false, nil
	if b.err == nil {
		b.err = errDataEnded
	}
	if c.err != nil || c.rx.State() == proto.Closed {
		return false
	}
	if b.pending.Kind == proto.Command {
		return true // the message is given up, and nobody asks what became of it
	}
	if b.inChunk || b.verb == nil {
		b.reply = c.replyTo("Data", err, okMessage)
		e := asError(err)
		b.chosen = e != nil && b.reply.Code >= 400
		if b.reply.Code == 421 {
			c.reply(b.reply)
			c.flush()
			return false
		}
	}
	return true
}

// answer answers the content, which has arrived to its end: once, or in LMTP once for each recipient (RFC 2033
// section 4.2). A client that has asked for it is told about each recipient in SMTP too, and then about all.
func (c *Conn) answer() {
	b := &c.body
	r := b.reply
	if b.refused != nil && !b.chosen {
		r = b.refused.Reply()
	}
	first, accepted := r, r.Code/100 == 2
	switch l := &c.lmtp; {
	case len(l.replies) == 0 || l.split && b.refused != nil:
		c.reply(r)
	default:
		for i := range l.replies {
			if b.refused != nil || l.replies[i].Code == 0 {
				if i >= l.sent {
					l.replies[i] = r
				}
			}
			accepted = accepted || l.replies[i].Code/100 == 2
		}
		first = l.replies[0]
		l.send()
		if l.split {
			c.reply(l.overall(r))
		}
	}
	if accepted {
		c.errors, c.refused, c.junk = 0, 0, 0
	}
	if c.srv.opt.Trace.Message != nil {
		c.srv.opt.Trace.Message(c, b.size, first)
	}
}
