package sqlstore

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// Leases, and what is handed out under them, are in memory: the database belongs to this process. Nothing is written
// for them, and all jobs wait again when the queue is opened. Epochs grow also from one opening to the next.

// never is a time that does not come.
const never = math.MaxInt64

// A destination is what is known of one that has jobs, is leased, or was released until a time that has not come.
type destination struct {
	name string
	// jobs counts those in the database. The earliest of those that wait is due at due, and another one has its alarm at
	// alarm. While the destination is leased both may be too early.
	jobs       int
	due, alarm int64
	notBefore  int64 // see Store.Release
	lease      *lease
	in         *wakes // the heap that it is in
	at         int
}

// wake is when somebody should lease the destination.
func (d *destination) wake() int64 { return min(d.alarm, max(d.due, d.notBefore)) }

// leases are all destinations, and what is leased of them. Store.mu is held while they are used.
type leases struct {
	destinations map[string]*destination
	// wakes are those that are not leased and have jobs, and resting those that have none but were released until a time.
	wakes, resting wakes
	moved          map[queue.JobID]*handed // all that are in lease.moved
	epoch          int64                   // the last one
}

// A lease is that of a destination, and what is handed out under it.
type lease struct {
	destination string
	epoch       int64
	out         map[queue.JobID]*handed
	// moved are those of out that were rerouted meanwhile: their rows say so. It is nil if there is none.
	moved map[queue.JobID]*handed

	// take is held by a Take. While one is under way, settled has the jobs that were handed out when it began and are not
	// any more: what it reads of them may be old.
	take    sync.Mutex
	taking  bool
	settled map[queue.JobID]struct{}

	// from says where to go on for each lane, and for alarms: all jobs before that are handed out. While a Take is under
	// way, again collects the places of jobs that have come to wait meanwhile. Found says that from is not before the
	// first job of each.
	from, again [queue.Lanes + 1]place
	found       bool
}

// alarms is the index of lease.from for alarms.
const alarms = queue.Lanes

// A place is one in the order of an index.
type place struct {
	at int64
	id queue.JobID
}

var (
	first = place{at: math.MinInt64}
	last  = place{at: math.MaxInt64}
)

func (p place) before(q place) bool {
	if p.at != q.at {
		return p.at < q.at
	}
	if p.id.Message != q.id.Message {
		return p.id.Message < q.id.Message
	}
	return p.id.N < q.id.N
}

// handed is a job that is handed out.
type handed struct {
	lease   *lease
	arrived int64
	// sole says that the message has no other job and no body. Then tag and size are those of the message.
	sole bool
	tag  string
	size int64
	// updating says that the writer has an Update for the job.
	updating bool
	// edited says that the job is not in the database as it was handed out, and moved where it is to go now if that is not
	// the destination of the lease.
	edited bool
	moved  string
}

func (ls *leases) destination(name string) *destination {
	d := ls.destinations[name]
	if d == nil {
		d = &destination{name: name, due: never, alarm: never}
		ls.destinations[name] = d
	}
	return d
}

// settle puts d where it belongs after a change. It forgets what has nothing to be remembered for.
func (ls *leases) settle(d *destination) {
	in := &ls.wakes
	switch {
	case d.lease != nil:
		in = nil
	case d.jobs == 0 && d.notBefore == 0:
		in = nil
		delete(ls.destinations, d.name)
	case d.jobs == 0:
		in = &ls.resting
	}
	if d.in != nil && d.in == in {
		heap.Fix(in, d.at)
		return
	}
	if d.in != nil {
		heap.Remove(d.in, d.at)
		d.in = nil
	}
	if in != nil {
		d.in = in
		heap.Push(in, d)
	}
}

// waits takes note of a job that waits now.
func (ls *leases) waits(r *row) {
	d := ls.destination(r.destination)
	if r.state == waiting {
		d.due, d.alarm = min(d.due, r.due), min(d.alarm, r.alarm)
		if l := d.lease; l != nil {
			l.waits(int(r.lane), place{r.due, r.id})
			l.waits(alarms, place{r.alarm, r.id})
		}
	}
	ls.settle(d)
}

func (l *lease) waits(lane int, p place) {
	if p.before(l.from[lane]) {
		l.from[lane] = p
	}
	if l.taking && p.before(l.again[lane]) {
		l.again[lane] = p
	}
}

// rewind has Take begin at the first job again.
func (l *lease) rewind() {
	l.found = false
	for i := range l.from {
		l.from[i], l.again[i] = first, first
	}
}

// settle has a Take that is under way leave the job alone.
func (l *lease) settle(id queue.JobID) {
	if !l.taking {
		return
	}
	if l.settled == nil {
		l.settled = map[queue.JobID]struct{}{}
	}
	l.settled[id] = struct{}{}
}

// lessee returns the destination of a lease that has not ended.
func (ls *leases) lessee(l queue.Lease) (*destination, error) {
	d := ls.destinations[l.Destination]
	if d == nil || d.lease == nil || d.lease.epoch != l.Epoch {
		return nil, queue.ErrLease
	}
	return d, nil
}

// grant leases d.
func (ls *leases) grant(d *destination) queue.Lease {
	ls.epoch++
	l := &lease{destination: d.name, epoch: ls.epoch, out: map[queue.JobID]*handed{}}
	l.rewind()
	d.lease, d.notBefore = l, 0
	ls.settle(d)
	return queue.Lease{Destination: d.name, Epoch: l.epoch}
}

// Claim leases destinations. See [queue.Store].
func (s *Store) Claim(ctx context.Context, now time.Time, max int) (leases []queue.Lease, next time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, time.Time{}, errClosed
	}
	at := floor(now)
	for len(s.leases.resting) > 0 && s.leases.resting[0].notBefore <= at {
		d := s.leases.resting[0]
		d.notBefore = 0
		s.leases.settle(d)
	}
	for len(leases) < max && len(s.leases.wakes) > 0 && s.leases.wakes[0].wake() <= at {
		leases = append(leases, s.leases.grant(s.leases.wakes[0]))
	}
	if len(s.leases.wakes) > 0 && s.leases.wakes[0].wake() != never {
		next = time.UnixMicro(s.leases.wakes[0].wake()).UTC()
	}
	return leases, next, nil
}

// ClaimOne leases a destination. See [queue.Store].
func (s *Store) ClaimOne(ctx context.Context, destination string) (l queue.Lease, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return l, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return l, false, errClosed
	}
	d := s.leases.destination(destination)
	if d.lease != nil {
		return l, false, nil
	}
	return s.leases.grant(d), true, nil
}

// Renew returns the leases that have ended. The others last until Release or Close. See [queue.Store].
func (s *Store) Renew(ctx context.Context, leases []queue.Lease) (lost []queue.Lease, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range leases {
		if _, err := s.leases.lessee(l); err != nil {
			lost = append(lost, l)
		}
	}
	return lost, nil
}

// A wakes is a heap of destinations by when they are to be woken.
type wakes []*destination

func (h wakes) Len() int { return len(h) }
func (h wakes) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(a.key(), b.key()), cmp.Compare(a.name, b.name)) < 0
}
func (h wakes) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *wakes) Push(x any) {
	d := x.(*destination)
	d.at = len(*h)
	*h = append(*h, d)
}

func (h *wakes) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return d
}

// key is what d is sorted by in its heap.
func (d *destination) key() int64 {
	if d.jobs == 0 {
		return d.notBefore
	}
	return d.wake()
}
