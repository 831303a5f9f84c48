package client

import (
	"fmt"

	"smtpkit.example/smtp/proto"
)

// An AllOrNoneError means that the server took this recipient, or refused it for now only, and that the message was not
// sent to it since another recipient was refused: see [Message.AllOrNone]. It is temporary if that refusal is.
//
// It does not wrap Err, which is about the other recipient.
type AllOrNoneError struct {
	Refused proto.Address // the recipient that was refused
	Err     error         // the refusal, a *proto.Error
}

func (e *AllOrNoneError) Error() string {
	return "smtp: the message goes to all recipients or to none, and " + e.Refused.String() + " was refused: " +
		cause(e.Err)
}

// Status returns the status code for a delivery status notification: 4.0.0 or 5.0.0 (RFC 3463 section 3.1). The code of
// the refusal would be wrong for this recipient.
func (e *AllOrNoneError) Status() proto.Status {
	if temporary(e.Err) {
		return proto.Status{4, 0, 0}
	}
	return proto.Status{5, 0, 0}
}

// withhold resolves all recipients of a message that goes to all or to none, if one was refused. It returns the refusal
// that is to blame, or nil. A permanent one comes before a temporary one: the outcomes are then permanent for all, or
// temporary for all, so that nobody takes some of the recipients for worth another attempt.
func (t *transaction) withhold() error {
	if !t.m.AllOrNone {
		return nil
	}
	if done, ok := t.stopped.(*AllOrNoneError); ok {
		return done.Err
	}
	all, why := t.res.Recipients, -1
	refused := func(i int) bool { return all[i].Rcpt.Code != 0 && !t.took(i) }
	for i := range all {
		if refused(i) && (why < 0 || temporary(all[why].Err) && !temporary(all[i].Err)) {
			why = i
		}
	}
	if why < 0 {
		return nil
	}
	blamed := all[why].Err
	err := &AllOrNoneError{Refused: all[why].Address, Err: blamed}
	for i := range all {
		t.settle(i)
		if !refused(i) || temporary(all[i].Err) != temporary(blamed) {
			all[i].Reply, all[i].Err = proto.Reply{}, err
		}
	}
	t.stopped = err
	return blamed
}

// divided returns why m, which goes to all or to none, cannot be sent: it has more recipients than one transaction of a
// new session takes.
func (s *session) divided(m *Message) error {
	fresh, most := session{limits: s.limits}, 0
	if s.limits.RcptMax == 0 {
		most = maxOffered
	}
	if _, rest := fresh.choose(m.To, everyone(m), most); len(rest) == 0 {
		return nil
	}
	limits := describeLimits(s.limits)
	if limits == "" || s.limits.RcptMax == 0 && len(m.To) > maxOffered {
		limits = fmt.Sprintf("states no number, so that it is offered %d at most", maxOffered)
	} else {
		limits = "takes " + limits
	}
	return &MessageError{What: "the message", Err: fmt.Errorf("with AllOrNone its %d recipients have to go in one "+
		"transaction, and the server %s: send it to fewer recipients, or without AllOrNone", len(m.To), limits)}
}

// suits reports whether p can be sent to some while the rest waits.
func (p *parts) suits(some, rest []int32) bool {
	return len(some) > 0 && (len(rest) == 0 || !p.m.AllOrNone)
}
