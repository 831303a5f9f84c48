package server

import (
	"bytes"
	"errors"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// command carries out a command and answers it.
func (c *Conn) command(ev proto.Event) {
	c.traceCommand(&ev)
	e := c.refuse(&ev)
	if e != nil {
		c.decline(ev, e)
	} else if !c.tooMuch(&ev) {
		c.carryOut(ev)
	}
	c.settle()
	switch {
	case e == nil && ev.Verb.More == proto.Content:
		// The content has followed, and what is pending is the reply to that, which may leave with others.
	case ev.Verb == nil, ev.Verb.Last:
		c.flush() // RFC 2920 section 3.2, rules 5 and 6
	}
}

// settle ends the transaction if the last reply has done so.
func (c *Conn) settle() {
	if c.open && c.rx.State()&proto.Transaction == 0 {
		c.endTransaction()
	}
}

func (c *Conn) carryOut(ev proto.Event) {
	if e, i := c.srv.set.Owner(ev.Verb); e != nil {
		switch {
		case !c.srv.chunks[ev.Verb.Name]:
			c.extension(ev, e)
		case !c.offer.Has(i):
			c.decline(ev, errNotOffered)
		default:
			c.chunk(ev)
		}
		return
	}
	switch ev.Verb.Name {
	case "EHLO", "LHLO", "HELO":
		c.greeted(ev)
	case "MAIL":
		c.account(ev.Verb, c.mailFrom(ev.Args))
	case "RCPT":
		c.account(ev.Verb, c.rcptTo(ev.Args))
	case "DATA":
		c.data(ev)
	case "RSET":
		c.reply(okPlain)
	case "NOOP":
		c.reply(okPlain)
	case "QUIT":
		c.reply(proto.Reply{Code: 221, Text: "Bye"})
		c.quit = true
	default:
		c.account(ev.Verb, errNotServed.Reply())
	}
}

// refuse returns why the command cannot be carried out, before its arguments are looked at, or nil. What the engine
// has found comes first: syntax and sequence.
func (c *Conn) refuse(ev *proto.Event) *proto.Error {
	v := ev.Verb
	switch {
	case v == nil && isHTTP(ev.Args):
		return errHTTP
	case c.refusal != nil && c.rx.State() != proto.Greeting && (v == nil || v.Name != "QUIT"):
		return c.refusal // the reply to every command after STARTTLS (RFC 3207 section 4.1)
	case ev.Err != nil:
		return ev.Err
	case (v.Name == "DATA" || v.Name == "RSET" || v.Name == "QUIT") && len(ev.Args) > 0:
		return errNoArgs
	case v.Name == "QUIT":
		return nil
	case c.srv.opt.RequireTLS && c.tls == nil && (v.Name == "HELO" || v.More == proto.Exchange):
		return errNeedTLS // neither leads to TLS
	case v.BeforeAuth:
	case c.srv.opt.RequireTLS && c.tls == nil:
		return errNeedTLS
	case c.srv.opt.RequireAuth && c.identity == "":
		return errNeedAuth
	}
	return c.askGuards(ev)
}

// isHTTP reports whether args are those of a request of HTTP. Whoever sends one was led here, maybe by an attacker in
// whose hands the rest of the request is.
func isHTTP(args []byte) bool {
	last := args[bytes.LastIndexByte(args, ' ')+1:]
	return bytes.HasPrefix(last, []byte("HTTP/"))
}

func (c *Conn) askGuards(ev *proto.Event) *proto.Error {
	if !c.srv.guards {
		return nil
	}
	args := string(ev.Args)
	for i := range c.srv.set.Extensions() {
		e := &c.srv.set.Extensions()[i]
		if e.Guard == nil {
			continue
		}
		c.watch.arm()
		err := e.Guard(c.ctx, c, ev.Verb, args)
		c.watch.disarm()
		if refusal := c.refusalOf(e.Keyword, err); refusal != nil {
			return refusal
		}
	}
	return nil
}

// refusalOf returns what err refuses a command with, or nil if it does not.
func (c *Conn) refusalOf(what string, err error) *proto.Error {
	if err == nil {
		return nil
	}
	r := c.replyTo(what, err, proto.Reply{})
	if r.Code/100 == 2 {
		return nil
	}
	return &proto.Error{Code: r.Code, Status: r.Status, Text: r.Text}
}

// decline passes over the payload of a command and refuses it (law 4).
func (c *Conn) decline(ev proto.Event, e *proto.Error) {
	if ev.Payload >= 0 && !c.swallow(ev.Payload, e) {
		return
	}
	if e == errHTTP {
		c.dismiss(e)
		return
	}
	r := e.Reply()
	if !isConsequence(ev, c.rx.State()) {
		c.account(ev.Verb, r)
		return
	}
	if c.junk++; c.over(c.junk, c.srv.opt.MaxJunk) {
		r = errJunk.Reply()
	}
	c.reply(r)
}

// isConsequence reports whether a command is out of sequence because of what a client could not know when it sent
// it in a group: that MAIL, or all recipients, or a chunk was refused.
func isConsequence(ev proto.Event, now proto.State) bool {
	if ev.Err == nil || ev.Err.Code != 503 || ev.Verb == nil {
		return false
	}
	return now&(proto.Ready|proto.Mail|proto.Broken) != 0 && ev.Verb.In&(proto.Mail|proto.Rcpt) != 0 &&
		ev.Verb.In&proto.Ready == 0
}

// account counts what a client does wrong, and sends r, or 421 if that was one too many.
func (c *Conn) account(v *proto.Verb, r proto.Reply) {
	switch {
	case r.Code < 400 || r.Code == 421:
	case v != nil && v.Name == "RCPT":
		if r.Code == errRcpts.Code && r.Status == errRcpts.Status {
			c.junk++
		} else {
			c.refused++
		}
		if c.over(c.refused, c.srv.opt.MaxRefusedRcpts) || c.over(c.junk, c.srv.opt.MaxJunk) {
			r = errTooWrong.Reply()
		}
	case r.Code >= 500:
		if c.errors++; c.over(c.errors, c.srv.opt.MaxErrors) {
			r = errTooWrong.Reply()
		}
	}
	c.reply(r)
}

func (c *Conn) over(n, limit int) bool { return limit > 0 && n > limit }

// tooMuch counts commands that do nothing to transfer mail, and ends the connection if that was one too many.
func (c *Conn) tooMuch(ev *proto.Event) bool {
	switch name := ev.Verb.Name; {
	case name == "MAIL" || name == "RCPT" || name == "DATA" || name == "QUIT" || c.srv.chunks[name]:
		return false
	}
	if c.junk++; !c.over(c.junk, c.srv.opt.MaxJunk) {
		return false
	}
	c.dismiss(errJunk)
	return true
}

// greeted answers EHLO, LHLO and HELO.
func (c *Conn) greeted(ev proto.Event) {
	name, e := helloName(ev.Args)
	if e != nil {
		c.account(ev.Verb, e.Reply())
		return
	}
	host := c.srv.opt.Hostname
	c.hello, c.extended = name, ev.Verb.Name != "HELO"
	if !c.extended {
		c.offer = ext.Offer{}
		c.setStatus(false)
		c.reply(proto.Reply{Code: 250, Text: host})
		return
	}
	offer, lines := c.srv.set.Offer(c)
	c.offer = offer
	c.reply(proto.Reply{Code: 250, Text: strings.Join(append([]string{host + " at your service"}, lines...), "\n")})
	c.setStatus(c.srv.set.StatusCodes(offer))
}

func isHello(v *proto.Verb) bool { return v.Name == "EHLO" || v.Name == "LHLO" || v.Name == "HELO" }

// helloName returns the name in the arguments of EHLO. RFC 5321 section 4.1.4 forbids to refuse a client because
// the name is not its own, and so many send something else than a domain that only what could do harm is refused.
func helloName(args []byte) (string, *proto.Error) {
	name, _, _ := bytes.Cut(args, []byte{' '})
	if !isName(string(name)) {
		return "", errBadHello
	}
	return string(name), nil
}

func (c *Conn) mailFrom(args []byte) proto.Reply {
	l, e := c.parse(args, false)
	if e == nil {
		e = c.srv.set.CheckMail(c.offer, l.params)
	}
	if e != nil {
		return e.Reply()
	}
	utf8 := c.srv.set.UTF8(c.offer, l.params)
	if !l.ascii && !utf8 {
		return errFromNotASCII.Reply()
	}
	addr, params := l.addr, l.params
	for _, x := range c.srv.checkMail {
		if e := c.askAbout(x.Keyword, func() error { return x.CheckMail(c.ctx, c, addr, params) }); e != nil {
			return e.Reply()
		}
	}
	c.watch.arm()
	err := c.session.Mail(c.ctx, addr, params)
	c.watch.disarm()
	r := c.replyTo("Mail", err, okMail)
	if r.Code/100 != 2 {
		return r
	}
	c.open, c.mail, c.utf8 = true, params, utf8
	c.binary = c.srv.set.Binary(c.offer, params)
	return r
}

func (c *Conn) rcptTo(args []byte) proto.Reply {
	l, e := c.parse(args, true)
	if e == nil {
		e = c.srv.set.CheckRcpt(c.offer, l.params)
	}
	switch {
	case e != nil:
		return e.Reply()
	case !l.ascii && !c.utf8:
		return errRcptNotASCII.Reply()
	case c.rx.Rcpts() >= c.srv.opt.MaxRcpts && c.rx.State() == proto.Rcpt:
		return errRcpts.Reply()
	}
	addr, params := l.addr, l.params
	for _, x := range c.srv.checkRcpt {
		if e := c.askAbout(x.Keyword, func() error { return x.CheckRcpt(c.ctx, c, addr, params) }); e != nil {
			return e.Reply()
		}
	}
	c.watch.arm()
	err := c.session.Rcpt(c.ctx, addr, params)
	c.watch.disarm()
	return c.replyTo("Rcpt", err, okRcpt)
}

// askAbout asks an extension about a command, and returns the refusal if it is one.
func (c *Conn) askAbout(keyword string, check func() error) *proto.Error {
	c.watch.arm()
	err := check()
	c.watch.disarm()
	return c.refusalOf(keyword, err)
}

// callNewSession calls the backend.
func (c *Conn) callNewSession() (Session, error) {
	c.watch.arm()
	defer c.watch.disarm()
	return c.srv.backend.NewSession(c.ctx, c)
}

// replyTo returns the reply that err stands for, which what returned; ok if it is nil.
func (c *Conn) replyTo(what string, err error, ok proto.Reply) proto.Reply {
	if err == nil {
		return ok
	}
	e := asError(err)
	switch {
	case e == nil && c.ctx.Err() != nil:
		return errEnding.Reply()
	case e == nil || e.Code/100 != 2 && !isRefusal(e.Code):
		c.logError(what, err)
		return proto.Reply{Code: 451, Status: proto.Status{4, 3, 0}, Text: "Local error in processing"}
	case e.Err != nil:
		c.srv.opt.Logger.Info("smtp: refused", "remote", addrString(c.raw), "in", what, "err", err)
	}
	r := e.Reply()
	if e.Verb != "" && e.Code == 421 {
		r.Code = 451 // it is the server behind this one that closes its connection
	}
	if r.Code/100 == 2 && r.Status.IsZero() {
		r.Status = ok.Status
	}
	if r.Text == "" {
		r.Text = plainTexts[r.Code/100]
	}
	return r
}

var plainTexts = [...]string{2: "OK", 4: "Temporary failure, try again later", 5: "Refused"}

// asError returns the *proto.Error that err is or wraps, or nil.
func asError(err error) *proto.Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*proto.Error); ok {
		return e // without the allocation of errors.As
	}
	var e *proto.Error
	_ = errors.As(err, &e)
	return e
}

func isRefusal(code int) bool { return code >= 400 && code <= 599 }

func (c *Conn) logError(what string, err error) {
	c.srv.opt.Logger.Error("smtp: the session failed", "remote", addrString(c.raw), "in", what, "err", err)
}
