package client

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"smtpkit.example/smtp/client/internal/ended"
)

// A Delivery is a message that one goroutine has sent by another, which runs [Client.SendFrom]. It has a context of its
// own. [NewDelivery] makes one. It is for one use.
type Delivery struct {
	ctx    context.Context
	origin *Message
	m      Message // what is sent: a copy of origin, with the same Body

	done chan struct{} // closed when the message has come to its end

	mu        sync.Mutex // held while the Body is being read
	reading   *body      // has begun to read the Body
	committed bool       // the end of the content has been sent, or is about to be
	gone      bool       // nobody waits any longer
	res       *Result
	err       error
	panicked  any // what the Body panicked with
}

// NewDelivery returns a delivery of m. Ctx bounds [Delivery.Wait]. The message must not be changed, nor its Body used,
// before Wait has returned.
func NewDelivery(ctx context.Context, m *Message) *Delivery {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	d := &Delivery{ctx: ctx, origin: m, m: *m, done: make(chan struct{})}
	d.m.To = slices.Clone(m.To)
	d.m.delivery = d
	return d
}

// Message returns the message that NewDelivery was given.
func (d *Delivery) Message() *Message { return d.origin }

// Done returns a channel that is closed when the message has come to its end: when SendFrom is done with it, or Fail
// was called. That can be after Wait has returned.
func (d *Delivery) Done() <-chan struct{} { return d.done }

// Wait waits for the outcome, and returns what [Client.Send] would have returned. If the context ends first, Wait
// returns at once, and its error wraps that of the context. If the end of the content was on its way then, the
// recipients are in doubt; see [LostError]. Otherwise the message has not been sent, and will not be. Wait waits longer
// only for a Read of the Body that is under way. The connection stays open for other messages, unless the server was
// told that content follows DATA: there is no other way then not to send the rest of it.
//
// If the Body panicked, so does Wait, with the same value. SendFrom goes on.
func (d *Delivery) Wait() (*Result, error) {
	select {
	case <-d.done:
	case <-d.ctx.Done():
		d.leave()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.panicked != nil {
		panic(d.panicked)
	}
	return d.res, d.err
}

// Fail gives the message the outcome err for all recipients: it has not been sent. Call it in place of handing the
// delivery to SendFrom, or never.
func (d *Delivery) Fail(err error) { d.finish(unsent(&d.m, err)) }

// finish records the outcome, unless nobody waits any longer.
func (d *Delivery) finish(res *Result, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.gone {
		d.res, d.err = res, err
		d.origin.used = d.m.used
	}
	close(d.done)
}

// leave gives up waiting, unless the outcome is known by now.
func (d *Delivery) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone || d.res != nil {
		return
	}
	d.gone = true
	if d.reading != nil {
		if !apart(d.reading.rewind) {
			d.m.used = d.m.Body
		}
		d.reading = nil
	}
	d.origin.used = d.m.used
	lost := &LostError{Doing: "waiting for the connection", Err: ended.Reason(d.ctx), InDoubt: d.committed, abandoned: true}
	if d.committed {
		lost.Doing = "waiting for the reply to " + contentName
	}
	d.res, d.err = unsent(d.origin, lost)
	d.err.(*SendError).Unknown = d.committed
}

// apart calls f on a goroutine of its own, waits for it, and hands on its panic. The body may be a coroutine, which a
// goroutine that is locked to a thread cannot end if another one has begun it.
func apart(f func() bool) (ok bool) {
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		ok = f()
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
	return ok
}

// hold begins to use the Body of m, until release. It reports false if nobody waits for the outcome any longer: then
// the Body belongs to somebody else.
func (m *Message) hold() bool {
	d := m.delivery
	if d == nil {
		return true
	}
	d.mu.Lock()
	if d.gone {
		d.mu.Unlock()
		return false
	}
	return true
}

// release ends what hold has begun. If b is not nil, it has begun to read the Body. Defer release: a panic of the Body
// is kept for Wait, and err is set, unless the panic is one of the goroutine that waits.
func (m *Message) release(b *body, err *error) {
	d := m.delivery
	if d == nil {
		return
	}
	defer d.mu.Unlock()
	if p := recover(); p != nil {
		d.panicked = p
		*err = &MessageError{What: "reading the body", Err: fmt.Errorf("it panicked: %v", p)}
	}
	d.reading = b
	if m.used != nil {
		d.m.used = m.used // m is a part of the message
	}
}

// commit records that the end of the content is about to be sent. It reports false if nobody waits for the outcome any
// longer: then it must not be sent.
func (m *Message) commit() bool {
	if !m.hold() {
		return false
	}
	if d := m.delivery; d != nil {
		d.committed = true
		d.mu.Unlock()
	}
	return true
}
