package queue

import (
	"time"
)

// claim leases at most max destinations that have to be woken by now. See Store.Claim.
func (x *index) claim(now time.Time, max int) (leases []Lease, next time.Time) {
	at := nanos(now)
	for len(x.resting) > 0 && x.resting[0].wake <= at {
		d := x.resting[0]
		d.notBefore = never
		x.settle(d)
	}
	for len(leases) < max && len(x.wakes) > 0 && x.wakes[0].wake <= at {
		leases = append(leases, x.lease(x.wakes[0]))
	}
	if len(x.wakes) > 0 {
		next = nanoTime(x.wakes[0].wake)
	}
	return leases, next
}

// claimOne leases a destination, and reports false if it is leased. See Store.ClaimOne.
func (x *index) claimOne(name string) (Lease, bool) {
	d := x.destination(name)
	if d.epoch != 0 {
		return Lease{}, false
	}
	return x.lease(d), true
}

func (x *index) lease(d *destination) Lease {
	x.epoch++
	d.epoch, d.notBefore = x.epoch, never
	x.settle(d)
	return Lease{Destination: d.name, Epoch: d.epoch}
}

// lessee returns the destination of a lease, or ErrLease if it has ended.
func (x *index) lessee(l Lease) (*destination, error) {
	d := x.destinations[l.Destination]
	if d == nil || l.Epoch == 0 || d.epoch != l.Epoch {
		return nil, ErrLease
	}
	return d, nil
}

// take hands out jobs. See Store.Take. They belong to the index.
func (x *index) take(l Lease, q Query) ([]*indexJob, error) {
	d, err := x.lessee(l)
	if err != nil {
		return nil, err
	}
	now := nanos(q.Now)
	var jobs []*indexJob
	for len(jobs) < q.Max {
		j := d.first(&q, now)
		if j == nil {
			break
		}
		x.unlink(j)
		x.handOut(j, d)
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// first returns the job to hand out next, or nil.
func (d *destination) first(q *Query, now int64) *indexJob {
	if q.AlarmsOnly {
		if len(d.alarms) > 0 && d.alarms[0].alarm <= now {
			return d.alarms[0]
		}
		return nil
	}
	for _, l := range d.lanes {
		if l.lane == q.Lane && (q.All || l.jobs[0].due <= now) {
			return l.jobs[0]
		}
	}
	return nil
}

// release ends a lease. See Store.Release.
func (x *index) release(l Lease, notBefore time.Time) error {
	d, err := x.lessee(l)
	if err != nil {
		return err
	}
	x.end(d)
	if !notBefore.IsZero() {
		d.notBefore = nanos(notBefore)
	}
	x.settle(d)
	return nil
}

// end ends the lease of d, which then has to be settled. What was handed out waits again.
func (x *index) end(d *destination) {
	d.epoch = 0
	for len(d.out) > 0 {
		x.putBack(d.out[len(d.out)-1])
	}
	d.out = nil
}

// endLeases ends all leases.
func (x *index) endLeases() {
	for _, d := range x.destinations {
		if d.epoch != 0 {
			x.end(d)
			x.settle(d)
		}
	}
}

// renew returns the leases that have ended. See Store.Renew.
func (x *index) renew(leases []Lease) (lost []Lease) {
	for _, l := range leases {
		if _, err := x.lessee(l); err != nil {
			lost = append(lost, l)
		}
	}
	return lost
}
