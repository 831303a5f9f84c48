package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// List returns at most max jobs that match f, in the order of arrival, from the one after the cursor. Next is the
// cursor for the following ones; it is JobID{} if there are none.
func (q *Queue) List(ctx context.Context, f Filter, after JobID, max int) (jobs []Listed, next JobID, err error) {
	return q.store.List(ctx, f, after, max)
}

// Shape returns how much waits for which destination, and for how long.
func (q *Queue) Shape(ctx context.Context) ([]Shape, error) { return q.store.Shape(ctx, time.Now()) }

// Open returns the content of a message. The error is ErrNotFound if there is none.
func (q *Queue) Open(ctx context.Context, id ID) (Content, error) { return q.store.Open(ctx, id) }

// Usage returns what is queued.
func (q *Queue) Usage(ctx context.Context) (Usage, error) { return q.store.Usage(ctx, "", true) }

// Hold has nothing happen to the jobs that match f until Release. They do not expire. An attempt under way is not
// stopped. It returns the number of jobs, as do the other methods.
func (q *Queue) Hold(ctx context.Context, f Filter, why string) (int, error) {
	return q.edit(ctx, f, Edit{Op: Hold, Why: why})
}

// Release undoes Hold. The jobs are due at once.
func (q *Queue) Release(ctx context.Context, f Filter) (int, error) {
	return q.edit(ctx, f, Edit{Op: Release})
}

// Retry has jobs attempted now. If the site of f.Destination is suspended because it does not answer, that ends, and so
// for all sites if f has no Destination; a suspension by an operator does not end. It is what ETRN asks for.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	name := f.Destination
	if name != "" {
		name = q.siteOf(ctx, name)
	}
	q.sched.mu.Lock()
	for _, at := range q.sched.sites {
		if name == "" || name == at.name {
			at.health.dead = nil
		}
	}
	q.sched.mu.Unlock()
	return q.edit(ctx, f, Edit{Op: Retry})
}

// Reroute sends jobs another way: by a route, as in Options.Routes, or, if route is "", by the Sender of the Queue to
// the domain. The recipients stay the same.
func (q *Queue) Reroute(ctx context.Context, f Filter, route string, domain proto.Domain) (int, error) {
	e := Edit{Op: Reroute}
	switch _, ok := q.opt.Routes[route]; {
	case ok:
		e.Destination = "=" + route
	case route != "":
		return 0, fmt.Errorf("smtp: the queue has no route %q: add it to Options.Routes", route)
	case domain.IsZero():
		return 0, errors.New("smtp: Reroute needs the name of a route, or a domain")
	case q.sender == nil:
		return 0, errors.New("smtp: the queue has no Sender for domains: reroute to a route")
	default:
		e.Destination = domain.Key()
	}
	return q.edit(ctx, f, e)
}

// Expire gives up now, and reports to the sender. A job under way ends with its attempt if that succeeds.
func (q *Queue) Expire(ctx context.Context, f Filter) (int, error) {
	return q.edit(ctx, f, Edit{Op: Expire})
}

// Drop forgets jobs, with all their recipients. Nobody is told, but the Logger: it gets the ID and the recipients of
// each.
func (q *Queue) Drop(ctx context.Context, f Filter) (int, error) {
	for after := (JobID{}); ; {
		list, next, err := q.store.List(ctx, f, after, 1000)
		if err != nil {
			return 0, err
		}
		for _, l := range list {
			to := make([]string, len(l.Job.To))
			for i, r := range l.Job.To {
				to[i] = r.Address.String()
			}
			q.opt.Logger.Warn("smtp: an operator drops mail", "id", l.Message.ID, "from", l.Message.From.String(), "to", to)
		}
		if after = next; after == (JobID{}) {
			break
		}
	}
	return q.edit(ctx, f, Edit{Op: Drop})
}

// edit changes jobs in the store, and has the scheduler read again those that it has in memory.
func (q *Queue) edit(ctx context.Context, f Filter, e Edit) (int, error) {
	e.At = time.Now()
	n, err := q.store.Edit(ctx, f, e)
	if n == 0 && err == nil {
		return 0, nil
	}
	s := &q.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edits++
	for _, at := range s.sites {
		at.lanes.each(func(it *item) {
			if it.mayMatch(f) {
				it.dest.stale = true
			}
		})
	}
	for name, d := range s.dests {
		switch {
		case d.leaving || d.site == nil:
		case d.stale:
			q.leave(d, time.Time{}) // its jobs may have changed
		case f.Destination == "" || f.Destination == name || e.Destination == name:
			d.expect(e.At)
			q.fill(d)
		}
	}
	s.poke()
	return n, err
}

