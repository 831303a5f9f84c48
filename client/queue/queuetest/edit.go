package queuetest

import (
	"cmp"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue"
)

var editTests = []test{
	{"Edit", testEdit},
	{"EditHandedOut", testEditHandedOut},
	{"EditReroutesHandedOut", testEditReroutesHandedOut},
	{"EditMany", testEditMany},
	{"EditConcurrent", testEditConcurrent},
}

// edit edits jobs, and fails the test if they are not as many as wanted. -1 stands for any number.
func (s *suite) edit(what string, want int, f queue.Filter, e queue.Edit) {
	s.Helper()
	n, err := s.store.Edit(s.ctx, f, e)
	if err != nil || want >= 0 && n != want {
		s.Errorf("%s: Edit returned %d, %v, want %d", what, n, err, want)
	}
}

// edited returns what an Edit makes of a job, or nil.
func edited(j *queue.Job, e queue.Edit) *queue.Job {
	c := copyOf(j)
	c.Edits++
	switch e.Op {
	case queue.Hold:
		c.State, c.Why = queue.Held, e.Why
	case queue.Release:
		c.State, c.Why, c.Due = queue.Queued, "", e.At
	case queue.Retry:
		c.Due = e.At
	case queue.Reroute:
		c.Destination, c.Due = e.Destination, e.At
	case queue.Expire:
		c.State, c.Why, c.Alarm, c.Expires = queue.Queued, cmp.Or(e.Why, "given up"), e.At, e.At
	case queue.Drop:
		return nil
	}
	return c
}

// testEdit does each Op to a job that waits and to one that is held.
func testEdit(s *suite) {
	for _, op := range s.operations() {
		for _, state := range []queue.State{queue.Queued, queue.Held} {
			what := op.name + " of a job that is " + state.String()
			m := s.mail("a.example", "a.example")
			for _, j := range m.jobs {
				j.Due = s.now.Add(time.Hour)
			}
			if m.jobs[0].State = state; state == queue.Held {
				m.jobs[0].Why = "because"
			}
			s.add(m)
			before := m.jobs[0]
			s.edit(what, 1, queue.Filter{Job: &before.ID}, op.edit)
			want := edited(before, op.edit)
			s.wantJob(what, before.ID, want)
			s.wantJob(what+", the other one", m.jobs[1].ID, m.jobs[1])
			s.wantEdited(what, op.edit, want)
			s.edit("Drop", -1, queue.Filter{IDs: []queue.ID{before.ID.Message}}, queue.Edit{Op: queue.Drop, At: s.now})
			s.wantGone(what+", dropped", before.ID.Message)
			if op.edit.Op == queue.Drop {
				s.edit(what+", again", 0, queue.Filter{Job: &before.ID}, op.edit)
			}
		}
	}
}

// wantEdited fails the test if a job is not woken, or handed out, as it is after an edit.
func (s *suite) wantEdited(what string, e queue.Edit, j *queue.Job) {
	s.Helper()
	defer func(now time.Time) { s.now = now }(s.now)
	wakes := j != nil && j.State == queue.Queued
	var due []*queue.Job
	if wakes && j.Due.Equal(e.At) {
		due = []*queue.Job{j}
	}
	s.now = e.At.Add(-time.Millisecond)
	s.wantClaimAny(what+", just before", false)
	s.now = e.At
	woken := wakes && (j.Due.Equal(e.At) || j.Alarm.Equal(e.At))
	leases := s.wantClaimAny(what, woken)
	if !woken || len(leases) == 0 {
		return
	}
	if leases[0].Destination != j.Destination {
		s.Errorf("%s: the destination %s is woken, want %s", what, leases[0].Destination, j.Destination)
	}
	s.wantTaken(what+", due", leases[0], queue.Query{Now: s.now, Max: 10}, due...)
	if j.Alarm.Equal(e.At) {
		s.wantTaken(what+", alarm", leases[0], queue.Query{Now: s.now, Max: 10, AlarmsOnly: true}, j)
	}
	s.release(leases[0], time.Time{})
}

// wantClaimAny fails the test if Claim does not lease one destination, or none.
func (s *suite) wantClaimAny(what string, want bool) []queue.Lease {
	s.Helper()
	leases := s.claim(10)
	if len(leases) > 1 || (len(leases) == 1) != want {
		s.Errorf("%s: leases of %q, want one: %v", what, destinations(leases), want)
	}
	return leases
}

// testEditHandedOut does each Op to a job that is handed out, and ends the lease without an Update.
func testEditHandedOut(s *suite) {
	for _, op := range s.operations() {
		what := op.name + " of a job that is handed out"
		m := s.mail("a.example")
		s.add(m)
		l := s.claimOne("a.example")
		id := s.take1(l).ID
		s.edit(what, 1, queue.Filter{Job: &id}, op.edit)
		want := edited(m.jobs[0], op.edit)
		s.wantJob(what, id, want)
		q := queue.Query{Now: s.now.Add(time.Second), Max: 10, All: true}
		s.wantTaken(what, l, q)
		q.AlarmsOnly = true
		s.wantTaken(what, l, q)
		s.release(l, time.Time{})
		s.wantJob(what+", released", id, want)
		if want != nil {
			l := s.claimOne(want.Destination)
			q.AlarmsOnly = false
			if want.State == queue.Held {
				s.wantTaken(what+", released", l, q)
			} else {
				s.wantTaken(what+", released", l, q, want)
			}
			s.release(l, time.Time{})
			s.edit("Drop", 1, queue.Filter{Job: &id}, queue.Edit{Op: queue.Drop, At: s.now})
		}
		s.wantClaim(what+", dropped", 10, "none")
	}
}

