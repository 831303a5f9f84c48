package server

import "smtpkit.example/smtp/proto"

// A commands carries out what the client asks for, one command at a time: it checks a command, calls the handler that
// bears the name of the verb, and charges the reply to the budget.
type commands struct {
	c       *Conn
	choice  proto.Reply // of success, by the method of the session in hand; zero if it has chosen none
	command extCommand  // the command in hand, if an extension serves it
}

// handle carries out a command and answers it.
func (m *commands) handle(ev *proto.Event) {
	c := m.c
	c.trace.command(ev)
	if t := (turns{c}); t.isEarly(ev) && !t.early(behindCommand, ev.Verb) {
		return
	}
	e := m.check(ev)
	if e != nil {
		m.refuse(ev, e)
	} else if m.pays(ev) {
		m.dispatch(ev)
	}
	m.settle()
	switch {
	case e == nil && ev.Verb.More == proto.Content:
		// The content has followed. The reply that is pending answers it, and may leave with others.
	case ev.Verb == nil, ev.Verb.Last:
		c.replies.flush() // RFC 2920 section 3.2, rules 5 and 6
	}
	c.trace.answered()
}

// settle ends the transaction if the last reply has done so.
func (m *commands) settle() {
	if m.c.transaction.open && m.c.rx.State()&proto.Transaction == 0 {
		m.c.transaction.finish(m.c)
	}
}

// dispatch has a command carried out that may be.
func (m *commands) dispatch(ev *proto.Event) {
	c := m.c
	switch ev.Verb.Name {
	case "EHLO", "LHLO":
		m.ehlo(ev)
	case "HELO":
		m.helo(ev)
	case "MAIL":
		m.answer(ev.Verb, m.mail(ev.Args))
	case "RCPT":
		r := m.rcpt(ev.Args)
		m.countRcpt(r)
		m.answer(ev.Verb, r)
	case "DATA":
		m.data(ev)
	case "RSET", "NOOP":
		c.replies.send(okPlain)
	case "QUIT":
		c.replies.send(proto.Reply{Code: 221, Text: "Bye"})
		c.end.quit = true
	default:
		m.dispatchExtension(ev)
	}
}

// countRcpt counts the reply to RCPT.
func (m *commands) countRcpt(r proto.Reply) {
	if r.Code/100 == 2 {
		m.c.srv.stats.rcpts.Add(1)
		return
	}
	m.c.srv.stats.rcptsRefused.Add(1)
	if t := m.c.transaction.traced; t != nil {
		t.RcptsRefused++
	}
}

// dispatchExtension is dispatch for a command that is none of the protocol's own.
func (m *commands) dispatchExtension(ev *proto.Event) {
	switch e, i := m.c.srv.set.Owner(ev.Verb); {
	case e == nil:
		m.answer(ev.Verb, errNotServed.Reply())
	case !m.c.srv.chunks[ev.Verb.Name]:
		m.extension(ev, e)
	case !m.c.greeting.offer.Has(i):
		m.refuse(ev, errNotOffered)
	default:
		m.bdat(ev)
	}
}

// answer charges a reply to the budget and sends it.
func (m *commands) answer(v *proto.Verb, r proto.Reply) {
	m.c.replies.send(m.c.budget.charge(v, r))
}

// check returns why a command cannot be carried out, before its arguments are looked at, or nil. What the engine has
// found comes first: syntax and sequence.
func (m *commands) check(ev *proto.Event) *proto.Error {
	c, v := m.c, ev.Verb
	plaintext := c.srv.opt.RequireTLS && c.link.tls == nil
	switch {
	case v == nil && isHTTP(ev.Args):
		return errHTTP
	case c.greeting.refusal != nil && c.rx.State() != proto.Greeting && (v == nil || v.Name != "QUIT"):
		return c.greeting.refusal // the reply to every command after STARTTLS (RFC 3207 section 4.1)
	case ev.Err != nil:
		return ev.Err
	case (v.Name == "DATA" || v.Name == "RSET" || v.Name == "QUIT") && len(ev.Args) > 0:
		return errNoArgs
	case v.Name == "QUIT":
		return nil
	case plaintext && (v.Name == "HELO" || v.More == proto.Exchange):
		return errNeedTLS // neither leads to TLS
	case v.BeforeAuth:
	case plaintext:
		return errNeedTLS
	case c.srv.opt.RequireAuth && c.greeting.identity == "":
		return errNeedAuth
	}
	if c.srv.authenticates(v) && !c.srv.rates.has(authRate, c.srv.ratedNetworkOf(c.RemoteAddr())) {
		c.srv.stats.authOverRate.Add(1)
		return c.limited(errAuthRate)
	}
	return m.checkGuards(ev)
}

// checkGuards asks the extensions that may refuse any command.
func (m *commands) checkGuards(ev *proto.Event) *proto.Error {
	c := m.c
	if len(c.srv.guards) == 0 {
		return nil
	}
	v, args := ev.Verb, string(ev.Args)
	for _, x := range c.srv.guards {
		if e := m.ask(x.Keyword, func() error { return x.Guard(c.ctx, c, v, args) }); e != nil {
			return e
		}
	}
	return nil
}

// ask calls check, by which an extension looks at a command, and returns its refusal, or nil.
func (m *commands) ask(keyword string, check func() error) *proto.Error {
	choice := m.choice // of a Data that is at work meanwhile
	m.c.background.start()
	err := check()
	m.c.background.stop()
	m.choice = choice
	if err == nil {
		return nil
	}
	return m.c.replies.refused(keyword, err).Err()
}

// calling prepares for a call of a method of the session, behind which called has to follow.
func (m *commands) calling() {
	m.choice = proto.Reply{}
	m.c.background.start()
}

// called returns the reply for what the method of the session returned and chose, ok by default.
func (m *commands) called(method string, err error, ok proto.Reply) proto.Reply {
	m.c.background.stop()
	choice := m.choice
	m.choice = proto.Reply{}
	if err != nil {
		return m.c.replies.refused(method, err)
	}
	return m.c.replies.chosen(method, choice, ok)
}

// refuse skips the payload of a command and sends the refusal e (law 4).
func (m *commands) refuse(ev *proto.Event, e *proto.Error) {
	c := m.c
	if ev.Payload >= 0 && !m.skipPayload(ev.Payload, e) {
		return
	}
	switch {
	case e == errHTTP:
		c.logForeign(e)
		c.close421(e)
	case !isConsequence(ev, c.rx.State()):
		m.answer(ev.Verb, e.Reply())
	case c.budget.chargeJunk():
		c.replies.send(e.Reply())
	default:
		c.replies.send(errJunk.Reply())
	}
}

// isConsequence reports whether a command is out of sequence only because an earlier command of the same pipelined
// group was refused, which the client could not know: MAIL, all RCPT, or a chunk.
func isConsequence(ev *proto.Event, now proto.State) bool {
	if ev.Err == nil || ev.Err.Code != 503 || ev.Verb == nil {
		return false
	}
	return now&(proto.Ready|proto.Mail|proto.Broken) != 0 && ev.Verb.In&(proto.Mail|proto.Rcpt) != 0 &&
		ev.Verb.In&proto.Ready == 0
}

// pays charges a command that does nothing to transfer mail to the budget. If that is spent, it ends the connection and
// reports false.
func (m *commands) pays(ev *proto.Event) bool {
	switch name := ev.Verb.Name; {
	case name == "MAIL" || name == "RCPT" || name == "DATA" || name == "QUIT" || m.c.srv.chunks[name]:
		return true
	case m.c.budget.chargeJunk():
		return true
	}
	m.c.close421(errJunk)
	return false
}
