package server

import (
	"errors"
	"fmt"
	"log/slog"

	"smtpkit.example/smtp/proto"
)

// A replies turns what sessions and extensions return into replies, and collects replies until nothing is left to read,
// so that those to a pipelined group leave in one write (RFC 2920 section 3.2).
type replies struct {
	c      *Conn
	out    []byte // not written yet
	status bool   // replies carry enhanced status codes
	utf8   bool   // the command in hand permits UTF-8 in the reply to it
}

// setStatus sets whether replies carry enhanced status codes.
func (p *replies) setStatus(on bool) {
	p.status = on
	p.c.rx.SetStatus(on)
}

// send answers the command in hand, with as many replies as it still has to get.
func (p *replies) send(r proto.Reply) {
	for more := true; more && p.c.end.err == nil; more = p.c.rx.Due() > 0 {
		p.sendOne(r)
	}
}

// sendOne sends one reply.
func (p *replies) sendOne(r proto.Reply) {
	c := p.c
	r, utf8 := p.permitted(r)
	c.rx.SetUTF8(utf8)
	out, err := c.rx.AppendReply(p.out, r)
	if err != nil {
		// Only a row of an extension's verb that does not fit its Serve leads here.
		c.log(slog.LevelError, "smtp: the command cannot have this reply", "verb", c.trace.verb, "reply", r.Code, "err", err)
		r = errInternal.Reply()
		if out, err = c.rx.AppendReply(p.out, r); err != nil {
			c.disconnect(err)
			return
		}
	}
	p.out = out
	c.trace.reply(r)
	if r.Code == 421 {
		c.end.linger = true
		c.end.bye = r.Err()
	}
	if p.isFull() {
		p.flush()
	}
}

// sendEarly sends a reply that is not due, behind the back of the engine. The connection has to end then.
func (p *replies) sendEarly(r proto.Reply) {
	r, utf8 := p.permitted(r)
	p.out = proto.AppendReply(p.out, r, p.status, utf8)
	p.c.trace.reply(r)
}

// permitted returns r with UTF-8 only where the client has permitted it: by the command in hand, or by MAIL for the
// addresses in 251 and 551. These become 250 and 550 elsewhere, without the address (RFC 6531 section 3.7.4). In any
// other reply, the engine replaces what is not ASCII, unless permitted returns true.
func (p *replies) permitted(r proto.Reply) (proto.Reply, bool) {
	moved := r.Code == 251 || r.Code == 551
	permitted := p.utf8 || moved && p.c.transaction.utf8
	if moved && !permitted && !isASCII(r.Text) {
		r.Code--
		r.Text = "The message will be forwarded"
		if r.Code == 550 {
			r.Text = "The user has another address now"
			if r.Status.IsZero() {
				r.Status = proto.Status{5, 1, 6}
			}
		}
	}
	return r, permitted
}

// flush writes the replies that have been collected.
func (p *replies) flush() {
	if len(p.out) == 0 || p.c.end.err != nil {
		return
	}
	err := p.c.link.write(p.out, p.c.srv.opt.Timeouts.Write)
	p.out = p.out[:0]
	if cap(p.out) > maxPending {
		p.forget()
	}
	if err != nil {
		p.c.disconnect(err)
	}
}

// chosen returns the reply of success r that a method of the session has chosen, or an extension: ok if it has chosen
// none. A choice may leave the status code and the text to ok.
func (p *replies) chosen(method string, r, ok proto.Reply) proto.Reply {
	switch {
	case r == proto.Reply{}:
		return ok
	case r.Code/100 != 2:
		p.c.logFailure(method, fmt.Errorf("smtp: %d is no reply of success: return an error to refuse", r.Code))
		return errLocal.Reply()
	}
	if r.Status.IsZero() {
		r.Status = ok.Status
	}
	if r.Text == "" {
		r.Text = ok.Text
	}
	return r
}

// refused returns the reply that an error of a method of the session, or of an extension, stands for. It always
// refuses.
func (p *replies) refused(method string, err error) proto.Reply {
	c := p.c
	e, bare := err.(*proto.Error)
	if !bare {
		e = asError(err)
	}
	switch {
	case e == nil && c.ctx.Err() != nil:
		return errEnding.Reply()
	case e == nil:
		c.logFailure(method, err)
		return errLocal.Reply()
	case !isRefusal(e.Code):
		c.logFailure(method, fmt.Errorf("smtp: an error with the code %d does not refuse; success is not an error: %w",
			e.Code, err))
		return errLocal.Reply()
	case !bare || e.Err != nil:
		c.log(slog.LevelInfo, "smtp: refused", "in", method, "err", err)
	}
	r := e.Reply()
	if e.Verb != "" && e.Code == 421 {
		r.Code = 451 // the server behind this one closes its connection, and we do not
	}
	if r.Text == "" {
		r.Text = plainTexts[r.Code/100]
	}
	return r
}

var plainTexts = [...]string{4: "Temporary failure, try again later", 5: "Refused"}

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
