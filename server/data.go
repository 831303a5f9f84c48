package server

import "smtpkit.example/smtp/proto"

// data answers DATA. Whether the message is wanted at all is decided before the 354.
func (m *commands) data(ev *proto.Event) {
	c := m.c
	if c.transaction.binary {
		m.answer(ev.Verb, errBinary.Reply())
		c.replies.flush()
		return
	}
	c.replies.send(proto.Reply{Code: 354, Text: "Start mail input; end with <CRLF>.<CRLF>"})
	c.replies.flush()
	c.body.begin()
	if m.deliver() && c.body.drain() {
		m.answerContent()
	}
}

// bdat deals with a chunk of content, by BDAT or by a verb like it. The first chunk has the session take the message,
// and the session's reader pulls the others. So a later chunk arrives here only if the session has accepted the message
// unread.
func (m *commands) bdat(ev *proto.Event) {
	c, b := m.c, &m.c.body
	src, e := m.fetch(ev)
	if e != nil {
		m.answer(ev.Verb, e.Reply())
		return
	}
	defer b.closeSource()
	first := c.rx.State() != proto.Chunks
	if first {
		b.begin()
	}
	if !b.beginChunk(ev, src) || first && !m.deliver() {
		return
	}
	if ev := b.pending; ev != nil {
		b.pending = nil
		m.dispatch(ev)
		m.settle()
		if ev.Verb.Last {
			c.replies.flush()
		}
		return
	}
	if !b.chunk.open || !b.drain() {
		return
	}
	switch {
	case b.chunk.verb.Ends():
		m.answerContent()
	case b.refused != nil && !b.decided:
		c.replies.send(b.refused.Reply())
	case b.reply.Code >= 400:
		c.replies.send(b.reply)
	default:
		b.answerChunk()
	}
}

// deliver has the session take the message. It reports false if the connection is at its end.
func (m *commands) deliver() bool {
	c, b := m.c, &m.c.body
	b.active = true
	m.choice = proto.Reply{}
	each := c.session.each != nil && (c.srv.opt.Protocol == proto.LMTP || c.rx.Splits() && c.rx.Rcpts() > 1)
	r, err := c.session.content(c.ctx, b)
	each = each && err == nil
	if !each {
		c.recipients.begin(0, false)
	}
	switch {
	case err != nil:
	case each:
		err = c.recipients.ask(c.session.each, r)
	default:
		err = c.session.Data(c.ctx, r)
	}
	c.background.stop()
	b.active, b.data = false, nil
	if b.err == nil {
		b.err = errDataEnded
	}
	if c.end.err != nil || c.rx.State() == proto.Closed {
		return false
	}
	if b.pending != nil {
		return true // the client has given the message up, and nobody asks for its outcome
	}
	if !b.isBetweenChunks() {
		b.reply = m.called("Data", err, okMessage)
		e := asError(err)
		b.decided = e != nil && isRefusal(e.Code)
		if b.reply.Code == 421 {
			c.replies.send(b.reply)
			c.replies.flush()
			return false
		}
	}
	return true
}

// answerContent answers the content, which has arrived to its end: once, or in LMTP once for each recipient (RFC 2033
// section 4.2). In SMTP, a client that has asked for it gets an outcome for each recipient too, and then one for all.
func (m *commands) answerContent() {
	c, b, l := m.c, &m.c.body, &m.c.recipients
	r := b.reply
	if b.refused != nil && !b.decided {
		r = b.refused.Reply()
	}
	first, accepted := r, r.Code/100 == 2
	if len(l.replies) == 0 || l.split && b.refused != nil {
		c.replies.send(r)
	} else {
		accepted = l.fill(r, b.refused != nil) || accepted
		first = l.replies[0]
		l.send()
		if l.split {
			c.replies.send(l.overall(r))
		}
	}
	if accepted {
		c.budget.spent = spending{}
		c.transaction.accepted = true
	}
	c.srv.stats.content(b.size, accepted)
	c.trace.content(b.size, first)
}
