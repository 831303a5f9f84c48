package queue

import (
	"context"
	"slices"
	"sync"
	"time"
)

// How much the scheduler keeps in memory.
const (
	maxDests     = 4096  // destinations that are leased at once
	maxSiteDests = 256   // of one site
	maxLoaded    = 20000 // jobs that wait for their turn
	loadBatch    = 64    // jobs of one lane of a destination that are read at once
	maxLane      = 512   // jobs of one lane of a destination in memory
	maxContents  = 64 << 20
	maxParked    = 1000 // destinations of a suspended site that are woken at once when it is resumed
)

// How long things last.
const (
	linger     = time.Second      // a lease is kept for so long when there is nothing to do
	recheck    = 15 * time.Second // a destination that is never idle is looked at for jobs that have become due
	maxParking = 5 * time.Minute  // a destination of a suspended site is looked at again after so long
)

// A scheduler decides which job is attempted next. Two questions are kept apart. When is a job due? The store knows,
// and wakes destinations. Whose turn is it? Of what is due, the scheduler keeps a bounded number of jobs in memory.
// Sites take turns, by what they cost; within a site the lanes do.
//
// A destination is leased while it has something to do. One goroutine, claim, leases what has to be woken.
type scheduler struct {
	mu       sync.Mutex
	dests    map[string]*dest
	sites    map[string]*site
	suspend  map[string]Suspension // by operators
	ring     []*site               // with an item, room in their window, and no suspension
	active   int                   // attempts under way
	loaded   int                   // items in lanes
	contents int                   // octets of content in items
	parked   map[string][]string   // destinations by suspended site
	closed   bool
	broken   bool      // the store fails
	probing  bool      // it has failed: one attempt at once, until it has written something
	retry    time.Time // when it is tried again, while it is broken
	kept     time.Time // when housekeep last ran
	wake     chan struct{}
	fetched  map[string]bool // destinations that Fetch has leased
	edits    int             // changes by operators: what was read from the store before may be out of date
	told     []func()        // for the trace, once mu is not held any more
	sweep    int             // the number of sites at which those that are not used are forgotten
}

// A dest is a leased destination.
type dest struct {
	lease    Lease
	site     *site // nil until it is known
	waiting  [Lanes]int
	busy     int         // attempts, updates and adds under way
	more     [Lanes]bool // the store may have due jobs that are not in memory
	alarms   bool        // the store may have jobs whose alarm has come
	filling  bool
	onDemand bool          // its mail waits to be fetched
	stale    bool          // jobs in memory may have been changed by an operator
	leaving  bool          // it is released when it is not busy any more
	ending   bool          // it is being released
	until    time.Time     // notBefore of the release
	checked  time.Time     // when more was last set for all lanes
	idle     time.Time     // since when there is nothing to do; zero if there is
	gone     chan struct{} // closed when the lease has ended
}

func (d *dest) waits() (n int) {
	for _, w := range d.waiting {
		n += w
	}
	return n
}

func (d *dest) wantsMore() bool { return d.alarms || slices.Contains(d.more[:], true) }

// isShortOf reports whether jobs of a lane have to be read, and isShort whether there is anything to read.
func (d *dest) isShortOf(l Lane) bool { return d.more[l] && d.waiting[l] < loadBatch/2 }

func (d *dest) isShort() bool {
	for l := range Lane(Lanes) {
		if d.isShortOf(l) {
			return true
		}
	}
	return d.alarms
}

// expect says that the store may have anything.
func (d *dest) expect(now time.Time) {
	d.checked, d.alarms = now, true
	for i := range d.more {
		d.more[i] = true
	}
}

// unlock unlocks q.sched.mu, and then tells the trace what has been put in told.
func (q *Queue) unlock() {
	told := q.sched.told
	q.sched.told = nil
	q.sched.mu.Unlock()
	for _, f := range told {
		f()
	}
}

// adopt begins to work on a destination that has been leased.
func (q *Queue) adopt(l Lease) {
	s := &q.sched
	d := &dest{lease: l, gone: make(chan struct{})}
	d.expect(time.Now())
	s.mu.Lock()
	s.dests[l.Destination] = d
	d.busy++
	s.mu.Unlock()
	q.done.Add(1)
	go func() {
		defer q.done.Done()
		name := q.siteOf(q.ctx, l.Destination)
		s.mu.Lock()
		defer s.mu.Unlock()
		d.busy--
		q.join(d, name)
	}()
}

// join makes d one of the destinations of its site. The caller holds s.mu.
func (q *Queue) join(d *dest, name string) {
	s, now := &q.sched, time.Now()
	if s.closed || d.leaving { // it has to go before it has begun
		q.leave(d, time.Time{})
		q.settle(d)
		return
	}
	at, ok := s.sites[name]
	if !ok {
		at = q.newSite(name, now)
	}
	if len(at.dests) == 0 && now.Sub(at.used) > time.Minute {
		at.policy = q.policy(name)
	}
	at.used = now
	d.site, d.onDemand = at, q.senderOf(d.lease.Destination) == nil
	if len(at.dests) >= maxSiteDests {
		q.leave(d, now.Add(jitter(20*time.Second))) // others of the site have their turn
		return
	}
	at.dests[d.lease.Destination] = d
	q.fill(d)
	q.settle(d)
}