// mayMatch reports whether the job may match f, or have matched it.
func (it *item) mayMatch(f Filter) bool {
	f.State = nil
	m := it.message
	if m == nil {
		m = &Message{ID: it.job.ID.Message}
		f.From, f.Tag, f.Before, f.After = "", "", time.Time{}, time.Time{}
	}
	return f.Match(m, it.job)
}

// Suspend makes no attempts at a site, or at one destination, until a time. Mail for it still expires. A zero time ends
// a suspension. It outlives the process. The name is one of Sites, or what Options.Site makes of a domain; or a
// destination as in Job.Destination, such as a domain, or "=" and the name of a route. Case does not matter. A name
// without mail is taken too.
func (q *Queue) Suspend(ctx context.Context, name string, until time.Time, why string) error {
	if name == "" {
		return errors.New("smtp: Suspend needs the name of a site: Sites and Shape tell the names")
	}
	if !strings.HasPrefix(name, "=") {
		name = strings.ToLower(name)
	}
	change := Suspension{Site: name, Until: until, Why: why}
	if err := q.store.Suspend(ctx, change); err != nil {
		return err
	}
	s := &q.sched
	s.mu.Lock()
	defer q.unlock()
	at := s.sites[name]
	if until.IsZero() {
		delete(s.suspend, name)
		if at != nil {
			at.operator = nil
		}
		q.resumed(name)
		return nil
	}
	s.suspend[name] = change
	if at != nil {
		at.operator = &change
		for _, d := range at.dests {
			q.park(d, &change)
		}
	}
	if d := s.dests[name]; d != nil && d.site != nil && d.site != at {
		q.park(d, &change)
	}
	q.suspended(change)
	return nil
}

// suspended returns why no attempts are made at d now, or nil. The caller holds s.mu.
func (s *scheduler) suspended(d *dest, now time.Time) *Suspension {
	if o, ok := s.suspend[d.lease.Destination]; ok && now.Before(o.Until) {
		return &o
	}
	return d.site.suspended(now)
}

// suspended tells that no attempts are made at a site. The caller holds q.sched.mu, and calls unlock.
func (q *Queue) suspended(s Suspension) {
	if t := q.opt.Trace.Suspended; t != nil {
		q.sched.told = append(q.sched.told, func() { t(s) })
	}
}

// resumed tells that attempts are made again, and wakes destinations that wait for that. The caller holds q.sched.mu,
// and calls unlock.
func (q *Queue) resumed(name string) {
	if t := q.opt.Trace.Resumed; t != nil {
		q.sched.told = append(q.sched.told, func() { t(name) })
	}
	list := q.sched.parked[name]
	delete(q.sched.parked, name)
	if len(list) == 0 || q.sched.closed {
		return
	}
	ending := make(map[string]chan struct{})
	for _, destination := range list {
		switch d := q.sched.dests[destination]; {
		case d == nil || !d.leaving:
		case d.ending:
			ending[destination] = d.gone
		default:
			d.until = time.Time{} // it waits for an attempt
		}
	}
	q.done.Add(1)
	go func() {
		defer q.done.Done()
		for _, destination := range list {
			if gone := ending[destination]; gone != nil {
				<-gone
			}
			l, ok, err := q.store.ClaimOne(q.ctx, destination)
			if err != nil {
				return // they are woken later all the same
			}
			if ok {
				q.adopt(l)
			}
		}
	}()
}

// A SiteState says how a site is treated now.
type SiteState struct {
	Site   string
	Window float64 // how many attempts are made at once
	Busy   int     // attempts under way
	Loaded int     // jobs in memory that wait for their turn
	// Suspension is set while no attempts are made. It is an operator's if ByOperator.
	Suspension *Suspension
	ByOperator bool
	// LastError is what the last attempt that has found no server said.
	LastError string
}

