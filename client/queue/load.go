package queue

import "time"

// fill reads jobs of d into memory if there is room and the store may have some. Its alarms are read without room too,
// unless many of its jobs are in memory already. The caller holds mu.
func (s *scheduler) fill(d *dest) {
	if d.filling || d.leaving || d.site == nil || !d.wantsMore() || s.outage.isDown() || s.closed {
		return
	}
	if !s.turns.hasRoom(d.site) && (!d.alarms || d.waits() >= loadBatch) { // alarms may bring jobs into memory
		if !d.hungry {
			d.hungry = true
			s.hungry.push(d)
		}
		return
	}
	d.filling = true
	d.busy++
	d.idle = time.Time{}
	s.done.Add(1)
	go (&loading{s, d}).run()
}

// feed calls fill for destinations that had no room in memory: as many as there are jobs that have left it. One that
// has no room again gets back in line. The caller holds mu.
func (s *scheduler) feed(left int) {
	for range min(left, s.hungry.len()) {
		d := s.hungry.pop()
		d.hungry = false
		s.fill(d)
	}
}

// A loading is the goroutine of fill: it reads jobs of one destination, once.
type loading struct {
	*scheduler
	dest *dest
}

func (s *loading) run() {
	d := s.dest
	defer s.done.Done()
	s.mu.Lock()
	edits := s.edits
	stopped := s.turns.suspended(d, time.Now())
	if d.onDemand {
		stopped = &Suspension{Site: d.site.name, Until: time.Now().Add(24 * time.Hour)}
	}
	s.mu.Unlock()
	err := s.read(stopped)
	if err != nil && err != ErrLease && s.ctx.Err() == nil {
		s.outage.tell("Take", err)
		pause(s.ctx, 10*time.Second) // the store would have d woken again at once for its alarms
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.filling = false
	d.busy--
	switch {
	case err != nil:
		s.leave(d, time.Time{})
	case d.onDemand:
		s.leave(d, stopped.Until)
	case stopped != nil && s.turns.suspended(d, time.Now()) != nil: // it may have been resumed meanwhile
		s.park(d, stopped)
	case d.isShort():
		s.fill(d) // something has come meanwhile
	}
	s.editedSince(d, edits)
	s.settle(d)
}

// read deals with alarms, and then has jobs wait in memory of each lane that has run short. Stopped says why no
// attempts are made, or is nil.
func (s *loading) read(stopped *Suspension) error {
	d := s.dest
	s.mu.Lock()
	alarms := d.alarms
	d.alarms = false
	s.mu.Unlock()
	if alarms {
		more, err := s.ring(stopped != nil)
		if err != nil {
			return err
		}
		s.mu.Lock()
		d.alarms = d.alarms || more
		s.mu.Unlock()
	}
	for l := Lane(0); l < Lanes && stopped == nil; l++ {
		if err := s.readLane(l); err != nil {
			return err
		}
	}
	return nil
}

// readLane has jobs of a lane wait in memory if it has run short.
func (s *loading) readLane(l Lane) error {
	d := s.dest
	s.mu.Lock()
	want, edits := d.isShortOf(l), s.edits
	if want {
		d.more[l] = false
	}
	s.mu.Unlock()
	if !want {
		return nil
	}
	jobs, err := s.store.Take(s.ctx, d.lease, Query{Now: time.Now(), Lane: l, Max: loadBatch})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.more[l] = d.more[l] || len(jobs) == loadBatch
	now := time.Now()
	for _, j := range jobs {
		it := &item{dest: d, job: j}
		if s.changed(it, edits) {
			s.leave(d, time.Time{})
		}
		s.turns.push(it, now)
	}
	s.dispatch(now)
	return nil
}

// push has an item wait that was read from the store when there had been so many edits.
func (s *loading) push(it *item, edits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed(it, edits) {
		s.leave(it.dest, time.Time{})
	}
	now := time.Now()
	s.turns.push(it, now)
	s.dispatch(now)
}

// ring has the worker deal with jobs whose alarm has come. It reports whether there may be more of them: so other
// jobs need not wait for many alarms.
func (s *loading) ring(stopped bool) (more bool, err error) {
	d := s.dest
	for {
		s.mu.Lock()
		edits := s.edits
		s.mu.Unlock()
		jobs, err := s.store.Take(s.ctx, d.lease, Query{Now: time.Now(), AlarmsOnly: true, Max: loadBatch})
		if err != nil {
			return false, err
		}
		for _, j := range jobs {
			m, err := s.worker.alarm(d.lease, j, stopped)
			if err != nil {
				return false, err
			}
			if m != nil {
				s.push(&item{dest: d, job: j, message: m}, edits)
			}
		}
		if more = len(jobs) == loadBatch; !more || !stopped {
			return more, nil
		}
	}
}
