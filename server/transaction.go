package server

import "smtpkit.example/smtp/proto"

// A transaction is what is known of the message that is being sent. It is zero unless a MAIL was accepted, and becomes
// zero again when the message is done with, by RSET, EHLO, and with the connection (RFC 5321 section 4.1.1.5).
type transaction struct {
	open   bool          // the session has accepted MAIL, and its Reset is due
	params proto.Params  // of MAIL
	utf8   bool          // MAIL permits addresses in UTF-8, and replies that have them (RFC 6531 section 3.4)
	binary bool          // MAIL declares content that is not lines of text (RFC 3030 section 3)
	rcpt   proto.Address // the recipient accepted last

	accepted bool // the message was, at least for one recipient

	verdicts []Verdict
	traced   *Transaction // for the Trace and the log; nil if neither wants it
}

// finish forgets the transaction, and tells the session that it is over, if one is open.
func (t *transaction) finish(c *Conn) {
	if !t.open {
		return
	}
	traced, accepted := t.traced, t.accepted
	if traced != nil {
		traced.Verdicts = c.Verdicts()
	}
	t.forget(c)
	if traced != nil {
		c.trace.transaction(traced)
	}
	if c.session.resetter != nil {
		if accepted && c.rx.Buffered() == 0 {
			c.replies.flush() // a client that has to wait for Reset may give up, and send the message again
		}
		c.background.start()
		c.session.resetter.Reset(c.ctx)
		c.background.stop()
	}
}

// forget makes the transaction zero.
func (t *transaction) forget(c *Conn) {
	*t = transaction{}
	c.held.transaction.end(&c.srv.memory)
}

// mail asks the session about a sender.
func (m *commands) mail(args []byte) proto.Reply {
	c := m.c
	if c.greeting.mails++; exceeds(c.greeting.mails, c.srv.opt.Limits.Mails) {
		c.srv.stats.overMails.Add(1)
		return c.limited(errMails).Reply()
	}
	set, offer := c.srv.set, c.greeting.offer
	l, e := c.greeting.parse(args, false, &c.srv.opt)
	if e == nil {
		e = set.CheckMail(offer, l.params)
	}
	if e != nil {
		return e.Reply()
	}
	utf8 := set.UTF8(offer, l.params)
	if !l.ascii && !utf8 {
		return errFromNotASCII.Reply()
	}
	if !c.srv.rates.take(messageRate, c.srv.ratedNetworkOf(c.RemoteAddr())) {
		c.srv.stats.messagesOverRate.Add(1)
		return c.limited(errMessageRate).Reply()
	}
	if e := (claims{c}).beginTransaction(); e != nil {
		return e.Reply()
	}
	addr, params := l.addr, l.params
	m.calling()
	for _, x := range c.srv.checkMail {
		if err := x.CheckMail(c.ctx, c, addr, params); err != nil {
			c.transaction.forget(c)
			return m.called(x.Keyword, err, okMail)
		}
	}
	m.choice = proto.Reply{} // that of success is for the session
	r := m.called("Mail", c.session.Mail(c.ctx, addr, params), okMail)
	if r.Code/100 == 2 {
		c.transaction.open, c.transaction.params = true, params
		c.transaction.utf8, c.transaction.binary = utf8, set.Binary(offer, params)
		c.transaction.traced = c.trace.begin(addr, params)
	} else {
		c.transaction.forget(c)
	}
	return r
}

// rcpt asks the session about a recipient.
func (m *commands) rcpt(args []byte) proto.Reply {
	c := m.c
	l, e := c.greeting.parse(args, true, &c.srv.opt)
	if e == nil {
		e = c.srv.set.CheckRcpt(c.greeting.offer, l.params)
	}
	switch {
	case e != nil:
		return e.Reply()
	case !l.ascii && !c.transaction.utf8:
		return errRcptNotASCII.Reply()
	case c.rx.Rcpts() >= c.srv.opt.Limits.Rcpts && c.rx.State() == proto.Rcpt:
		return errRcpts.Reply()
	}
	if e := (claims{c}).take(&c.held.transaction, rcptMemory+int64(len(args)), errMemory); e != nil {
		return e.Reply()
	}
	addr, params := l.addr, l.params
	m.calling()
	for _, x := range c.srv.checkRcpt {
		if err := x.CheckRcpt(c.ctx, c, addr, params); err != nil {
			return m.called(x.Keyword, err, okRcpt)
		}
	}
	m.choice = proto.Reply{} // that of success is for the session
	r := m.called("Rcpt", c.session.Rcpt(c.ctx, addr, params), okRcpt)
	if r.Code/100 == 2 {
		c.transaction.rcpt = addr
		if t := c.transaction.traced; t != nil {
			t.To = append(t.To, proto.Recipient{Address: addr, Params: params})
		}
	}
	return r
}