// Sites returns the state of the sites that the queue has to do with now, and of those that are suspended, sorted by
// name.
func (q *Queue) Sites() []SiteState {
	s, now := &q.sched, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []SiteState
	for name, at := range s.sites {
		state := SiteState{
			Site: name, Window: at.health.window, Busy: at.busy, Loaded: at.loaded, LastError: at.health.last,
		}
		if why := at.suspended(now); why != nil {
			c := *why
			state.Suspension, state.ByOperator = &c, why == at.operator
		}
		list = append(list, state)
	}
	for name, why := range s.suspend {
		if s.sites[name] == nil && now.Before(why.Until) {
			c := why
			list = append(list, SiteState{Site: name, Suspension: &c, ByOperator: true})
		}
	}
	slices.SortFunc(list, func(a, b SiteState) int { return strings.Compare(a.Site, b.Site) })
	return list
}

// Fetch delivers all mail of routes by s, whether or not it is due, until none is left or s fails: the reversed
// connection of ATRN (RFC 2645), such as a client made with client.NewClient. Other attempts at these routes wait
// meanwhile. It returns the number of recipients who have got their mail. The error is that of s if no server was found
// at its end, of the store, or of ctx. Close has it end after the attempt under way, with ErrClosed.
func (q *Queue) Fetch(ctx context.Context, routes []string, s client.Sender) (n int, err error) {
	for _, route := range routes {
		if _, ok := q.opt.Routes[route]; !ok {
			return n, fmt.Errorf("smtp: the queue has no route %q: add it to Options.Routes", route)
		}
		fetched, err := q.fetch(ctx, "="+route, s)
		n += fetched
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// fetch is Fetch for a destination.
func (q *Queue) fetch(ctx context.Context, destination string, s client.Sender) (n int, err error) {
	l, err := q.acquire(ctx, destination)
	if err != nil {
		return 0, err
	}
	defer q.done.Done()
	trying, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.running, cancel)() // Close waits no longer
	defer func() {
		err = errors.Join(err, q.store.Release(context.WithoutCancel(ctx), l, time.Time{}))
		q.sched.mu.Lock()
		delete(q.sched.fetched, destination)
		q.sched.mu.Unlock()
		q.sched.poke()
	}()
	tried := make(map[JobID]bool)
	for lane := Lane(0); lane < Lanes; {
		if q.ctx.Err() != nil {
			return n, ErrClosed
		}
		jobs, err := q.store.Take(ctx, l, Query{Now: time.Now(), Lane: lane, All: true, Max: 1})
		if err != nil {
			return n, err
		}
		if len(jobs) == 0 {
			lane++
			continue
		}
		if tried[jobs[0].ID] {
			continue // it waits until the lease ends
		}
		tried[jobs[0].ID] = true
		a := &attempt{q: q, job: jobs[0], sender: s}
		if a.open(ctx, nil) != nil {
			if err := a.postpone(l); err != nil {
				return n, err
			}
			continue
		}
		a.deliver(trying)
		err = a.finish(l)
		a.close()
		for i, f := range a.failures {
			if f == nil && !a.waits[i] {
				n++
			}
		}
		if err == nil {
			err = a.unreached()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// acquire leases a destination, and waits for those who have it. The caller has to call q.done.Done when it is
// released.
func (q *Queue) acquire(ctx context.Context, destination string) (Lease, error) {
	s := &q.sched
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return Lease{}, ErrClosed
	}
	if s.fetched[destination] {
		s.mu.Unlock()
		return Lease{}, fmt.Errorf("smtp: somebody else fetches the mail of %q now: try again later", destination)
	}
	s.fetched[destination] = true
	q.done.Add(1)
	s.mu.Unlock()
	l, err := q.takeOver(ctx, destination)
	if err != nil {
		s.mu.Lock()
		delete(s.fetched, destination)
		s.mu.Unlock()
		q.done.Done()
	}
	return l, err
}

// takeOver leases a destination as soon as the scheduler has let go of it.
func (q *Queue) takeOver(ctx context.Context, destination string) (Lease, error) {
	for {
		l, ok, err := q.store.ClaimOne(ctx, destination)
		if err != nil || ok {
			return l, err
		}
		var gone chan struct{}
		q.sched.mu.Lock()
		if d := q.sched.dests[destination]; d != nil {
			gone = d.gone
			q.leave(d, time.Time{})
		}
		q.sched.mu.Unlock()
		timer := time.NewTimer(10 * time.Millisecond) // claim has leased it, and adopt has not begun
		if gone != nil {
			timer.Stop()
		}
		select {
		case <-gone:
		case <-timer.C:
		case <-ctx.Done():
			err = ctx.Err()
		case <-q.ctx.Done():
			err = ErrClosed
		}
		timer.Stop()
		if err != nil {
			return Lease{}, err
		}
	}
}
