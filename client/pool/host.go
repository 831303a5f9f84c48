package pool

import (
	"container/list"
	"slices"
	"time"

	"smtpkit.example/smtp/client"
)

// A host is a server, the messages that wait for it, and the connections to it. The mutex of the group guards it.
type host struct {
	group *Group
	key   key
	opt   *client.Options

	waiting *list.List // of *ticket, in the order in which they came
	workers []*worker
	opening int // how many workers have no connection yet
	stats   Stats

	limit   int   // how many connections there may be, since the server has refused more; 0: no such limit
	refusal error // what it said
	resume  *time.Timer
}

// stale is for how long a connection that gives no outcome counts as one that goes on. After that it gets no more
// messages until it gives one: they would wait behind what it is at.
const stale = time.Second

// enqueue hands t to a worker that is ready for it, or has it wait.
func (h *host) enqueue(t *ticket, first bool) {
	if w := h.ready(); w != nil && h.waiting.Len() == 0 && h.group.ctx.Err() == nil {
		w.hand(t)
	} else {
		h.queue(t, first)
	}
	h.grow()
}

// queue has t wait, unless the connections are to end at once.
func (h *host) queue(t *ticket, first bool) {
	t.worker, t.used = nil, false
	switch {
	case h.group.ctx.Err() != nil:
		t.delivery.Fail(ErrClosed)
		t.freeSlot()
	case first:
		t.place = h.waiting.PushFront(t)
	default:
		t.place = h.waiting.PushBack(t)
	}
}

// ready returns the worker that should get the next message: the one that has become idle last, so that connections
// that are not needed stay idle, or the one with the least to do. It returns nil if there is none.
func (h *host) ready() *worker {
	var best *worker
	for _, w := range h.workers {
		switch {
		case !w.hungry || w.load > 0 && time.Since(w.since) > stale:
		case best == nil, w.load < best.load, w.load == 0 && best.load == 0 && w.since.After(best.since):
			best = w
		}
	}
	return best
}

// dispatch hands out what waits, as far as workers are ready.
func (h *host) dispatch() {
	for h.waiting.Len() > 0 {
		w := h.ready()
		if w == nil {
			return
		}
		t := h.waiting.Front().Value.(*ticket)
		h.withdraw(t)
		w.hand(t)
	}
}

// withdraw takes t from those that wait.
func (h *host) withdraw(t *ticket) {
	h.waiting.Remove(t.place)
	t.place = nil
	t.freeSlot()
}

// grow makes connections, as many as there is use for.
func (h *host) grow() {
	g := h.group
	demand, active := h.waiting.Len(), 0
	for _, w := range h.workers {
		if !w.retired {
			demand += w.load
			active++
		}
	}
	for most := h.most(); len(h.workers) < most && active < demand && g.dial.Err() == nil && g.mayOpen(h); active++ {
		w := &worker{host: h, inbox: make(chan *client.Delivery, 1), end: make(chan struct{})}
		h.workers = append(h.workers, w)
		h.opening++
		g.conns++
		g.workers.Go(w.run)
	}
}

// most returns how many connections there may be.
func (h *host) most() int {
	most := h.group.opt.MaxConnsPerHost
	if most < 0 {
		most = int(^uint(0) >> 1)
	}
	if h.limit > 0 {
		most = min(most, h.limit)
	}
	return most
}

// remove forgets a worker whose connection has ended, or could not be made.
func (h *host) remove(w *worker) {
	h.workers = slices.DeleteFunc(h.workers, func(o *worker) bool { return o == w })
	h.group.freed()
}

// lacks is called when a connection, which h has no longer, could not be made, or was of no use, because of err. If
// there is no other, all that waits has the outcome err. Lacks returns what restrict does, or 0.
func (h *host) lacks(err error) int {
	conns := len(h.workers)
	switch {
	case conns == 0:
		h.fail(err)
	case h.opening < conns:
		return h.restrict(conns, err)
	}
	return 0
}

// restrict keeps h to conns connections, since the server has refused more with err. It returns their number, or 0 if
// it was not the server who ended the connection: the group is being closed.
func (h *host) restrict(conns int, err error) int {
	if h.group.dial.Err() != nil {
		return 0
	}
	h.limit, h.refusal = max(1, conns), err
	h.resume.Reset(max(h.group.opt.Pause, 0))
	return h.limit
}

// unlimit lets h have more connections again.
func (h *host) unlimit() {
	h.group.mu.Lock()
	defer h.group.mu.Unlock()
	h.limit, h.refusal = 0, nil
	h.grow()
	h.forget()
}

// fail gives all that waits the outcome err.
func (h *host) fail(err error) {
	for h.waiting.Len() > 0 {
		t := h.waiting.Front().Value.(*ticket)
		h.withdraw(t)
		t.delivery.Fail(err)
	}
}

// forget removes h from its group if there is nothing to know of it.
func (h *host) forget() {
	if !h.group.alone && len(h.workers) == 0 && h.waiting.Len() == 0 && h.limit == 0 && h.group.hosts[h.key] == h {
		delete(h.group.hosts, h.key)
	}
}
