package server

import "smtpkit.example/smtp/proto"

// A budget is what a client may still do wrong. What it has spent is forgotten when a message is accepted, as in
// Postfix: a client that sends many good messages may have some bad recipients among them.
type budget struct {
	c            *Conn
	spent        spending
	authFailures int // attempts to authenticate that failed; never forgotten
}

// A spending counts since the last message that was accepted.
type spending struct {
	errors  int // commands refused with 5yz, RCPT apart
	refused int // recipients refused
	junk    int // commands that do nothing to transfer mail; Postfix has smtpd_junk_command_limit for them
}

// charge charges the reply r, to a command v that may be nil, to the budget. It returns r, or 421 if the budget is
// spent.
func (b *budget) charge(v *proto.Verb, r proto.Reply) proto.Reply {
	switch {
	case r.Code < 400 || r.Code == 421:
		return r
	case v != nil && v.Name == "RCPT":
		if r.Code == errRcpts.Code && r.Status == errRcpts.Status {
			b.spent.junk++ // one recipient more than a transaction may have is not a bad one
		} else {
			b.spent.refused++
		}
		if l := &b.c.srv.opt.Limits; exceeds(b.spent.refused, l.RefusedRcpts) || exceeds(b.spent.junk, l.Junk) {
			return errTooWrong.Reply()
		}
	case r.Code >= 500:
		if b.spent.errors++; exceeds(b.spent.errors, b.errors()) {
			return errTooWrong.Reply()
		}
	case !b.chargeJunk():
		return errJunk.Reply() // it was told to try again later, and not at once
	}
	return r
}

// chargeJunk charges a command that does nothing to transfer mail. It reports false if the budget is spent.
func (b *budget) chargeJunk() bool {
	b.spent.junk++
	limit := b.c.srv.opt.Limits.Junk
	if st := (claims{b.c}).stress(); st != nil {
		limit = stricter(limit, st.Junk)
	}
	return !exceeds(b.spent.junk, limit)
}

// errors returns how many errors are within the budget.
func (b *budget) errors() int {
	limit := b.c.srv.opt.Limits.Errors
	if st := (claims{b.c}).stress(); st != nil {
		limit = stricter(limit, st.Errors)
	}
	return limit
}

// exceeds reports whether n is beyond limit; 0 is no limit.
func exceeds(n, limit int) bool { return limit > 0 && n > limit }
