package pool

import (
	"context"
	"time"

	"smtpkit.example/smtp/client"
)

// A worker is a connection, and the goroutine that sends over it. The mutex of the group guards the fields.
type worker struct {
	host  *host
	inbox chan *client.Delivery // closed when the worker is to end

	born    time.Time // when the connection was made
	hungry  bool      // ready for a message
	full    bool      // ready for a message too, and has maxLoad
	retired bool      // gets no more messages
	load    int       // how many messages it has got whose outcome is not known
	taken   int       // how many messages it has got
	since   time.Time // when it last got a message while it had none, or an outcome
	given   *ticket   // the last one that it got
	rested  bool      // it had nothing to do for a while, and has had no outcome from the server since
	timer   *time.Timer

	followed []handed      // messages of batches, in the order in which they come to their end
	end      chan struct{} // closed when the connection has ended
}

// A handed is a ticket that a worker has got, with the delivery that it was then.
type handed struct {
	*ticket
	delivery *client.Delivery
}

// idle reports whether w has a connection and nothing to do.
func (w *worker) idle() bool { return w.hungry && w.load == 0 }

// run sends messages until the connection ends, or w is retired.
func (w *worker) run() {
	h, g := w.host, w.host.group
	c, err := client.Dial(g.dial, h.key.addr, h.opt)
	g.opt.Trace.opened(h.key.addr, c, err)
	if !w.opened(err) {
		return
	}
	err = c.SendFrom(g.ctx, w.inbox, w.ready)
	if err == nil {
		g.quit(c)
	}
	w.ended(err)
	g.opt.Trace.closed(h.key.addr, err)
}

// quit says QUIT, and does not wait for the reply any longer when the connections of the group are to end at once.
func (g *Group) quit(c *client.Client) {
	cut := make(chan struct{})
	stop := context.AfterFunc(g.ctx, func() {
		defer close(cut)
		c.Close()
	})
	c.Close()
	if !stop() {
		<-cut
	}
}

// opened is called when the connection was made or could not be made. It reports whether there is one.
func (w *worker) opened(err error) bool {
	h, g := w.host, w.host.group
	g.mu.Lock()
	h.opening--
	if err == nil {
		w.born = time.Now()
		w.since = w.born
		w.timer = time.AfterFunc(time.Hour, w.expire)
		w.timer.Stop()
		h.stats.Opened++
		g.mu.Unlock()
		return true
	}
	h.stats.Failed++
	h.remove(w)
	conns := h.lacks(err)
	h.forget()
	g.mu.Unlock()
	if conns > 0 {
		g.opt.Trace.limited(h.key.addr, conns, err)
	}
	return false
}

// turn is how many messages a connection sends if another server waits for its place.
const turn = 20

// ready is called when the client is ready for a message.
func (w *worker) ready() {
	h, g := w.host, w.host.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.retired {
		return
	}
	if w.isOld() || len(g.wanting) > 0 && (h.waiting.Len() == 0 || len(h.workers) > 1 || w.taken >= turn) {
		w.retire()
		return
	}
	w.full = w.load >= maxLoad
	w.hungry = !w.full
	h.dispatch()
	w.rest()
}

// maxLoad is how many messages a connection has at once. At 50 ms that is 2,500 messages a second. If the connection is
// lost, no more than these are in doubt, or have to be sent again.
const maxLoad = 128

// isOld reports whether w has done its work.
func (w *worker) isOld() bool {
	opt := &w.host.group.opt
	return opt.MaxMessages > 0 && w.taken >= opt.MaxMessages || opt.MaxAge > 0 && time.Since(w.born) > opt.MaxAge
}

// hand gives t to w, which is hungry.
func (w *worker) hand(t *ticket) {
	if w.load == 0 {
		w.rested = time.Since(w.since) >= stale
		w.since = time.Now()
	}
	w.timer.Stop()
	t.worker, t.used = w, w.taken > 0 || time.Since(w.born) >= stale
	w.hungry, w.given = false, t
	w.load++
	w.taken++
	w.inbox <- t.delivery
	t.freeSlot()
	if t.batch {
		w.follow(t)
	}
}

// follow has w learn of the end of t as soon as it comes. The batch may ask for its outcome much later.
func (w *worker) follow(t *ticket) {
	w.followed = append(w.followed, handed{t, t.delivery})
	if len(w.followed) == 1 {
		w.host.group.workers.Go(w.learn)
	}
}

// learn waits for the ends of the messages that w follows.
func (w *worker) learn() {
	g := w.host.group
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(w.followed) > 0 {
		first := w.followed[0]
		g.mu.Unlock()
		select {
		case <-first.delivery.Done():
		case <-w.end:
		}
		g.mu.Lock()
		if len(w.followed) > 0 {
			w.followed = w.followed[1:]
			w.learned(first)
		}
	}
}

// learned is called at the end of a message that w follows, unless the ticket has left.
func (w *worker) learned(of handed) {
	if of.worker == w && of.ticket.delivery == of.delivery {
		of.worker = nil
		w.done()
	}
}

// done is called when the outcome of a message of w is known.
func (w *worker) done() {
	w.load--
	w.since = time.Now()
	if w.full && !w.retired {
		w.full, w.hungry = false, true
	}
	w.host.stats.Sent++
	w.host.dispatch()
	w.host.grow()
	w.rest()
}

// rest begins to wait for the end of w if it has nothing to do.
func (w *worker) rest() {
	if !w.idle() {
		return
	}
	if w.isOld() || len(w.host.group.wanting) > 0 {
		w.retire()
	} else if idle := w.host.group.opt.IdleTimeout; idle > 0 {
		w.timer.Reset(idle)
	}
}

// expire ends w if it has nothing to do.
func (w *worker) expire() {
	g := w.host.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.idle() && time.Since(w.since) >= g.opt.IdleTimeout {
		w.retire()
	}
}

// retire has w end when it has sent what it has got.
func (w *worker) retire() {
	if !w.retired {
		w.retired, w.hungry = true, false
		close(w.inbox)
	}
}

// ended is called when the connection has ended: because of err, or because w is retired.
func (w *worker) ended(err error) {
	h, g := w.host, w.host.group
	g.mu.Lock()
	w.timer.Stop()
	w.retire()
	sent := w.taken
	if d, ok := <-w.inbox; ok {
		sent--
		w.load--
		if t := w.given; t.worker == w {
			h.queue(t, true)
		} else {
			d.Fail(ErrClosed) // nobody waits for it
		}
	}
	for _, of := range w.followed {
		w.learned(of)
	}
	w.followed = nil
	close(w.end)
	h.remove(w)
	conns := 0
	if err != nil {
		h.stats.Lost++
	}
	if err != nil && sent == 0 && time.Since(w.born) < stale {
		conns = h.lacks(err) // the server has hung up at once
	} else {
		if isBusy(err) && !w.rested { // else it said so when it had not seen the message yet
			conns = h.restrict(len(h.workers), err)
		}
		h.grow()
	}
	h.dispatch()
	h.forget()
	g.mu.Unlock()
	if conns > 0 {
		g.opt.Trace.limited(h.key.addr, conns, err)
	}
}
