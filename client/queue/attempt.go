package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// An attempt is the delivery of one job, once. It is over when the store has its outcome.
type attempt struct {
	q       *Queue
	job     *Job
	message *Message
	content Content // nil if the message cannot be read
	sender  client.Sender
	began   time.Time
	result  *client.Result
	passed  *ehlo.Relaying

	left     []Recipient      // those that have no final outcome
	waits    []bool           // which of the recipients of job are in left
	failures []*Failure       // of the recipients of job, in their order; nil for those who have the message
	outcomes []report.Outcome // what the sender may have to be told
	lost     error            // why no server was found for some of them, or nil
	reached  bool             // a server was found for others

	// one is memory for what has an element for each recipient, since most jobs have one.
	one struct {
		failures [1]*Failure
		waits    [1]bool
		todo     [1]int
	}
}

// work makes an attempt at an item that has its turn: see worker.
func (q *Queue) work(it *item) error {
	d := it.dest
	a := &attempt{q: q, job: it.job, message: it.message, sender: q.ways.senderOf(d.lease.Destination)}
	defer a.close()
	err := a.open(q.ctx, it.content)
	if err == nil {
		a.deliver(q.running)
	}
	q.sched.delivered(d.site, a.result != nil && q.running.Err() == nil, a.unreached())
	if err == nil {
		return a.finish(d.lease)
	}
	return a.unread(q.ctx, d.lease, err)
}

// alarm deals with a job whose alarm has come: see worker. The sender is told of a delay. A job that has expired is
// attempted once more if its site is not suspended; otherwise, and if an operator has given it up, it ends.
func (q *Queue) alarm(l Lease, j *Job, stopped bool) (*Message, error) {
	now := time.Now()
	a := &attempt{q: q, job: j}
	defer a.close()
	if err := a.open(q.ctx, nil); err != nil {
		return nil, a.unread(q.ctx, l, err)
	}
	if !stopped && !now.Before(j.Expires) && !j.GivenUp() && !tooLate(a.message, now) &&
		q.ways.senderOf(l.Destination) != nil {
		return a.message, nil
	}
	return nil, a.alarm(l, now)
}

// open finds the message and its content, if they did not come with the item.
func (a *attempt) open(ctx context.Context, content []byte) (err error) {
	if a.message != nil && content != nil {
		a.content = memory{bytes.NewReader(content)}
		return nil
	}
	if a.message == nil {
		a.message, err = a.q.store.Message(ctx, a.job.ID.Message)
	}
	if err == nil {
		a.content, err = a.q.store.Open(ctx, a.job.ID.Message)
	}
	if err != nil && !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
		a.q.outage.tell("Open", fmt.Errorf("message %s: %w", a.job.ID.Message, err))
	}
	return err
}

func (a *attempt) close() {
	if a.content != nil {
		a.content.Close()
	}
}

// memory is the content of a message that is in memory.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// deliver sends the message, and again without what a server does not offer if a relay may do without it. A job that
// an operator has given up may have come here before its alarm was read: it is not sent.
func (a *attempt) deliver(ctx context.Context) {
	a.began = time.Now()
	a.begin()
	if a.job.GivenUp() {
		a.expire(proto.Status{5, 4, 7}, givenUp)
		return
	}
	passed, ok := ehlo.NewRelaying(a.message.Params, max(a.began.Sub(a.message.Arrived), 0)) // the clock may be set back
	if !ok {
		a.expire(proto.Status{5, 4, 7}, overdue)
		return
	}
	a.passed = passed
	if a.message.From.IsNull() {
		passed.OfReport()
	}
	a.result = &client.Result{Recipients: make([]proto.Outcome, len(a.job.To))}
	todo := a.one.todo[:0]
	for i := range a.job.To {
		todo = append(todo, i)
	}
	for {
		var again []int
		var drop []string
		outcomes := a.send(ctx, todo)
		for i, n := range todo {
			a.result.Recipients[n] = outcomes[i]
			if keyword, ok := lacking(outcomes[i].Err); ok && passed.May(keyword) {
				drop = append(drop, keyword)
				again = append(again, n)
			}
		}
		if len(again) == 0 {
			break
		}
		a.sort(todo, again)
		for _, keyword := range drop {
			passed.Lacks(keyword)
		}
		todo = again
	}
	a.sort(todo, nil)
}

