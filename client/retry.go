package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"smtpkit.example/smtp/proto"
)

// A Sender sends messages. It is what [Retry] works over: a [Client], a pool of them, or whatever a [SenderFunc] does.
type Sender interface {
	// Send sends m. The result tells the outcome for each recipient, in the order of m.To. The error is nil if all
	// recipients were accepted, and otherwise a *SendError with the same result.
	Send(ctx context.Context, m *Message) (*Result, error)
}

// A SenderFunc is a function as a [Sender].
type SenderFunc func(ctx context.Context, m *Message) (*Result, error)

// Send calls f.
func (f SenderFunc) Send(ctx context.Context, m *Message) (*Result, error) { return f(ctx, m) }

// DialSender returns a [Sender] that makes a connection for each message, as the function [Send] does. Addr and opt are
// those of [Dial]. If no session came about, each recipient has the error of Dial. Several goroutines may use the
// Sender at once: each call has a connection of its own.
func DialSender(addr string, opt *Options) Sender { return &dialSender{addr, opt} }

// A dialSender is a pointer, so that a table of routes can tell whether two of its Senders are the same one.
type dialSender struct {
	addr string
	opt  *Options
}

func (s *dialSender) Send(ctx context.Context, m *Message) (*Result, error) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	c, err := Dial(ctx, s.addr, s.opt)
	if err != nil {
		return unsent(m, err)
	}
	defer func() { c.conn.quit(ctx) }() // the connection that the client has then: renew replaces it
	return c.Send(ctx, m)
}

// Retry is how often and when a message is sent again, to those recipients for whom that makes sense. The zero value is
// ready to use. Several goroutines may call its method Send at once, for different messages.
//
// It is for programs that wait for the outcome, or leave a goroutine to it: what is yet to be sent is kept in memory. A
// mail queue, which outlives the process and tries for days (RFC 5321 section 4.5.4.1), uses [SendError.Retry].
type Retry struct {
	// Attempts is how often the message is sent at most, the first time included. Default 5. If it is negative, only the
	// context is the bound.
	Attempts int
	// First is the longest wait before the second attempt. Each further wait is up to twice as long as the one before.
	// Default 1 minute. If it is negative, there are no waits.
	//
	// The length of each wait is random, from a half of that to the whole, so that programs that failed together do not
	// come back together. By default the waits take 7½ to 15 minutes in all. Servers that refuse an unknown sender at
	// first (greylisting, RFC 6647) often do so for 5 minutes.
	First time.Duration
	// Max bounds each wait. Default 30 minutes.
	Max time.Duration
	// Waiting is called before each wait, for logs: with the number of attempts so far, the error that Send would return
	// if there were no other, and the length of the wait. The goroutine that calls Send calls it. It may be nil.
	Waiting func(ctx context.Context, attempts int, err error, wait time.Duration)

	random func() float64 // from 0 to 1; nil is that of math/rand
}

const (
	defaultAttempts = 5
	defaultFirst    = time.Minute
	defaultMax      = 30 * time.Minute
)

// Send sends m by s. After a wait it sends m again to those recipients for whose error both [Temporary] and
// [SafeToRetry] are true, and so on. If no connection could be made, these are all. If a message with AllOrNone is
// refused for good, there are no further attempts. A recipient who was served, was
// refused with 5yz, or may have got the message, is not tried again.
//
// The result tells the last outcome for each recipient, in the order of m.To. The error is nil if all recipients were
// accepted in the end. Otherwise it is a *SendError, as that of [Client.Send]. If an attempt was due and there was
// none, the error wraps the reason too:
//   - the error of ctx if that ended; if the deadline of ctx comes before the next attempt, Send does not wait for it,
//     and the reason is [context.DeadlineExceeded],
//   - a [MessageError] if an attempt has used up Body, and it cannot be read again,
//   - [ErrClosed] if s was closed.
//
// An attempt that s does not begin leaves the outcomes as they were. That is so if s is closed or in use by another
// call, or if ctx has ended.
//
// A [Client] has one connection. If that is lost, or the server closes it during a wait, there are no further attempts:
// use a [Sender] that makes other connections, such as a pool or that of [DialSender]. Nobody else may send m
// meanwhile.
func (r Retry) Send(ctx context.Context, s Sender, m *Message) (*Result, error) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	res, err := s.Send(ctx, m)
	if err == nil && res != nil {
		return res, nil
	}
	a := &attempts{m: m, res: newResult(m), left: everyone(m)}
	a.merge(res, err)
	for len(a.left) > 0 && a.made != cmp.Or(r.Attempts, defaultAttempts) {
		if a.ended = a.obstacle(ctx, s); a.ended == nil {
			a.ended = r.wait(ctx, a)
		}
		if a.ended != nil {
			break
		}
		again := a.message()
		res, err := s.Send(ctx, again)
		if again.used != nil {
			m.used = again.used
		}
		a.merge(res, err)
	}
	return a.res, a.err(a.res)
}

