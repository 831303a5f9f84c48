package client

import (
	"errors"

	"smtpkit.example/smtp/proto"
)

// A Part is the outcome of a message for some of its recipients. It is for a [Sender] of your own that has several
// destinations; see [Join].
type Part struct {
	// To tells for whom the outcome is, as places in the To of the whole message. Its order is that of the recipients in
	// Result.
	To []int
	// Result and Err are what the Sender of this part has returned.
	Result *Result
	Err    error
}

// Join makes one outcome of those for the parts of m, as a [Sender] has to return it. The parts may have been sent at
// the same time, with [Share], or one after the other.
//
// The result has the recipients in the order of m.To, the octets of all parts, and the Reply of the last part that has
// one. The error is nil if all recipients were accepted. Otherwise it is a *SendError with the same result. It is
// Unknown if a recipient is in doubt; the others may be tried again, by [SendError.Retry] for instance.
//
// A recipient who is in several parts has the outcome of the last one. One who is in none has a [LimitError]. If a part
// has no Result that fits its recipients, or one without an error for any of them in spite of Err, all of its
// recipients have Err.
func Join(m *Message, parts []Part) (*Result, error) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	res := newResult(m)
	for i := range res.Recipients {
		res.Recipients[i].Err = errInNoPart
	}
	for i := range parts {
		parts[i].addTo(res, m)
	}
	var first error
	unknown := false
	for i := range res.Recipients {
		err := res.Recipients[i].Err
		if err == nil {
			continue
		}
		if marked := isMarked(err); first == nil || marked && !unknown {
			first = err
			unknown = unknown || marked
		}
	}
	if first == nil {
		return res, nil
	}
	return res, &SendError{Result: res, Unknown: unknown, Err: first}
}

var errInNoPart = &LimitError{Err: errors.New("it was in no part of the message")}

// addTo enters the outcome of the part into res, which is that of m.
func (p *Part) addTo(res *Result, m *Message) {
	failed, ok := asType[*SendError](p.Err)
	if !ok {
		failed = &SendError{Err: p.Err}
	}
	part := p.Result
	if part == nil {
		part = failed.Result
	}
	fits := part != nil && len(part.Recipients) == len(p.To) && (p.Err == nil || part.Sent() < len(p.To))
	if part != nil {
		res.Octets += part.Octets
		if part.Reply.Code != 0 {
			res.Reply = part.Reply
		}
	}
	vague := failed.vague()
	for i, at := range p.To {
		if at < 0 || at >= len(m.To) {
			continue
		}
		o := proto.Outcome{Err: p.Err}
		if fits {
			o = part.Recipients[i]
		} else if ok && failed.Err != nil {
			o.Err = failed.Err // a SendError is about several recipients
		}
		if o.Err != nil && vague && isInDoubt(o.Err) {
			o.Err = inDoubt(o.Err)
		}
		o.Recipient = m.To[at]
		res.Recipients[at] = o
	}
}
