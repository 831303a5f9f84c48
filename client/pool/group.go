package pool

import (
	"container/list"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/client"
)

// A Group is pools for several servers, whose connections have one bound. [NewGroup] makes one. Its methods may be
// called at any time by any goroutine.
type Group struct {
	opt  Options
	ctx  context.Context // that of the connections
	stop context.CancelFunc
	dial context.Context // that in which connections are made, which ends when none are needed
	idle context.CancelFunc

	workers sync.WaitGroup

	alone bool // there is one pool, whose figures are kept

	mu      sync.Mutex
	hosts   map[key]*host
	conns   int     // connections that are open, or are being made
	wanting []*host // those that have no connection because there are MaxConns, in the order of their turns
	pending int     // tickets that are pending
	closed  bool
	drained chan struct{} // closed when pending is 0 after closed was set
}

// NewGroup returns a group. Call [Group.Close] in the end.
func NewGroup(opt *Options) *Group {
	g := &Group{opt: opt.withDefaults(), hosts: make(map[key]*host), drained: make(chan struct{})}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.dial, g.idle = context.WithCancel(g.ctx)
	return g
}

// Pool returns a pool for the server at addr, which shares connections with others of the group where that is possible.
// Addr and opt are those of [client.Dial]. Opt must not be changed afterwards. The error is a mistake in one of the
// two.
func (g *Group) Pool(addr string, opt *client.Options) (*Pool, error) {
	host, port, err := net.SplitHostPort(addr)
	if !strings.HasPrefix(addr, "unix:") && (err != nil || host == "" || port == "") {
		return nil, fmt.Errorf("smtp: %q is not the address of a server: use host:port, or unix: and a path", addr)
	}
	if err := opt.Check(); err != nil {
		return nil, err
	}
	return &Pool{group: g, key: newKey(addr, opt), opt: opt}, nil
}

// Close waits until the messages on their way have their outcomes, and then closes all connections; see [Pool.Close].
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if g.pending == 0 {
			close(g.drained)
		}
	}
	g.mu.Unlock()
	var err error
	select {
	case <-g.drained:
	case <-ctx.Done():
		err = context.Cause(ctx)
		g.stop()
	}
	g.idle()
	g.mu.Lock()
	for _, h := range g.hosts {
		for _, w := range h.workers {
			w.retire()
		}
		if err != nil {
			h.fail(ErrClosed)
		}
		h.resume.Stop()
	}
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		g.workers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		if err == nil {
			err = context.Cause(ctx)
		}
		g.stop()
		<-ended
	}
	g.stop()
	return err
}

// A ticket is a message that is to be sent.
type ticket struct {
	group *Group
	key   key
	opt   *client.Options

	ctx      context.Context
	m        *client.Message
	delivery *client.Delivery // of this attempt
	slot     chan struct{}    // gets its element back when the ticket no longer waits; nil if it counts nowhere
	batch    bool             // it may take long until its outcome is asked for
	first    *outcome         // of the first attempt, if there were several
	replaced int              // how many attempts were before this one

	// What follows is guarded by the mutex of the group.

	pending bool          // it has no outcome
	place   *list.Element // among those that wait; nil if it does not wait
	worker  *worker       // that has got it; nil once the ticket has left
	used    bool          // the worker had got messages before
}

// submit hands over a message. The ticket has an outcome, sooner or later.
func (g *Group) submit(ctx context.Context, p *Pool, m *client.Message, slot chan struct{}) *ticket {
	t := &ticket{group: g, key: p.key, opt: p.opt, ctx: ctx, m: m, slot: slot, delivery: client.NewDelivery(ctx, m)}
	t.batch = slot != nil
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		t.delivery.Fail(ErrClosed)
	case ctx.Err() == nil:
		g.pending++
		t.pending = true
		g.host(t).enqueue(t, false)
		return t
	}
	t.freeSlot()
	return t
}

// release is called when the outcome of an attempt is known. If dead is set, the connection was lost before the server
// had accepted anything: if it had been used before, release hands over t again, before all others, and returns true.
func (g *Group) release(t *ticket, dead bool) (again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.pending {
		return false
	}
	if t.place != nil {
		h := g.hosts[t.key]
		h.withdraw(t)
		h.forget()
	}
	if w := t.worker; w != nil {
		w.rested = w.rested && dead
		g.leave(t)
	}
	if dead && t.used && g.ctx.Err() == nil {
		t.replaced++
		t.delivery = client.NewDelivery(t.ctx, t.m)
		h := g.host(t)
		h.stats.Replaced++
		h.enqueue(t, true)
		return true
	}
	t.pending = false
	if g.pending--; g.closed && g.pending == 0 {
		close(g.drained)
	}
	return false
}

// leave tells the worker that has got t of the end of it, once it has come.
func (g *Group) leave(t *ticket) {
	w, d := t.worker, t.delivery
	t.worker = nil
	select {
	case <-d.Done():
		w.done()
		return
	default: // nobody waits for it any longer, and it is still on its way
	}
	g.workers.Go(func() {
		<-d.Done()
		g.mu.Lock()
		defer g.mu.Unlock()
		w.done()
	})
}

// host returns the host for t.
func (g *Group) host(t *ticket) *host {
	h := g.hosts[t.key]
	if h == nil {
		h = &host{group: g, key: t.key, opt: t.opt, waiting: list.New()}
		h.resume = time.AfterFunc(time.Hour, h.unlimit)
		h.resume.Stop()
		g.hosts[t.key] = h
	}
	return h
}

// mayOpen reports whether h may have another connection. If not, and h has none, it gets one when another has ended.
func (g *Group) mayOpen(h *host) bool {
	switch {
	case g.opt.MaxConns < 0, g.conns < g.opt.MaxConns && len(g.wanting) == 0:
		return true
	case len(h.workers) == 0 && !slices.Contains(g.wanting, h):
		g.wanting = append(g.wanting, h)
		g.evict()
	}
	return false
}

// evict closes the connection that has had nothing to do for the longest time.
func (g *Group) evict() {
	var oldest *worker
	for _, other := range g.hosts {
		for _, w := range other.workers {
			if w.idle() && (oldest == nil || w.since.Before(oldest.since)) {
				oldest = w
			}
		}
	}
	if oldest != nil {
		oldest.retire()
	}
}

// freed is called when a connection has ended: others may have the place.
func (g *Group) freed() {
	g.conns--
	for len(g.wanting) > 0 && g.conns < g.opt.MaxConns {
		others := g.wanting[1:]
		h := g.wanting[0]
		g.wanting = nil // so that h may have it
		h.grow()
		g.wanting = others
	}
}

func (t *ticket) freeSlot() {
	if t.slot != nil {
		<-t.slot
		t.slot = nil
	}
}

// String describes the pool for logs: by its address, without anything secret.
func (p *Pool) String() string { return fmt.Sprintf("pool(%s)", p.key.addr) }
