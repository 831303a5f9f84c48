package client

import (
	"context"
	"fmt"
	"time"

	"smtpkit.example/smtp/proto"
)

// A rcptState says what is known of a recipient.
type rcptState uint8

const (
	pending  rcptState = iota // nothing is known
	accepted                  // the server has accepted RCPT
	resolved                  // the outcome is known: a refusal, the reply to the content, or the end of the connection
)

// The answerers of a transaction follow, one for each kind of reply. Each is no more than a pointer, so that none is
// allocated.

// A mailReply is the reply to MAIL.
type mailReply struct{ *transaction }

func (t mailReply) sent() {}

func (t mailReply) timeout(o *Timeouts) time.Duration { return o.Mail }

func (t mailReply) answered(_ context.Context, raw proto.RawReply, due int) error {
	t.count(due)
	if raw.Code/100 != 2 {
		r := raw.Reply()
		t.mailErr = refusal(r, t.c.cfg.verbs.mail.Name)
		t.resolve(pending, r, t.mailErr)
	}
	return nil
}

// A rcptReply is the reply to the RCPT command for the next recipient.
type rcptReply struct{ *transaction }

func (t rcptReply) sent() {}

func (t rcptReply) timeout(o *Timeouts) time.Duration { return o.Rcpt }

func (t rcptReply) answered(_ context.Context, raw proto.RawReply, due int) error {
	t.count(due)
	i := t.answers
	t.answers++
	if t.states[i] != pending {
		return nil // MAIL was refused, and so is whatever followed
	}
	r := raw.Intern(&t.c.last.rcpt)
	res := &t.res.Recipients[i]
	res.Rcpt, res.Reply = r, r
	if r.Code/100 == 2 {
		t.states[i] = accepted
		t.pending--
		t.accepted++
		return nil
	}
	t.settle(i)
	verb := t.c.cfg.verbs.rcpt.Name
	err := refusal(r, verb)
	res.Err = err
	if t.accepted == 0 {
		return nil
	}
	if r.Code == 552 {
		// 552 once was the code for too many recipients, and counts as 452 (RFC 5321 section 4.5.3.1.10).
		res.Err = &proto.Error{Code: 452, Status: proto.Status{4, 5, 3}, Verb: verb, Err: err}
	}
	if t.m.AllOrNone {
		return nil
	}
	if r.Code == 552 || r.Code == 452 && (r.Status.IsZero() || r.Status[1] == 5 && r.Status[2] == 3) {
		t.deferred = append(t.deferred, int32(i))
	}
	return nil
}

// A dataReply is the reply to DATA.
type dataReply struct{ *transaction }

func (t dataReply) sent() {}

func (t dataReply) timeout(o *Timeouts) time.Duration { return o.Data }

func (t dataReply) answered(_ context.Context, raw proto.RawReply, due int) error {
	t.count(due)
	t.goAhead = raw.Code/100 == 3
	if !t.goAhead {
		t.refuse(raw.Reply(), t.c.cfg.verbs.data.Name)
	}
	return nil
}

// A chunkReply is the reply to a chunk that is not the last one.
type chunkReply struct{ *transaction }

func (t chunkReply) sent() {}

func (t chunkReply) timeout(o *Timeouts) time.Duration { return o.Content }

func (t chunkReply) answered(_ context.Context, raw proto.RawReply, due int) error {
	t.count(due)
	if raw.Code/100 != 2 {
		t.refuse(raw.Reply(), t.chunk.Name)
	}
	return nil
}

// A contentReply is the reply to the end of the content, or to the last chunk.
type contentReply struct{ *transaction }

func (t contentReply) sent() { t.ended = true }

func (t contentReply) timeout(o *Timeouts) time.Duration { return o.Content }

func (t contentReply) answered(ctx context.Context, raw proto.RawReply, due int) error {
	t.count(due)
	r := raw.Intern(&t.c.last.content)
	if t.ended && !t.answeredOnce {
		t.answeredOnce = true
		t.c.trace.content(ctx, t.transaction, r)
	}
	t.contentAnswered(r, due)
	if r.Code/100 == 2 {
		t.c.session.accepted = true
	}
	if c := t.c; r.Code/100 == 2 && c.waiting.len() == 0 {
		c.dirty = false
		if c.writing || c.writeErr != nil {
			c.early = t.transaction
		}
	}
	return nil
}

// An earlyContentReply is a refusal of the content before its end.
type earlyContentReply struct{ contentReply }

