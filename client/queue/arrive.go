package queue

import "time"

// pin has jobs of a new message handed out to the leases of their destinations, if these are there and have room. So
// they need not be read again. It comes before the message is added to the store; unpin or arrived come after that. A
// large content is read meanwhile from a client, who may be slow: so its jobs are read, and no lease has to last.
func (s *scheduler) pin(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.edits = s.edits
	if e.small == nil || s.outage.isDown() {
		return
	}
	for _, j := range e.Jobs {
		d := s.dests[j.Destination]
		if d == nil || !d.takesNew(j.Lane) || !s.turns.hasRoom(d.site) || j.Due.After(e.Message.Arrived) ||
			s.turns.suspended(d, e.Message.Arrived) != nil {
			continue
		}
		d.busy++
		j.Epoch = d.lease.Epoch
	}
}

// unpin undoes pin for a message that could not be added. If the store has it all the same, which nobody knows, its
// jobs are handed out to a lease: so that has to end.
func (s *scheduler) unpin(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range e.Jobs {
		if d := s.dests[j.Destination]; j.Epoch != 0 && d != nil {
			j.Epoch = 0
			d.busy--
			s.leave(d, time.Time{})
			s.settle(d)
		}
	}
}

// arrived puts the jobs of a message that the store has in line.
func (s *scheduler) arrived(e *Entry) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range e.Jobs {
		d := s.dests[j.Destination]
		switch {
		case d == nil:
			s.wake.send()
		case j.Epoch == 0:
			d.more[j.Lane], d.alarms = true, d.alarms || !j.Alarm.After(now)
			s.fill(d)
		default:
			d.busy--
			it := &item{dest: d, job: j, message: e.Message}
			if s.changed(it, e.edits) {
				s.leave(d, time.Time{})
			}
			if d.leaving { // it is released as soon as nothing is under way, and the job with it
				s.settle(d)
				continue
			}
			if e.small != nil && s.turns.contents+len(e.small) <= maxContents {
				it.content = e.small
			}
			s.turns.push(it, now)
		}
	}
	s.dispatch(now)
}