// newSite makes a site, and forgets those that have not been used for a while if there are many.
func (q *Queue) newSite(name string, now time.Time) *site {
	s := &q.sched
	if len(s.sites) >= s.sweep {
		for n, at := range s.sites {
			if len(at.dests) == 0 && at.busy == 0 && at.suspended(now) == nil && now.Sub(at.used) > 10*time.Minute {
				delete(s.sites, n)
				delete(s.parked, n)
			}
		}
		s.sweep = max(2*len(s.sites), 1024)
	}
	at := newSite(name, q.policy(name))
	if o, ok := s.suspend[name]; ok {
		at.operator = &o
	}
	s.sites[name] = at
	return at
}

// fill reads jobs of d into memory if there is room and the store may have some. The caller holds s.mu.
func (q *Queue) fill(d *dest) {
	if d.filling || d.leaving || d.site == nil || !d.wantsMore() || q.sched.broken || q.sched.closed {
		return
	}
	if !q.sched.hasRoom(d.site) && !d.alarms {
		return // a job that ends has it called again
	}
	d.filling = true
	d.busy++
	d.idle = time.Time{}
	q.done.Add(1)
	go q.load(d)
}

// load is the goroutine of fill.
func (q *Queue) load(d *dest) {
	defer q.done.Done()
	s := &q.sched
	s.mu.Lock()
	stopped := s.suspended(d, time.Now())
	if d.onDemand {
		stopped = &Suspension{Site: d.site.name, Until: time.Now().Add(24 * time.Hour)}
	}
	s.mu.Unlock()
	err := q.read(d, stopped)
	if err != nil && err != ErrLease && q.ctx.Err() == nil {
		q.storeFailed("Take", err)
		pause := time.NewTimer(10 * time.Second) // the store would have d woken again at once for its alarms
		select {
		case <-pause.C:
		case <-q.ctx.Done():
		}
		pause.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.filling = false
	d.busy--
	switch {
	case err != nil:
		q.leave(d, time.Time{})
	case d.onDemand:
		q.leave(d, stopped.Until)
	case stopped != nil:
		q.park(d, stopped)
	case d.isShort():
		q.fill(d) // something has come meanwhile
	}
	q.settle(d)
}

// read deals with alarms of d, and then has jobs wait in memory of each lane that has run short.
func (q *Queue) read(d *dest, stopped *Suspension) error {
	s := &q.sched
	s.mu.Lock()
	alarms := d.alarms
	d.alarms = false
	s.mu.Unlock()
	if alarms {
		more, err := q.ring(d, stopped)
		if err != nil {
			return err
		}
		s.mu.Lock()
		d.alarms = d.alarms || more
		s.mu.Unlock()
	}
	for l := Lane(0); l < Lanes && stopped == nil; l++ {
		s.mu.Lock()
		want, edits := d.isShortOf(l), s.edits
		if want {
			d.more[l] = false
		}
		s.mu.Unlock()
		if !want {
			continue
		}
		jobs, err := q.store.Take(q.ctx, d.lease, Query{Now: time.Now(), Lane: l, Max: loadBatch})
		if err != nil {
			return err
		}
		s.mu.Lock()
		d.more[l] = d.more[l] || len(jobs) == loadBatch
		if s.edits != edits && len(jobs) > 0 {
			q.leave(d, time.Time{}) // they may have been changed
		}
		for _, j := range jobs {
			q.push(&item{dest: d, job: j})
		}
		q.dispatch()
		s.mu.Unlock()
	}
	return nil
}

// park lets go of a destination whose site is suspended.
func (q *Queue) park(d *dest, why *Suspension) {
	s, now := &q.sched, time.Now()
	until := earlier(why.Until, now.Add(jitter(maxParking))).Add(time.Duration(1 + len(d.lease.Destination)%7))
	if list := s.parked[why.Site]; len(list) < maxParked && !slices.Contains(list, d.lease.Destination) {
		s.parked[why.Site] = append(list, d.lease.Destination)
	}
	q.leave(d, until)
}

// push puts an item in line, unless its destination is about to be released, and the job with it. The caller holds
// s.mu.
func (q *Queue) push(it *item) {
	s, d := &q.sched, it.dest
	if d.leaving {
		return
	}
	d.waiting[it.job.Lane]++
	d.idle = time.Time{}
	d.site.lanes.push(it)
	d.site.loaded++
	s.loaded++
	s.contents += len(it.content)
	s.enter(d.site)
}

// hasRoom reports whether more jobs of a site may be read into memory. It has at most as many as there is room left
// for, so one site takes half of it, and there is always some for others.
func (s *scheduler) hasRoom(at *site) bool { return at.loaded < maxLoaded-s.loaded }

// hasSlot reports whether a site may have another attempt. It has at most four times as many as are left for others, so
// that some are left while attempts at many sites take long.
func (q *Queue) hasSlot(at *site) bool { return at.busy < 4*(q.opt.MaxActive-q.sched.active) }

// enter puts a site in the ring if it is ready. The caller holds s.mu.
func (s *scheduler) enter(at *site) {
	if !at.inRing && at.ready(time.Now()) {
		at.inRing, at.deficit = true, 0
		s.ring = append(s.ring, at)
	}
}

// pick returns the item whose turn it is, or nil. The caller holds s.mu.
func (q *Queue) pick() *item {
	s, now := &q.sched, time.Now()
	for len(s.ring) > 0 {
		at := s.ring[0]
		if !at.ready(now) || !q.hasSlot(at) { // the end of one of its attempts has it come back
			s.ring, at.inRing = s.ring[1:], false
			continue
		}
		cost := cost(at.lanes.peek().message)
		if at.deficit < cost && len(s.ring) > 1 {
			at.deficit++
			s.ring = append(s.ring[1:], at)
			continue
		}
		if q.throttled(at, now) {
			s.ring, at.inRing = s.ring[1:], false
			continue
		}
		at.deficit = max(at.deficit-cost, 0)
		it := at.lanes.pop()
		q.unloaded(it)
		at.busy++
		at.used = now
		it.dest.busy++
		if !at.ready(now) {
			s.ring, at.inRing = s.ring[1:], false
		}
		return it
	}
	return nil
}

// throttled reports whether the rate of a site forbids an attempt now. Then it arranges for the site to come back.
// Otherwise the attempt is counted.
func (q *Queue) throttled(at *site, now time.Time) bool {
	if at.policy.Rate <= 0 {
		return false
	}
	wait := at.next.Sub(now)
	if wait <= 0 {
		at.next = now.Add(time.Duration(float64(time.Second) / at.policy.Rate))
		return false
	}
	if at.timer == nil {
		at.timer = time.AfterFunc(wait, func() {
			s := &q.sched
			s.mu.Lock()
			defer s.mu.Unlock()
			at.timer = nil
			s.enter(at)
			q.dispatch()
		})
	}
	return true
}

// unloaded takes note that an item has left its lane.
func (q *Queue) unloaded(it *item) {
	s := &q.sched
	it.dest.waiting[it.job.Lane]--
	it.dest.site.loaded--
	s.loaded--
	s.contents -= len(it.content)
}

// dispatch begins attempts while there are items and room. The caller holds s.mu.
func (q *Queue) dispatch() {
	s := &q.sched
	most := q.opt.MaxActive
	if s.probing {
		most = 1
	}
	for s.active < most && !s.broken && !s.closed {
		it := q.pick()
		if it == nil {
			return
		}
		s.active++
		q.done.Add(1)
		go q.work(it)
		d := it.dest
		if d.isShortOf(it.job.Lane) {
			q.fill(d)
		}
	}
}

// settle releases d if it has to go and can, and notes since when it is idle. The caller holds s.mu.
func (q *Queue) settle(d *dest) {
	if d.busy > 0 {
		return
	}
	if d.leaving {
		q.end(d)
		return
	}
	if d.waits() > 0 || d.site == nil {
		return
	}
	if d.wantsMore() {
		q.fill(d)
		return
	}
	if d.idle.IsZero() {
		d.idle = time.Now()
	}
}

// leave has d released as soon as nothing is under way. Its items wait again. The caller holds s.mu.
func (q *Queue) leave(d *dest, notBefore time.Time) {
	if d.leaving {
		return
	}
	d.leaving, d.until, d.idle = true, notBefore, time.Time{}
	if d.site != nil && d.waits() > 0 {
		for _, it := range d.site.lanes.remove(func(it *item) bool { return it.dest == d }) {
			q.unloaded(it)
		}
	}
	if d.busy == 0 {
		q.end(d)
	}
}

// end releases the lease of d. The caller holds s.mu.
func (q *Queue) end(d *dest) {
	d.busy++ // nothing else may end it
	d.ending = true
	until := d.until
	q.done.Add(1)
	go func() {
		defer q.done.Done()
		err := q.store.Release(context.WithoutCancel(q.ctx), d.lease, until)
		s := &q.sched
		s.mu.Lock()
		if name := d.lease.Destination; s.dests[name] == d { // otherwise it has been leased again already
			delete(s.dests, name)
		}
		if d.site != nil && d.site.dests[d.lease.Destination] == d {
			delete(d.site.dests, d.lease.Destination)
		}
		s.mu.Unlock()
		close(d.gone)
		s.poke()
		if err != nil && err != ErrLease {
			q.storeFailed("Release", err)
		}
	}()
}