// lacking returns the keyword of the extension that a server does not offer, if err is about that.
func lacking(err error) (keyword string, ok bool) {
	if err == nil {
		return "", false
	}
	var lacks *ext.UnsupportedError
	if ok = errors.As(err, &lacks); ok {
		keyword = lacks.Keyword
	}
	return keyword, ok
}

// begin forgets what is known of the recipients.
func (a *attempt) begin() {
	if len(a.job.To) == 1 {
		clear(a.one.failures[:])
		clear(a.one.waits[:])
		a.failures, a.waits = a.one.failures[:], a.one.waits[:]
	} else {
		a.failures, a.waits = make([]*Failure, len(a.job.To)), make([]bool, len(a.job.To))
	}
	a.left, a.outcomes = nil, nil
}

// send sends the message to the recipients of job with these indexes, and returns their outcomes.
func (a *attempt) send(ctx context.Context, to []int) []proto.Outcome {
	m := &client.Message{
		From: a.message.From, Mail: a.passed.Mail(), Needs: a.message.Needs, Size: a.message.Size,
		Body: io.NewSectionReader(a.content, 0, a.content.Size()),
	}
	m.To = make([]proto.Recipient, 0, len(to))
	for _, n := range to {
		r := a.job.To[n].Recipient
		r.Params = a.passed.Rcpt(r.Params)
		m.To = append(m.To, r)
	}
	result, err := a.call(ctx, m)
	if result != nil && len(result.Recipients) == len(to) {
		return result.Recipients
	}
	if err == nil {
		err = fmt.Errorf("%w: it has returned no outcome for each recipient", errSender)
	}
	outcomes := make([]proto.Outcome, len(to))
	for i := range outcomes {
		outcomes[i] = proto.Outcome{Recipient: m.To[i], Err: err}
	}
	return outcomes
}

// errSender is in the errors of a Sender that does not do what it has to. They say nothing of a server.
var errSender = errors.New("smtp: the Sender of the queue has a mistake")

// call calls Send. If that panics, the attempt has failed for now.
func (a *attempt) call(ctx context.Context, m *client.Message) (result *client.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			a.q.opt.Logger.Error("smtp: the Sender of the queue has panicked", "id", a.message.ID, "panic", v,
				"stack", string(debug.Stack()))
			result, err = nil, fmt.Errorf("%w: it has panicked: %v", errSender, v)
		}
	}()
	return a.sender.Send(ctx, m)
}

// sort records the outcomes of the recipients in done that are not in again.
func (a *attempt) sort(done, again []int) {
	for _, n := range done {
		if len(again) > 0 && again[0] == n {
			again = again[1:]
			continue
		}
		a.record(n, a.result.Recipients[n])
	}
}

// record sorts the outcome of a recipient of job: delivered, failed, or left for another attempt.
func (a *attempt) record(n int, outcome proto.Outcome) {
	r := a.job.To[n]
	outcome.Recipient = r.Recipient // with the parameters as they came
	if outcome.Err == nil {
		a.reached = true
		a.accepted(outcome)
		return
	}
	o := a.outcome(outcome)
	f := newFailure(o, outcome)
	lost := retriable(outcome.Err) && unreachable(outcome)
	a.reached = a.reached || !lost
	if lost && a.lost == nil {
		a.lost = outcome.Err
	}
	a.failures[n] = f
	switch {
	case retriable(outcome.Err):
		r.Last = f
		a.left = append(a.left, r)
		a.waits[n] = true
		o.Action = ehlo.Delayed
	default:
		o.Action = ehlo.Failed
	}
	a.outcomes = append(a.outcomes, o)
}

// outcome returns what a report says of an outcome.
func (a *attempt) outcome(outcome proto.Outcome) report.Outcome {
	hop := report.NextHop{Host: outcome.Host}
	o := hop.Outcome(outcome)
	o.To, o.LastAttempt = outcome.Recipient, a.began
	return o
}

// accepted notes a recipient who has the message, if there may be something to tell. Without a reply there was no
// server: the message is in a mailbox. A server that was asked by NOTIFY reports by itself; one that does not offer DSN
// does not.
func (a *attempt) accepted(outcome proto.Outcome) {
	delivered := outcome.Reply.Code == 0
	if !delivered && !a.passed.Reports() && !a.passed.ReportsBy(outcome.Recipient.Params) {
		return
	}
	o := a.outcome(outcome)
	o.Action = ehlo.Relayed
	if delivered {
		o.Action, o.Status = ehlo.Delivered, proto.Status{2, 0, 0}
	}
	a.outcomes = append(a.outcomes, o)
}

