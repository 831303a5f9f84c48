package queuetest

import (
	"time"

	"smtpkit.example/smtp/client/queue"
)

var releaseTests = []test{
	{"Release", testRelease},
	{"NotBefore", testNotBefore},
	{"NotBeforeAlarm", testNotBeforeAlarm},
	{"NotBeforeForgotten", testNotBeforeForgotten},
}

// testRelease: what was handed out and not updated waits again, as it was.
func testRelease(s *suite) {
	m := s.mail("a.example", "a.example", "a.example", "a.example")
	m.jobs[3].Alarm = s.now.Add(-time.Second)
	m.jobs[3].Due = s.now.Add(24 * time.Hour)
	s.add(m)
	l := s.claimOne("a.example")
	jobs := s.take(l, queue.Query{Now: s.now, Max: 2})
	jobs[1].Attempts, jobs[1].Due = 1, s.now.Add(time.Hour)
	s.update(l, queue.Change{Job: jobs[1]})
	s.take(l, queue.Query{Now: s.now, Max: 1, AlarmsOnly: true})
	s.release(l, time.Time{})
	m.jobs[1] = jobs[1]
	s.wantWhole("released", m)
	l = s.wantClaim("released", 10, "none", "a.example")[0]
	s.wantTaken("due", l, queue.Query{Now: s.now, Max: 10}, m.jobs[0], m.jobs[2])
	s.wantTaken("alarms", l, queue.Query{Now: s.now, Max: 10, AlarmsOnly: true}, m.jobs[3])
	s.wantTaken("all", l, queue.Query{Now: s.now, Max: 10, All: true}, jobs[1])
	// A notBefore that has passed is none.
	s.release(l, s.now.Add(-time.Hour))
	s.wantClaim("released", 10, "none", "a.example")
}

// testNotBefore: until then no Due wakes the destination, and Add does not change that.
func testNotBefore(s *suite) {
	s.addAt("a.example", -time.Hour)
	s.addAt("late.example", 50*time.Second)
	for _, name := range []string{"a.example", "late.example", "empty.example"} {
		s.release(s.claimOne(name), s.now.Add(10*time.Second))
	}
	s.wantClaim("Due before notBefore", 10, 10*time.Second)
	s.addAt("a.example", 0)
	s.addAt("empty.example", -time.Minute)
	s.wantClaim("after Add", 10, 10*time.Second)
	s.now = s.now.Add(10*time.Second - time.Millisecond)
	s.wantClaim("just before", 10, time.Millisecond)
	s.now = s.now.Add(time.Millisecond)
	leases := s.claim(10)
	if len(leases) != 2 || leases[0].Destination == leases[1].Destination {
		s.Fatalf("leases of %q when the time has come, want a.example and empty.example", destinations(leases))
	}
	s.now = s.now.Add(40 * time.Second)
	s.wantClaim("Due after notBefore", 10, "none", "late.example")

	// A time without jobs is forgotten when it has come.
	s.release(s.claimOne("other.example"), s.now.Add(time.Second))
	s.now = s.now.Add(time.Second)
	s.wantClaim("nothing waits", 10, "none")
	s.addAt("other.example", 0)
	s.wantClaim("after the time", 10, "none", "other.example")
}

// testNotBeforeAlarm: an alarm wakes the destination in spite of notBefore, and what is due is handed out then.
func testNotBeforeAlarm(s *suite) {
	m := s.mail("a.example", "a.example")
	m.jobs[1].Due, m.jobs[1].Alarm = s.now.Add(24*time.Hour), s.now.Add(5*time.Second)
	s.add(m)
	l := s.claimOne("a.example")
	s.release(l, s.now.Add(20*time.Second))
	s.wantClaim("Due before notBefore", 10, 5*time.Second)
	// A job that comes with an alarm of its own.
	early := s.mail("a.example")
	early.jobs[0].Alarm = s.now.Add(3 * time.Second)
	s.add(early)
	s.wantClaim("Due before notBefore", 10, 3*time.Second)
	s.now = s.now.Add(3 * time.Second)
	l = s.wantClaim("alarm before notBefore", 10, "none", "a.example")[0]
	s.wantTaken("alarms", l, queue.Query{Now: s.now, Max: 10, AlarmsOnly: true}, early.jobs[0])
	s.wantTaken("due", l, queue.Query{Now: s.now, Max: 10}, m.jobs[0])
}

// testNotBeforeForgotten: the time is forgotten when a job is edited, and when the destination is leased again.
func testNotBeforeForgotten(s *suite) {
	for _, op := range s.operations() {
		name := op.name + ".example"
		// One job is edited, and the other shows what becomes of the destination. That of Reroute goes to it.
		m := s.mail(name, name)
		if op.edit.Op == queue.Reroute {
			m.jobs[1].Destination = "from.example"
			op.edit.Destination = name
		}
		m.jobs[1].Alarm = s.now.Add(time.Hour)
		s.add(m)
		s.release(s.claimOne(name), s.now.Add(time.Minute))
		if op.edit.Op == queue.Reroute {
			s.release(s.claimOne("from.example"), s.now.Add(2*time.Minute))
		}
		s.wantClaim(op.name+", before", 10, time.Minute)
		id := m.jobs[1].ID
		s.edit(op.name, 1, queue.Filter{Job: &id}, op.edit)
		s.wantClaim(op.name, 10, "none", name)
		s.edit("Drop", -1, queue.Filter{IDs: []queue.ID{id.Message}}, queue.Edit{Op: queue.Drop, At: s.now})
	}
	// An edit of other jobs forgets nothing.
	a, b := s.addAt("a.example", 0), s.addAt("b.example", 0)
	s.release(s.claimOne("a.example"), s.now.Add(time.Minute))
	s.release(s.claimOne("b.example"), s.now.Add(2*time.Minute))
	s.edit("Retry", 1, queue.Filter{Job: &b.ID}, queue.Edit{Op: queue.Retry, At: s.now})
	s.wantClaim("Retry of another", 10, time.Minute, "b.example")
	s.edit("Retry", 0, queue.Filter{Job: &a.ID, Tag: "none"}, queue.Edit{Op: queue.Retry, At: s.now})
	s.wantClaim("Retry of none", 10, time.Minute)

	s.release(s.claimOne("a.example"), time.Time{})
	s.wantClaim("leased once more", 10, "none", "a.example")
}