func (t earlyContentReply) answered(_ context.Context, raw proto.RawReply, _ int) error {
	t.contentAnswered(raw.Reply(), 0)
	return nil
}

// count counts a reply after which due more are to come for the same command.
func (t *transaction) count(due int) {
	if due == 0 {
		t.outstanding--
	}
}

// contentAnswered deals with a reply to the content: one for all recipients, or in LMTP one for each that was accepted,
// in their order (RFC 2033 section 4.2). In SMTP 353 announces one for each and one for all.
func (t *transaction) contentAnswered(r proto.Reply, due int) {
	switch {
	case r.Code/100 == 3:
		t.perRecipient = true
		return
	case t.perRecipient:
		t.recipientAnswered(r, due)
		return
	}
	last := t.served + 1
	if due == 0 {
		last = t.accepted
	}
	if t.served < t.accepted {
		t.res.Reply = r
	}
	for t.served < min(last, t.accepted) {
		i := t.serve()
		t.settle(i)
		res := &t.res.Recipients[i]
		res.Reply = r
		if r.Code/100 != 2 && res.Err == nil {
			res.Err = refusal(r, t.contentVerb())
		}
	}
}

// recipientAnswered deals with the reply for one recipient, or with the last reply, which is for all. Only with the
// last reply does the server take responsibility for the message. What it has refused before stays refused.
func (t *transaction) recipientAnswered(r proto.Reply, due int) {
	if due > 0 {
		i := t.serve()
		res := &t.res.Recipients[i]
		if res.Reply = r; r.Code/100 != 2 {
			t.settle(i)
			res.Err = refusal(r, t.contentVerb())
		}
		return
	}
	t.res.Reply = r
	for i := range t.states {
		if t.states[i] != accepted {
			continue
		}
		t.settle(i)
		if r.Code/100 != 2 {
			res := &t.res.Recipients[i]
			res.Reply, res.Err = r, refusal(r, t.contentVerb())
		}
	}
}

// took reports whether the server has accepted the RCPT command for the recipient i.
func (t *transaction) took(i int) bool { return t.res.Recipients[i].Rcpt.Code/100 == 2 }

// serve returns the next of the accepted recipients, for which a reply to the content has come. There is one.
func (t *transaction) serve() int {
	for !t.took(t.next) {
		t.next++
	}
	t.served++
	t.next++
	return t.next - 1
}

// settle records that the outcome for the recipient i is known.
func (t *transaction) settle(i int) {
	switch t.states[i] {
	case pending:
		t.pending--
		t.open--
	case accepted:
		t.open--
	}
	t.states[i] = resolved
}

// contentVerb names the content in errors.
func (t *transaction) contentVerb() string {
	if t.chunk != nil {
		return t.chunk.Name
	}
	return contentName
}

// hopeless reports whether nothing more of the message should be sent, as far as the replies tell.
func (t *transaction) hopeless() bool {
	return t.mailErr != nil || t.stopped != nil || t.accepted == 0 && t.pending == 0
}

// refuse resolves the recipients accepted so far: the server does not take the content.
func (t *transaction) refuse(r proto.Reply, verb string) {
	if t.stopped != nil {
		return
	}
	if t.accepted > 0 {
		t.res.Reply = r
	}
	t.stopped = refusal(r, verb)
	t.resolve(accepted, r, t.stopped)
	t.resolve(pending, r, t.stopped)
}

// fail resolves all recipients of which nothing is known yet: err is why nothing more is sent.
func (t *transaction) fail(err error) {
	t.stopped = err
	t.resolve(accepted, proto.Reply{}, err)
	t.resolve(pending, proto.Reply{}, err)
}

// resolve gives the recipients in state s the outcome err.
func (t *transaction) resolve(s rcptState, r proto.Reply, err error) {
	for i := range t.states {
		if t.states[i] == s {
			t.settle(i)
			t.res.Recipients[i].Reply, t.res.Recipients[i].Err = r, err
		}
	}
}

// abandon resolves the recipients because the connection is closed. What has been answered stands (RFC 2033 section
// 4.2).
func (t *transaction) abandon(err error) {
	if t.open == 0 {
		t.surplus(err)
		return
	}
	_, refused := asType[*proto.Error](err)
	_, broken := asType[*ProtocolError](err)
	if told := refused && !broken; t.ended && !told { // with 421 the server says that it does not take what follows
		t.unknown = true
		err = inDoubt(err)
	}
	t.fail(err)
}

