package queue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// How much is leased and read at once.
const (
	maxDests     = 4096 // destinations that are leased at once
	maxSiteDests = 256  // of one site
	loadBatch    = 64   // jobs of one lane of a destination that are read at once
	maxLane      = 512  // jobs of one lane of a destination in memory
)

// How long things last.
const (
	linger     = time.Second      // a lease is kept for so long when there is nothing to do
	hurry      = time.Second / 50 // likewise, while there is no room for other destinations
	recheck    = 15 * time.Second // a destination that is never idle is looked at for jobs that have become due
	maxParking = 5 * time.Minute  // a destination of a suspended site is looked at again after so long
)

// A scheduler decides which job is attempted next, and when. Two questions are kept apart. When is a job due? The store
// knows, and wakes destinations: the scheduler leases those, and reads a bounded number of their jobs. Whose turn is
// it? That is what its turns say, of the jobs in memory.
//
// A destination is leased while it has something to do. One goroutine, claim, leases what has to be woken (claim.go).
// Each lease reads by a goroutine of its own when it runs short of jobs (load.go), and each attempt has one.
//
// The Queue tells it what happens to jobs, so that it need not look: by pin, unpin and arrived of a new message
// (arrive.go), and by delivered of an answer of a server. By edited, suspend and revive it tells of what an operator
// does, and by acquire and giveBack that somebody fetches mail (operate.go). What is to be done with a job the
// scheduler leaves to its worker.
type scheduler struct {
	store  Store
	ways   *router
	outage *outage
	worker worker
	trace  *Trace
	logger *slog.Logger
	ctx    context.Context // ends with Close
	done   sync.WaitGroup  // all goroutines
	wake   signal          // has claim look

	mu      sync.Mutex // guards what follows
	turns   turns
	dests   map[string]*dest
	hungry  fifo[*dest]     // they had no room in memory for their jobs
	fetched map[string]bool // destinations that are not leased to the scheduler, but to Fetch
	edits   int             // changes by operators: what was read from the store before may be out of date
	recent  [16]Filter      // of the last edits, each at its number
	crew    crew            // goroutines for attempts
	closed  bool
	kept    time.Time // when housekeep last ran
	told    []func()  // to be called once mu is not held any more
}

// A worker does what the scheduler has decided. Its methods are called by several goroutines, without a lock.
type worker interface {
	// work makes an attempt at a job, and has the store know the outcome. In between it calls delivered, once. An error
	// says that the store does not know the outcome, and the job is not handed out to others before the lease has ended.
	work(*item) error
	// alarm deals with a job whose alarm has come, by a lease of its destination. If an attempt is to be made in place of
	// that, it returns the message. Stopped says that none may be made.
	alarm(l Lease, j *Job, stopped bool) (*Message, error)
}

// start begins to work. The suspensions are those by operators.
func (s *scheduler) start(most int, suspended []Suspension) {
	s.turns = newTurns(most, suspended, s.later)
	s.dests, s.fetched = make(map[string]*dest), make(map[string]bool)
	s.wake = make(signal, 1)
	s.done.Add(1)
	go s.claim()
}

// close has no more attempts begin, and lets go of all leases as soon as nothing is under way. Those who call pin and
// arrived have to be done before done is waited for.
func (s *scheduler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.crew.dismiss()
	for _, at := range s.turns.sites {
		if at.timer != nil {
			at.timer.Stop()
		}
	}
	for _, d := range s.dests {
		s.leave(d, time.Time{})
	}
}

// unlock unlocks mu, and then calls what has been put in told.
func (s *scheduler) unlock() {
	told := s.told
	s.told = nil
	s.mu.Unlock()
	for _, f := range told {
		f()
	}
}

// policyOf returns how a destination is treated.
func (s *scheduler) policyOf(destination string) Policy {
	if s.ways.opt.PolicyFor == nil {
		return s.ways.opt.Policy
	}
	s.mu.Lock()
	if d := s.dests[destination]; d != nil && d.site != nil {
		defer s.mu.Unlock()
		return d.site.policy
	}
	s.mu.Unlock()
	return s.ways.policy(destination)
}

// adopt begins to work on a destination that has been leased.
func (s *scheduler) adopt(l Lease) {
	d := &dest{lease: l, gone: make(chan struct{})}
	d.expect(time.Now())
	s.mu.Lock()
	s.dests[l.Destination] = d
	d.busy++
	s.mu.Unlock()
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		name := s.ways.siteOf(s.ctx, l.Destination)
		s.mu.Lock()
		known := s.turns.knows(name, time.Now())
		s.mu.Unlock()
		policy := s.ways.policy
		if !known { // others need not wait for Options.PolicyFor
			p := policy(name)
			policy = func(string) Policy { return p }
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		d.busy--
		s.join(d, name, policy)
	}()
}

// join makes d one of the destinations of its site. The caller holds mu.
func (s *scheduler) join(d *dest, name string, policy func(string) Policy) {
	if s.closed || d.leaving { // it has to go before it has begun
		s.leave(d, time.Time{})
		s.settle(d)
		return
	}
	now := time.Now()
	d.site, d.onDemand = s.turns.site(name, policy, now), s.ways.senderOf(d.lease.Destination) == nil
	if len(d.site.dests) >= maxSiteDests {
		s.leave(d, now.Add(jitter(20*time.Second))) // others of the site have their turn
		return
	}
	d.site.dests[d.lease.Destination] = d
	s.fill(d)
	s.settle(d)
}