// retriable reports whether a failed recipient may be tried again. What was in doubt is: a message that comes twice is
// better than one that is lost (RFC 1047). So is what failed before a server was asked for this message: a password
// that has expired is no reason to give all mail back. An error of which nothing is known is no reason either.
func retriable(err error) bool {
	return client.Temporary(err) || !client.SafeToRetry(err) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) || isSession(err) || !isPermanent(err)
}

// isPermanent reports whether err is a reply of 5yz, or has a status of the class 5.
func isPermanent(err error) bool {
	var refused *proto.Error
	var told statusError
	return errors.As(err, &refused) || errors.As(err, &told)
}

// A statusError is an error that tells the status code that it stands for.
type statusError interface {
	error
	Status() proto.Status
}

// isSession reports whether err is about the session with a server, and not about a message: TLS or AUTH has failed, or
// the server does not want to talk to us. An error with a status of its own that wraps one of these, such as
// mx.PolicyError, says by it what is to become of the message.
func isSession(err error) bool {
	var told statusError
	var tls *ext.TLSError
	var auth *ext.AuthError
	var refused *proto.Error
	if errors.As(err, &told) && !errors.As(told, &auth) {
		if _, ok := told.(*ext.TLSError); !ok {
			return false
		}
	}
	if errors.As(err, &tls) || errors.As(err, &auth) {
		return true
	}
	if errors.As(err, &refused) {
		switch refused.Verb {
		case "greeting", "EHLO", "HELO", "LHLO", "RSET":
			return true
		}
	}
	return false
}

// unreachable reports whether no server was found that has taken commands for a message.
func unreachable(outcome proto.Outcome) bool {
	var refused *proto.Error
	if isSession(outcome.Err) {
		return true
	}
	return outcome.Reply.Code == 0 && outcome.Rcpt.Code == 0 && !errors.As(outcome.Err, &refused) &&
		!errors.Is(outcome.Err, client.ErrBusy) && !errors.Is(outcome.Err, client.ErrClosed) &&
		!errors.Is(outcome.Err, context.Canceled) && !errors.Is(outcome.Err, errSender)
}

// unreached returns why no server was found, or nil if one was found for a recipient.
func (a *attempt) unreached() error {
	if a.reached {
		return nil
	}
	return a.lost
}

func newFailure(o report.Outcome, outcome proto.Outcome) *Failure {
	f := &Failure{Status: o.Status, Reply: outcome.Reply, Host: outcome.Host, Text: outcome.Err.Error()}
	var refused *proto.Error
	if errors.As(outcome.Err, &refused) && f.Reply.Code == 0 {
		f.Reply = refused.Reply()
	}
	return f
}

// What reports say of mail that ends without an attempt.
const (
	overdue = "The time within which the message was to be delivered is over."
	givenUp = "The administrator of the mail system has given up the delivery."
)

// expire gives up all recipients that are left, without another attempt.
func (a *attempt) expire(status proto.Status, comment string) {
	a.begin()
	for i, r := range a.job.To {
		o := lastOutcome(r, a.job)
		o.Action = ehlo.Failed
		if o.Status.IsZero() || status.Class() == 5 {
			o.Status = status
		}
		if o.Comment == "" {
			o.Comment = comment
		}
		a.failures[i] = &Failure{Status: o.Status, Text: comment}
		if r.Last != nil {
			*a.failures[i] = *r.Last
		}
		a.outcomes = append(a.outcomes, o)
	}
}

// lastOutcome is what the last attempt has shown of a recipient.
func lastOutcome(r Recipient, j *Job) report.Outcome {
	o := report.Outcome{To: r.Recipient, Action: ehlo.Delayed, LastAttempt: j.LastAttempt}
	if r.Last != nil {
		o.Status = r.Last.Status
		o.Remote = report.DNS(r.Last.Host)
		if r.Last.Reply.Code != 0 {
			o.Diagnostic = report.SMTP(r.Last.Reply)
		}
	}
	return o
}
