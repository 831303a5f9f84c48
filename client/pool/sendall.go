package pool

import (
	"context"
	"iter"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/internal/ended"
)

const (
	// maxWaiting is how many messages of a batch wait for a connection. More would hold their content without need.
	maxWaiting = 16
	// maxBatch is how many messages of a batch may have an outcome that is not told yet, since one before them has none.
	maxBatch = 8192
)

// SendAll sends messages over all connections of the pool, and calls each with the outcome of every message, as Send
// would have returned it, in the order of the messages. When each returns false, SendAll begins no further message, and
// calls each for those on their way. In what order the server gets the messages is not determined.
//
// The goroutine that calls SendAll calls msgs and each. SendAll takes messages from msgs as connections are ready for
// them, and before it knows the outcomes of those before. So msgs must not wait for outcomes. The bodies are read by
// other goroutines; a message must not be used before its outcome is told.
//
// Ctx bounds the whole. When it ends, the messages that have been taken get what is known of their outcomes, and
// SendAll returns the error of ctx. If the pool is closed it returns [ErrClosed]. Otherwise it returns nil.
func (p *Pool) SendAll(
	ctx context.Context, msgs iter.Seq[*client.Message], each func(*client.Message, *client.Result, error) bool,
) error {
	b := &batch{pool: p, each: each, slots: make(chan struct{}, maxWaiting)}
	all, cancel := context.WithCancel(ctx)
	defer b.drop(cancel)
	for m := range msgs {
		b.add(all, m)
		if b.full || ctx.Err() != nil || p.group.isClosed() {
			break
		}
	}
	for len(b.tickets) > 0 {
		b.report()
	}
	switch {
	case ctx.Err() != nil:
		return ended.Reason(ctx)
	case p.group.isClosed() && !b.full:
		return ErrClosed
	}
	return nil
}

// A batch is messages of one SendAll.
type batch struct {
	pool    *Pool
	each    func(*client.Message, *client.Result, error) bool
	tickets []*ticket     // those whose outcome was not told
	slots   chan struct{} // has an element for each that waits for a connection
	full    bool          // each has returned false
}

// add hands over m as soon as few enough wait, and tells the outcomes that come in meanwhile.
func (b *batch) add(ctx context.Context, m *client.Message) {
	slots := b.slots
wait:
	for {
		for len(b.tickets) >= maxBatch {
			b.report()
		}
		var first <-chan struct{}
		if len(b.tickets) > 0 {
			first = b.tickets[0].delivery.Done()
		}
		select {
		case <-first:
			b.report()
			continue
		default:
		}
		select {
		case <-first:
			b.report()
		case slots <- struct{}{}:
			break wait
		case <-ctx.Done():
			slots = nil
			break wait
		}
	}
	b.tickets = append(b.tickets, b.pool.group.submit(ctx, b.pool, m, slots))
}

// report waits for the outcome of the first ticket, and tells it.
func (b *batch) report() {
	t := b.tickets[0]
	b.tickets = b.tickets[1:]
	res, err := t.outcome()
	if !b.each(t.m, res, err) {
		b.full = true
	}
}

// drop gives up what is left if a function of the user's has panicked.
func (b *batch) drop(cancel context.CancelFunc) {
	cancel()
	for _, t := range b.tickets {
		func() {
			defer func() { _ = recover() }() // the first panic is the one to be told
			_, _ = t.outcome()
		}()
	}
}

func (g *Group) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}