// dispatch begins attempts while there are items and room. The caller holds mu.
func (s *scheduler) dispatch(now time.Time) {
	for !s.closed && s.turns.active < s.outage.attempts(s.turns.most) {
		it := s.turns.pick(now)
		if it == nil {
			return
		}
		d := it.dest
		d.busy++
		it.edits = s.edits
		if !s.crew.hand(it) {
			s.done.Add(1)
			go s.work(it)
		}
		if d.isShortOf(it.job.Lane) {
			s.fill(d)
		}
		s.feed(1)
	}
}

// work is a goroutine of the crew. It makes attempts, one after the other.
func (s *scheduler) work(it *item) {
	defer s.done.Done()
	next := make(chan *item, 1)
	for ; it != nil; it = <-next {
		s.over(it, s.worker.work(it), next)
	}
}

// over says that an attempt is over, and that its goroutine waits for the next item.
func (s *scheduler) over(it *item, err error, next chan<- *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, now := it.dest, time.Now()
	s.turns.active--
	d.busy--
	if err != nil && !d.leaving {
		s.leave(d, now.Add(10*time.Second)) // what is not known to the store is taken again later
	}
	s.editedSince(d, it.edits)
	s.turns.enter(d.site, now) // it may have had no slot before this one was free
	if s.closed {
		close(next)
	} else {
		s.crew.rest(next)
	}
	s.dispatch(now)
	s.settle(d)
}

// editedSince has what operators have changed looked at, if jobs of d were handed out meanwhile, at so many edits: they
// may be due now, or wait for another destination. The caller holds mu.
func (s *scheduler) editedSince(d *dest, edits int) {
	if s.edits == edits {
		return
	}
	d.expect(time.Now())
	s.fill(d)
	s.wake.send()
}

// delivered says that the servers of a site are done with an attempt, whose outcome is not written yet. If the attempt
// has shown whether a server can be found, known is true, and lost says why none was.
func (s *scheduler) delivered(at *site, known bool, lost error) {
	s.mu.Lock()
	defer s.unlock()
	now := time.Now()
	at.busy--
	if known {
		s.learn(at, now, lost)
	}
	s.turns.enter(at, now)
	s.dispatch(now)
}

// learn records in the health of a site whether an attempt has found a server there. The caller holds mu, and calls
// unlock.
func (s *scheduler) learn(at *site, now time.Time, lost error) {
	if lost == nil {
		if at.succeeded() {
			s.resumed(at.name)
		}
		return
	}
	if dead := at.failed(now, lost.Error()); dead != nil {
		s.told = append(s.told, func() {
			s.logger.Warn("smtp: a site cannot be reached", "site", dead.Site, "until", dead.Until, "err", lost)
		})
		s.suspended(*dead)
		for _, d := range at.dests {
			s.park(d, dead)
		}
	}
}

// later has a site come back that is throttled. The caller holds mu.
func (s *scheduler) later(at *site, wait time.Duration) {
	at.timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		at.timer = nil
		now := time.Now()
		s.turns.enter(at, now)
		s.dispatch(now)
	})
}

// resume begins to work again after an outage.
func (s *scheduler) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dests {
		s.fill(d)
		s.settle(d)
	}
	s.dispatch(time.Now())
	s.wake.send()
}

// settle releases d if it has to go and can, and notes since when it is idle. The caller holds mu.
func (s *scheduler) settle(d *dest) {
	if d.busy > 0 {
		return
	}
	if d.leaving {
		s.end(d)
		return
	}
	if d.waits() > 0 || d.site == nil {
		return
	}
	if d.wantsMore() {
		s.fill(d)
		return
	}
	if d.idle.IsZero() {
		d.idle = time.Now()
	}
}

// leave has d released as soon as nothing is under way. Its items wait again. The caller holds mu.
func (s *scheduler) leave(d *dest, notBefore time.Time) {
	if d.leaving {
		return
	}
	d.leaving, d.until, d.idle = true, notBefore, time.Time{}
	n := s.turns.remove(d)
	if d.busy == 0 {
		s.end(d)
	}
	s.feed(n)
}

// park lets go of a destination whose site is suspended. The caller holds mu.
func (s *scheduler) park(d *dest, why *Suspension) {
	until := earlier(why.Until, time.Now().Add(jitter(maxParking)))
	s.turns.park(why.Site, d.lease.Destination)
	s.leave(d, until.Add(time.Duration(1+len(d.lease.Destination)%7)))
}

// end releases the lease of d. The caller holds mu.
func (s *scheduler) end(d *dest) {
	d.busy++ // nothing else may end it
	d.ending = true
	until := d.until
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		s.release(d.lease, until)
		s.mu.Lock()
		if name := d.lease.Destination; s.dests[name] == d { // otherwise it has been leased again already
			delete(s.dests, name)
		}
		if d.site != nil && d.site.dests[d.lease.Destination] == d {
			delete(d.site.dests, d.lease.Destination)
		}
		s.mu.Unlock()
		close(d.gone)
		s.wake.send()
	}()
}

// release ends a lease, and tries until the store has done so or the queue is closed: nobody else can end it.
func (s *scheduler) release(l Lease, until time.Time) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := s.store.Release(context.WithoutCancel(s.ctx), l, until)
		if err == nil || errors.Is(err, ErrLease) {
			return
		}
		s.outage.tell("Release", err)
		if !pause(s.ctx, wait) {
			return
		}
	}
}
