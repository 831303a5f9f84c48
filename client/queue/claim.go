package queue

import "time"

// A signal has room for one element. Send says that there is something to do; it does not wait.
type signal chan struct{}

func (s signal) send() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// claim leases destinations as they have to be woken, until ctx ends. It sleeps when there is nothing to do.
func (s *scheduler) claim() {
	defer s.done.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next time.Time // when the store has something to do, or the zero time
	fails := 0
	for woken := true; ; {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
			woken = true
		case <-timer.C:
			woken = woken || !next.IsZero() && !time.Now().Before(next)
		}
		now := time.Now()
		room, active := s.housekeep(now)
		probe := s.outage.probe(now, active)
		switch {
		case woken && room > 0 && !s.outage.isDown():
			woken = false
			next = s.lease(now, room, &fails)
		case woken:
			next = time.Time{} // wake says when it can
		}
		sleep(timer, next, probe, s.housekeeping())
	}
}

// lease leases destinations that have to be woken, and returns when the next one has to be. Fails counts the failures.
func (s *scheduler) lease(now time.Time, room int, fails *int) (next time.Time) {
	leases, next, err := s.store.Claim(s.ctx, now, room)
	for _, l := range leases {
		s.adopt(l)
	}
	if err != nil && s.ctx.Err() == nil {
		*fails++
		s.outage.tell("Claim", err)
		return now.Add(min(time.Second<<min(*fails, 6), time.Minute))
	}
	*fails = 0
	if len(leases) == 0 && !next.IsZero() && !next.After(now) {
		return now.Add(linger) // there is nothing, whatever the store says
	}
	return next
}

// sleep has timer wake at the earliest of the times that are not zero, or never.
func sleep(timer *time.Timer, times ...time.Time) {
	timer.Stop()
	var first time.Time
	for _, at := range times {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if !first.IsZero() {
		timer.Reset(max(time.Until(first), 0))
	}
}

// housekeep releases the destinations that have been idle for long enough, and has those looked at that never are. It
// does so once in a second while there are any, and more often while there is no room for others. It returns how many
// more can be leased now, and how many attempts are under way.
func (s *scheduler) housekeep(now time.Time) (room, active int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room, active = min(maxDests-len(s.dests), loadBatch), s.turns.active
	if len(s.dests) == 0 {
		s.crew.dismiss()
	}
	longest := s.keepFor()
	if now.Sub(s.kept) < longest {
		return room, active
	}
	s.kept = now
	for _, d := range s.dests {
		switch {
		case d.leaving || d.site == nil:
		case !d.idle.IsZero() && now.Sub(d.idle) >= longest:
			s.leave(d, time.Time{})
		case d.idle.IsZero() && now.Sub(d.checked) >= recheck:
			d.expect(now)
			s.fill(d)
		}
	}
	return room, active
}

// housekeeping returns when housekeep has something to do, or the zero time.
func (s *scheduler) housekeeping() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dests) == 0 {
		return time.Time{}
	}
	return s.kept.Add(s.keepFor())
}

// keepFor returns how long a destination is kept that is idle. The caller holds mu.
func (s *scheduler) keepFor() time.Duration {
	if len(s.dests) > maxDests-loadBatch {
		return hurry
	}
	return linger
}