// retract takes back a success that the server reported before it had been sent all of the content. What the server has
// made of the part that it got is unknown.
func (t *transaction) retract() { t.doubt(errEarly) }

// doubt takes back the success of the message, because of cause.
func (t *transaction) doubt(cause error) {
	t.unknown = true
	err := &ProtocolError{Err: cause, InDoubt: true}
	for i := range t.res.Recipients {
		if res := &t.res.Recipients[i]; t.took(i) && res.Err == nil {
			res.Err, res.Reply = err, proto.Reply{}
		}
	}
}

// errSurplus is the cause of the error if a refusal comes after the last reply to a message.
var errSurplus = fmt.Errorf("%w: it refused something after it had accepted the message", proto.ErrOutOfStep)

// prove checks that the server has said no more than it owes, once t is done and nothing else is outstanding. If a
// server answers content twice, each reply after that would be taken for that to something else, and a refused message
// for one that was sent.
func (t *transaction) prove(ctx context.Context) {
	c := t.c
	if !t.ended || c.closed != nil {
		return
	}
	c.session.inStep++
	if c.waiting.len() > 0 {
		return
	}
	if err := c.poll(ctx); err != nil {
		t.surplus(c.fail(ctx, err))
	}
}

// surplus takes back the success of the message if err, with which the connection has ended, is a refusal that came
// behind it. 421 is a farewell, and no refusal of the message.
func (t *transaction) surplus(err error) {
	refused, _ := asType[*proto.Error](err)
	_, broken := asType[*ProtocolError](err)
	if t.ended && refused != nil && !broken && refused.Code != 421 {
		t.doubt(errSurplus)
	}
}

// done reports whether all is known, and cannot be taken back.
func (t *transaction) done() bool {
	return t.outstanding == 0 && t.open == 0 && t.c.early != retractor(t)
}

// refusedWhole reports whether the server has refused the message, and not just recipients, and returns what it said.
func (t *transaction) refusedWhole() (proto.Outcome, bool) {
	all := t.res.Recipients
	switch {
	case t.mailErr != nil:
		return all[0], true
	case t.stopped != nil:
		for _, r := range all {
			if r.Err == t.stopped {
				return r, true
			}
		}
	case t.accepted > 0 && t.c.cfg.Protocol == proto.SMTP && !t.perRecipient:
		first := 0
		for !t.took(first) {
			first++
		}
		return all[first], all[first].Err != nil
	}
	return proto.Outcome{}, false
}

// result returns the result, with a *SendError unless every recipient got the message.
func (t *transaction) result() (*Result, error) {
	t.sent()
	t.res.Octets = t.octets
	for i := range t.res.Recipients {
		if o := &t.res.Recipients[i]; o.Rcpt.Code != 0 || o.Reply.Code != 0 {
			o.Host = t.c.policy.TLSConfig.ServerName
		}
	}
	refused := t.withhold()
	err := summary(t.res, t.unknown)
	if refused != nil {
		err = &SendError{Result: t.res, Err: refused}
	}
	if err == nil && t.stopped != nil { // for want of recipients
		err = &SendError{Result: t.res, Unknown: t.unknown, Err: t.stopped}
	}
	return t.res, err
}

// summary returns the error that goes with res, or nil if every recipient got the message.
func summary(res *Result, unknown bool) error {
	var first error
	for i := range res.Recipients {
		err := res.Recipients[i].Err
		if err != nil && (first == nil || unknown && !isInDoubt(first) && isInDoubt(err)) {
			first = err
		}
	}
	if first == nil {
		return nil
	}
	return &SendError{Result: res, Unknown: unknown, Err: first}
}

// newResult returns a result for m in which nothing is known.
func newResult(m *Message) *Result {
	var res *Result
	if len(m.To) == 1 {
		one := &struct {
			Result
			recipients [1]proto.Outcome
		}{}
		res, one.Recipients = &one.Result, one.recipients[:]
	} else {
		res = &Result{Recipients: make([]proto.Outcome, len(m.To))}
	}
	for i := range m.To {
		res.Recipients[i].Recipient = m.To[i]
	}
	return res
}

// unsent returns the result for a message that was not begun, because of err.
func unsent(m *Message, err error) (*Result, error) {
	res := newResult(m)
	for i := range res.Recipients {
		res.Recipients[i].Err = err
	}
	return res, &SendError{Result: res, Err: err}
}
