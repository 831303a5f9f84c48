package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// edited says that the store has applied e to what matches f. What is in memory of that is read again.
func (s *scheduler) edited(f Filter, e Edit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.IDs = slices.Clone(f.IDs); f.Job != nil {
		id := *f.Job
		f.Job = &id
	}
	s.recent[s.edits%len(s.recent)] = f
	s.edits++
	for _, at := range s.turns.sites {
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
			s.leave(d, time.Time{}) // its jobs may have changed
		case f.Destination == "" || f.Destination == name || e.Destination == name:
			d.expect(e.At)
			s.fill(d)
		}
	}
	s.wake.send()
}

// changed reports whether an operator may have changed the job since there had been so many edits. The caller holds mu.
func (s *scheduler) changed(it *item, edits int) bool {
	if s.edits-edits > len(s.recent) {
		return true
	}
	for ; edits < s.edits; edits++ {
		if it.mayMatch(s.recent[edits%len(s.recent)]) {
			return true
		}
	}
	return false
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

// suspend begins a suspension by an operator, of a site or a destination, or ends it if its time is zero.
func (s *scheduler) suspend(c Suspension) {
	s.mu.Lock()
	defer s.unlock()
	at := s.turns.suspend(c)
	if c.Until.IsZero() {
		s.resumed(c.Site)
		return
	}
	if at != nil {
		for _, d := range at.dests {
			s.park(d, &c)
		}
	}
	if d := s.dests[c.Site]; d != nil && d.site != nil && d.site != at {
		s.park(d, &c)
	}
	s.suspended(c)
}

// revive ends the suspension of a site that could not be reached, or of all of them if name is "".
func (s *scheduler) revive(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turns.revive(name)
}

// states returns the state of all sites, sorted by name.
func (s *scheduler) states() []SiteState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turns.states(time.Now())
}

// suspended tells that no attempts are made at a site. The caller holds mu, and calls unlock.
func (s *scheduler) suspended(c Suspension) {
	if t := s.trace.Suspended; t != nil {
		s.told = append(s.told, func() { t(c) })
	}
}

// resumed tells that attempts are made again, and wakes destinations that wait for that. The caller holds mu, and calls
// unlock.
func (s *scheduler) resumed(name string) {
	if t := s.trace.Resumed; t != nil {
		s.told = append(s.told, func() { t(name) })
	}
	list := s.turns.unpark(name)
	if len(list) == 0 || s.closed {
		return
	}
	ending := make(map[string]chan struct{})
	for _, destination := range list {
		switch d := s.dests[destination]; {
		case d == nil || !d.leaving:
		case d.ending:
			ending[destination] = d.gone
		default:
			d.until = time.Time{} // it waits for an attempt
		}
	}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		for _, destination := range list {
			if gone := ending[destination]; gone != nil {
				<-gone
			}
			l, ok, err := s.store.ClaimOne(s.ctx, destination)
			if err != nil {
				return // they are woken later all the same
			}
			if ok {
				s.adopt(l)
			}
		}
	}()
}

// acquire leases a destination for somebody who fetches its mail, and waits for the attempts that are under way.
// GiveBack ends the lease.
func (s *scheduler) acquire(ctx context.Context, destination string) (Lease, error) {
	s.mu.Lock()
	if s.fetched[destination] {
		s.mu.Unlock()
		return Lease{}, fmt.Errorf("smtp: somebody else fetches the mail of %q now: try again later", destination)
	}
	s.fetched[destination] = true
	s.mu.Unlock()
	l, err := s.takeOver(ctx, destination)
	if err != nil {
		s.mu.Lock()
		delete(s.fetched, destination)
		s.mu.Unlock()
	}
	return l, err
}

// giveBack ends a lease that acquire has returned. If the store fails to, it goes on trying.
func (s *scheduler) giveBack(l Lease) error {
	over := func() {
		s.mu.Lock()
		delete(s.fetched, l.Destination)
		s.mu.Unlock()
		s.wake.send()
	}
	err := s.store.Release(context.WithoutCancel(s.ctx), l, time.Time{})
	if err == nil || errors.Is(err, ErrLease) {
		over()
		return err
	}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		s.release(l, time.Time{})
		over()
	}()
	return err
}

// takeOver leases a destination as soon as the scheduler has let go of it.
func (s *scheduler) takeOver(ctx context.Context, destination string) (Lease, error) {
	for {
		l, ok, err := s.store.ClaimOne(ctx, destination)
		if err != nil || ok {
			return l, err
		}
		var gone chan struct{}
		s.mu.Lock()
		if d := s.dests[destination]; d != nil {
			gone = d.gone
			s.leave(d, time.Time{})
		}
		s.mu.Unlock()
		timer := time.NewTimer(10 * time.Millisecond) // claim has leased it, and adopt has not begun
		if gone != nil {
			timer.Stop()
		}
		select {
		case <-gone:
		case <-timer.C:
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.ctx.Done():
			err = ErrClosed
		}
		timer.Stop()
		if err != nil {
			return Lease{}, err
		}
	}
}