// wait waits until the next attempt is due. It returns why there is none.
func (r Retry) wait(ctx context.Context, a *attempts) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	wait := r.backoff(a.made)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return errTooLate
	}
	if r.Waiting != nil {
		r.Waiting(ctx, a.made, a.err(&Result{Recipients: slices.Clone(a.res.Recipients), Reply: a.res.Reply}), wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

var errTooLate = fmt.Errorf("smtp: the next one would come too late: %w", context.DeadlineExceeded)

// backoff returns how long to wait after a number of attempts.
func (r Retry) backoff(attempts int) time.Duration {
	longest := max(0, cmp.Or(r.Max, defaultMax))
	wait := max(0, min(cmp.Or(r.First, defaultFirst), longest))
	for ; attempts > 1 && 0 < wait && wait < longest; attempts-- {
		wait += min(wait, longest-wait)
	}
	random := r.random
	if random == nil {
		random = rand.Float64
	}
	return wait - time.Duration(random()*float64(wait/2))
}

// Attempts are what sending a message several times has come to.
type attempts struct {
	m    *Message
	made int // how many there were

	res     *Result // the outcomes so far
	unknown bool    // that of a recipient is
	failed  error   // the Err of the last attempt
	whole   bool    // that attempt was to all recipients

	left  []int32 // the recipients to be tried again: places in m.To
	idle  error   // why the last attempt was not begun
	ended error   // why there was no other, though one was due
}

// merge records the outcome of an attempt with those who were left, and finds out who is left.
func (a *attempts) merge(res *Result, err error) {
	tried := a.left
	a.made++
	failed, ok := asType[*SendError](err)
	switch {
	case !ok:
		failed = &SendError{Err: err}
	case res == nil:
		res = failed.Result
	}
	if a.idle = notBegun(failed.Err); a.idle != nil && a.made > 1 {
		return
	}
	a.left, a.failed, a.whole = nil, failed.Err, len(tried) == len(a.m.To)
	a.unknown = a.unknown || failed.Unknown
	known := res != nil && len(res.Recipients) == len(tried)
	if known && res.Reply.Code != 0 {
		a.res.Reply = res.Reply
	}
	vague := failed.vague()
	for i, at := range tried {
		o := proto.Outcome{Err: err} // if the Sender does not tell
		if known {
			o = res.Recipients[i]
		}
		o.Recipient = a.m.To[at]
		a.res.Recipients[at] = o
		a.unknown = a.unknown || isMarked(o.Err)
		if permits(o.Err, vague) {
			a.left = append(a.left, at)
		}
	}
}

// notBegun returns err if it says that an attempt was not begun.
func notBegun(err error) error {
	switch err {
	case ErrBusy, context.Canceled, context.DeadlineExceeded:
		return err
	}
	if errors.Is(err, ErrClosed) { // also that of a pool
		return err
	}
	return nil
}

// obstacle returns why s cannot send the message again, or nil.
func (a *attempts) obstacle(ctx context.Context, s Sender) error {
	if a.m.spent() {
		return errUsed
	}
	if _, other := a.idle.(*closedError); !other && errors.Is(a.idle, ErrClosed) {
		return a.idle // somebody has called Close
	}
	c, ok := s.(*Client)
	if !ok {
		return nil
	}
	err := c.enter(ctx)
	if err == nil {
		c.leave(ctx)
	}
	if errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// message returns the message for those who are left.
func (a *attempts) message() *Message {
	again := *a.m
	again.delivery = nil
	again.To = make([]proto.Recipient, len(a.left))
	for i, at := range a.left {
		again.To[i] = a.m.To[at]
	}
	return &again
}

// err returns the error that goes with res, which has the outcomes so far.
func (a *attempts) err(res *Result) error {
	var first error
	for i := range res.Recipients {
		err := res.Recipients[i].Err
		if err != nil && (first == nil || a.unknown && SafeToRetry(first) && !SafeToRetry(err)) {
			first = err
		}
	}
	if a.failed != nil && (a.whole || first == nil) {
		first = a.failed
	}
	if first == nil {
		return nil
	}
	if reason := cmp.Or(a.ended, a.idle); reason != nil && reason != first {
		first = &endedError{first, reason}
	}
	return &SendError{Result: res, Unknown: a.unknown, Err: first}
}

// An endedError says why a message was not sent again, after it had failed.
type endedError struct {
	last   error
	reason error
}

func (e *endedError) Error() string {
	return e.last.Error() + "; no further attempt: " + cause(e.reason)
}

func (e *endedError) Unwrap() []error { return []error{e.last, e.reason} }
