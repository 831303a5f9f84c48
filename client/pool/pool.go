package pool

import (
	"context"
	"errors"
	"fmt"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// A Pool sends messages to one server, over connections that all goroutines share. [New] makes one, and so does
// [Group.Pool]. Its methods may be called at any time by any goroutine.
type Pool struct {
	group *Group
	key   key
	opt   *client.Options
}

var _ client.Sender = (*Pool)(nil)

// ErrClosed is the cause of errors for messages that were not begun because the pool had been closed. It wraps
// [client.ErrClosed].
var ErrClosed = fmt.Errorf("smtp: the pool is closed: %w", client.ErrClosed)

// New returns a pool for the server at addr. Addr and opt are those of [client.Dial], for each connection; the pool
// makes its connections when there are messages. Opt must not be changed afterwards. Call [Pool.Close] in the end.
// The error is a mistake in addr or opt.
func New(addr string, opt *client.Options, with *Options) (*Pool, error) {
	g := NewGroup(with)
	g.alone = true
	return g.Pool(addr, opt)
}

// Send sends a message over one of the connections. Result and error are those of [client.Client.Send]. If there is no
// connection and none can be made, the recipients have the error of [client.Dial]. If the pool was closed, they have
// [ErrClosed].
//
// Ctx bounds the wait, that for a connection included. When it ends, Send returns; see [client.Delivery.Wait] for what
// it says then. The message must not be changed, nor its Body used, while Send runs.
func (p *Pool) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	return p.group.submit(ctx, p, m, nil).outcome()
}

// Close waits until the messages on their way have their outcomes, and then closes the connections. New messages get
// [ErrClosed]. When ctx ends, Close closes the connections at once, so that the messages on their way get what is known
// of their outcomes, and returns the error of ctx. Nothing of the pool is left when Close has returned.
//
// The Close of a pool that [Group.Pool] has made does nothing: its connections belong to the group.
func (p *Pool) Close(ctx context.Context) error {
	if !p.group.alone {
		return nil
	}
	return p.group.Close(ctx)
}

// Stats are figures about the connections to a server. They are those of a moment.
type Stats struct {
	Conns   int // connections that are open, or are being made
	Idle    int // connections that have nothing to do
	Waiting int // messages that wait for a connection
	Sending int // messages on their way

	// Limit is how many connections are made for now, since the server has refused more. Refusal is what it said. Zero
	// means that there is no such limit.
	Limit   int
	Refusal error

	// What has happened since the first message. In a Group it begins anew when there was no use for the server for a
	// while.

	Opened   int64 // connections that were made
	Failed   int64 // connections that could not be made
	Lost     int64 // connections that ended by an error
	Replaced int64 // messages sent over another connection, since the first one turned out to be dead
	Sent     int64 // messages that have got an outcome over a connection
}

// Stats returns figures about the connections.
func (p *Pool) Stats() Stats {
	g := p.group
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.hosts[p.key]
	if h == nil {
		return Stats{}
	}
	s := h.stats
	s.Conns, s.Waiting, s.Limit, s.Refusal = len(h.workers), h.waiting.Len(), h.limit, h.refusal
	for _, w := range h.workers {
		s.Sending += w.load
		if w.idle() {
			s.Idle++
		}
	}
	return s
}

// maxReplacements is how often a message is sent over another connection because one turned out to be dead.
const maxReplacements = 3

// outcome waits for the outcome of t.
func (t *ticket) outcome() (*client.Result, error) {
	known := false
	defer func() {
		if !known { // a function of the user's panicked
			t.group.release(t, false)
		}
	}()
	for {
		res, err := t.delivery.Wait()
		dead := err != nil && t.replaced < maxReplacements && fromConn(err) && t.ctx.Err() == nil
		if !t.group.release(t, dead) {
			known = true
			if t.first != nil && isUsed(err) && client.SafeToRetry(err) {
				return t.first.res, t.first.err // there was no second attempt
			}
			return res, err
		}
		if t.first == nil {
			t.first = &outcome{res, err}
		}
		t.group.opt.Trace.replaced(t.key.addr, t.m, err)
	}
}

// An outcome is what became of a message.
type outcome struct {
	res *client.Result
	err error
}

// isUsed reports whether err says that the Body was used up.
func isUsed(err error) bool {
	var used *client.MessageError
	return errors.As(err, &used)
}

// fromConn reports whether err is about the connection and not about the message, so that the message, of which the
// server has accepted nothing, can be sent over another one.
func fromConn(err error) bool {
	var failed *client.SendError
	if !errors.As(err, &failed) || !client.SafeToRetry(failed) || len(failed.Result.Recipients) == 0 {
		return false
	}
	for _, r := range failed.Result.Recipients {
		if !isLost(r.Err) {
			return false
		}
	}
	return true
}

// isLost reports whether err says that a connection has ended.
func isLost(err error) bool {
	var lost *client.LostError
	return errors.As(err, &lost) || errors.Is(err, client.ErrClosed) || isClosing(err)
}

// isClosing reports whether err is the reply by which a server closes a connection.
func isClosing(err error) bool {
	var refused *proto.Error
	return errors.As(err, &refused) && refused.Code == 421
}

// isBusy reports whether err says that the server wants fewer connections: it was a reply to something.
func isBusy(err error) bool {
	var refused *proto.Error
	return isClosing(err) && errors.As(err, &refused) && refused.Verb != ""
}