// testEditReroutesHandedOut: a job that is handed out is at one destination at a time.
func testEditReroutesHandedOut(s *suite) {
	m := s.mail("old.example", "old.example")
	s.add(m)
	old := s.claimOne("old.example")
	jobs := s.take(old, queue.Query{Now: s.now, Max: 2})
	reroute := queue.Edit{Op: queue.Reroute, At: s.now, Destination: "new.example"}
	s.edit("Reroute", 2, queue.Filter{Destination: "old.example"}, reroute)
	s.edit("Retry", 2, queue.Filter{Destination: "new.example"}, queue.Edit{Op: queue.Retry, At: s.now})
	s.edit("Retry", 0, queue.Filter{Destination: "old.example"}, queue.Edit{Op: queue.Retry, At: s.now})
	// It may go back and forth.
	back := queue.Edit{Op: queue.Reroute, At: s.now, Destination: "old.example"}
	s.edit("Reroute back", 2, queue.Filter{Destination: "new.example"}, back)
	s.edit("Retry", 2, queue.Filter{Destination: "old.example"}, queue.Edit{Op: queue.Retry, At: s.now})
	s.edit("Reroute", 2, queue.Filter{Destination: "old.example"}, reroute)
	for _, j := range m.jobs {
		j.Destination, j.Due = "new.example", s.now
		j.Edits += 5
	}
	s.wantWhole("rerouted", m)
	s.wantClaim("handed out elsewhere", 10, "none")
	l := s.claimOne("new.example")
	q := queue.Query{Now: s.now, Max: 10, All: true}
	s.wantTaken("handed out elsewhere", l, q)
	s.update(old, queue.Change{Job: jobs[0]})
	s.wantTaken("updated", l, q, m.jobs[0])
	s.release(old, s.now.Add(time.Hour))
	s.wantTaken("released", l, q, m.jobs[1])
	s.wantWhole("at the new destination", m)
	s.update(l, done(m.jobs[0]), done(m.jobs[1]))
	s.wantGone("delivered", m.message.ID)
}

// testEditMany: an edit reaches all jobs that match, in all states, and no others.
func testEditMany(s *suite) {
	m := s.mail("a.example", "a.example", "a.example", "b.example")
	m.jobs[0].State = queue.Held
	other := s.mail("a.example")
	s.add(m, other)
	l := s.claimOne("a.example")
	s.take(l, queue.Query{Now: s.now, Max: 1})
	hold := queue.Edit{Op: queue.Hold, At: s.now, Why: "all"}
	s.edit("Hold", 4, queue.Filter{Destination: "a.example"}, hold)
	for _, j := range []*queue.Job{m.jobs[0], m.jobs[1], m.jobs[2], other.jobs[0]} {
		*j = *edited(j, hold)
	}
	s.wantWhole("Hold of a.example", m)
	s.wantWhole("Hold of a.example", other)
	s.edit("none", 0, queue.Filter{Destination: "c.example"}, hold)
	s.edit("none", 0, queue.Filter{IDs: []queue.ID{}}, hold)
	s.edit("Drop", 5, queue.Filter{}, queue.Edit{Op: queue.Drop, At: s.now})
	s.release(l, time.Time{})
	s.wantNothing("all is dropped", m.message.ID, queue.Usage{})
	s.wantGone("all is dropped", other.message.ID)
}

// testEditConcurrent: edits and updates of the same jobs at once lose nothing of each other.
func testEditConcurrent(s *suite) {
	const all = 20
	for range all {
		s.addAt("a.example", 0)
	}
	l := s.claimOne("a.example")
	jobs := s.take(l, queue.Query{Now: s.now, Max: all})
	var group sync.WaitGroup
	for _, j := range jobs {
		group.Go(func() {
			c := copyOf(j)
			c.Attempts = 1
			if err := s.store.Update(s.ctx, l, []queue.Change{{Job: c}}); err != nil {
				s.Errorf("Update: %v", err)
			}
		})
		group.Go(func() {
			hold := queue.Edit{Op: queue.Hold, At: s.now, Why: "x"}
			if n, err := s.store.Edit(s.ctx, queue.Filter{Job: &j.ID}, hold); n != 1 || err != nil {
				s.Errorf("Edit: %d, %v", n, err)
			}
		})
	}
	group.Wait()
	for _, j := range s.stored(queue.Filter{}) {
		if j.State != queue.Held || j.Attempts != 1 || j.Edits != 1 {
			s.Errorf("after Update and Hold the job is %s", dumpJob(j))
		}
	}
}
