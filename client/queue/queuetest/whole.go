package queuetest

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue"
)

var wholeTests = []test{
	{"Reopen", testReopen},
	{"ReopenMany", testReopenMany},
	{"Scale", testScale},
}

// testReopen: a store that is opened again has everything, and what was handed out waits again.
func testReopen(s *suite) {
	s.reopen()
	s.wantNothing("empty", s.mail("a.example").message.ID, queue.Usage{})

	m := s.mail("a.example", "a.example", "b.example", "c.example", "d.example")
	m.message.Tag = "tag"
	m.content = s.octets(100_000)
	gone, part := s.mail("a.example"), s.mail("gone.example", "e.example")
	part.jobs[1].Due = s.now.Add(time.Hour)
	report := s.mail("report.example")
	report.jobs[0].Due = s.now.Add(2 * time.Hour)
	m.jobs[4].Due = s.now.Add(3 * time.Hour)
	s.add(m, gone, part)
	a, b, g := s.claimOne("a.example"), s.claimOne("b.example"), s.claimOne("gone.example")
	jobs := s.take(a, queue.Query{Now: s.now, Max: 10})
	for _, j := range jobs {
		switch j.ID {
		case gone.jobs[0].ID:
			c := done(j)
			c.Reports = []*queue.Entry{report.entry()}
			s.update(a, c)
		case m.jobs[0].ID:
			j.Attempts, j.Due, j.Lane = 3, s.now.Add(time.Minute), 6
			s.update(a, queue.Change{Job: j})
			m.jobs[0] = j
		}
	}
	s.update(g, done(s.take1(g)))
	s.take(b, queue.Query{Now: s.now, Max: 1})
	handedOut := s.mail("a.example")
	handedOut.jobs[0].Epoch = a.Epoch
	s.add(handedOut)
	hold := queue.Edit{Op: queue.Hold, At: s.now, Why: "kept"}
	s.edit("Hold", 1, queue.Filter{Destination: "c.example"}, hold)
	m.jobs[3] = edited(m.jobs[3], hold)
	reroute := queue.Edit{Op: queue.Reroute, At: s.now, Destination: "f.example"}
	s.edit("Reroute", 1, queue.Filter{Destination: "b.example"}, reroute)
	m.jobs[2] = edited(m.jobs[2], reroute)
	s.release(g, s.now.Add(time.Hour))
	note := queue.Suspension{Site: "a.example", Until: s.now.Add(time.Hour), Why: "kept"}
	s.must(s.store.Suspend(s.ctx, note))

	report.message.Size = int64(len(report.content))
	part.jobs = part.jobs[1:]
	for i := range 3 {
		s.reopen()
		what := fmt.Sprintf("opened again, %d", i)
		for _, whole := range []*mail{m, part, report, handedOut} {
			s.wantWhole(what, whole)
		}
		s.wantGone(what, gone.message.ID)
		octets := m.message.Size + part.message.Size + report.message.Size + handedOut.message.Size
		if u, err := s.store.Usage(s.ctx, "", true); err != nil || u != (queue.Usage{Messages: 4, Octets: octets}) {
			s.Errorf("%s: Usage is %v, %v", what, u, err)
		}
		if u, err := s.store.Usage(s.ctx, "tag", false); err != nil || u != (queue.Usage{Messages: 1, Octets: m.message.Size}) {
			s.Errorf("%s: Usage of the tag is %v, %v", what, u, err)
		}
		notes, err := s.store.Suspended(s.ctx, s.now)
		if err != nil || len(notes) != 1 || notes[0].Site != note.Site || notes[0].Why != note.Why || !notes[0].Until.Equal(note.Until) {
			s.Errorf("%s: Suspended returned %v, %v", what, notes, err)
		}
		if _, err := s.store.Take(s.ctx, a, queue.Query{Now: s.now, Max: 1}); !errors.Is(err, queue.ErrLease) {
			s.Errorf("%s: Take under a lease from before: %v, want ErrLease", what, err)
		}
		leases, next, err := s.store.Claim(s.ctx, s.now, 10)
		s.must(err)
		if names := slices.Sorted(slices.Values(destinations(leases))); !slices.Equal(names, []string{"a.example", "f.example"}) {
			s.Errorf("%s: leases of %q", what, names)
		}
		if !next.Equal(part.jobs[0].Due) {
			s.Errorf("%s: next is %s, want %s", what, dumpTime(next), dumpTime(part.jobs[0].Due))
		}
		if err := s.store.Update(s.ctx, a, []queue.Change{done(m.jobs[1])}); !errors.Is(err, queue.ErrLease) {
			s.Errorf("%s: Update under a lease from before: %v, want ErrLease", what, err)
		}
		for _, l := range leases {
			if l.Destination == "a.example" {
				if l.Epoch <= a.Epoch {
					s.Errorf("%s: a lease has epoch %d, after %d", what, l.Epoch, a.Epoch)
				}
				a = l
				s.wantTaken(what, l, queue.Query{Now: s.now, Max: 10}, m.jobs[1], handedOut.jobs[0])
			} else {
				s.wantTaken(what, l, queue.Query{Now: s.now, Max: 10}, m.jobs[2])
			}
		}
	}
}

// testReopenMany: jobs are added, updated and removed between many openings.
func testReopenMany(s *suite) {
	var mails []*mail
	for i := range 6 {
		s.reopen()
		for range 5 {
			m := s.mail("a.example", "b.example")
			m.content = s.octets(10 * i)
			mails = append(mails, s.add(m))
		}
		l := s.claimOne("b.example")
		for _, j := range s.take(l, queue.Query{Now: s.now, Max: 3}) {
			s.update(l, done(j))
			for _, m := range mails {
				m.jobs = slices.DeleteFunc(m.jobs, func(k *queue.Job) bool { return k.ID == j.ID })
			}
		}
		s.edit("Drop", 1, queue.Filter{IDs: []queue.ID{mails[i].message.ID}, Destination: "a.example"},
			queue.Edit{Op: queue.Drop, At: s.now})
		mails[i].jobs = slices.DeleteFunc(mails[i].jobs, func(k *queue.Job) bool { return k.Destination == "a.example" })
	}
	s.reopen()
	var all int
	for _, m := range mails {
		if all += len(m.jobs); len(m.jobs) == 0 {
			s.wantGone("all jobs are done", m.message.ID)
		} else {
			s.wantWhole("in the end", m)
		}
	}
	if n := len(s.stored(queue.Filter{})); n != all {
		s.Errorf("%d jobs, want %d", n, all)
	}
}

// work returns what f costs: see Options.Looked.
func (s *suite) work(f func()) int64 {
	if s.Looked != nil {
		before := s.Looked(s.store)
		f()
		return s.Looked(s.store) - before
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.Mallocs - before.Mallocs)
}

// testScale: a destination with very many jobs makes nothing slower, neither for others nor for its own.
func testScale(s *suite) {
	other := func() {
		for range 10 {
			m := s.add(s.mail("other.example"))
			l := s.wantClaimAny("of the other one", true)
			s.update(l[0], done(s.take1(l[0])))
			s.release(l[0], time.Time{})
			if _, err := s.store.Usage(s.ctx, m.message.Tag, false); err != nil {
				s.Errorf("Usage: %v", err)
			}
		}
	}
	few := s.mail("dead.example", "dead.example", "dead.example")
	for i := range few.jobs {
		few.jobs[i].Due = s.now.Add(time.Duration(i-10) * time.Second)
	}
	s.add(few)
	dead := s.wantClaim("of the dead one", 1, "none", "dead.example")[0]
	other() // whatever is done once
	little := s.work(other)
	want := func(what string, got, want int64) {
		s.Helper()
		if got > 3*want+200 {
			s.Errorf("%s: the store has done %d, and %d with few jobs", what, got, want)
		}
	}

	s.fill("dead.example")
	want("the dead one is leased", s.work(other), little)
	batch := queue.Query{Now: s.now, Max: 50}
	first := s.work(func() { s.take(dead, batch) })
	most := batch
	most.Max = s.Jobs - 200
	s.take(dead, most)
	want("Take when most is handed out", s.work(func() { s.take(dead, batch) }), first)
	want("others when most is handed out", s.work(other), little)
	most.Max = s.Jobs
	s.take(dead, most)
	want("Take when all is handed out", s.work(func() { s.wantTaken("all is handed out", dead, batch) }), first)
	s.release(dead, s.now.Add(time.Minute))
	want("the dead one waits", s.work(other), little)

	dead = s.claimOne("dead.example")
	j := s.addAt("dead.example", -time.Hour)
	one := s.work(func() { s.wantTaken("the oldest of many", dead, queue.Query{Now: s.now, Max: 1}, j) })
	want("Take of the oldest", one, first)
	want("Update of one of many", s.work(func() { s.update(dead, done(j)) }), first)
	s.edit("Hold", s.Jobs+len(few.jobs), queue.Filter{Destination: "dead.example"}, queue.Edit{Op: queue.Hold, At: s.now})
	want("Take when all is held", s.work(func() { s.wantTaken("all is held", dead, batch) }), first)
	s.release(dead, time.Time{})
	want("others when all is held", s.work(other), little)
}

// fill adds Options.Jobs jobs for a destination.
func (s *suite) fill(destination string) {
	s.Helper()
	var mails []*mail
	for left := s.Jobs; left > 0; left -= 50 {
		mails = append(mails, s.mail(slices.Repeat([]string{destination}, min(left, 50))...))
	}
	var group sync.WaitGroup
	for part := range slices.Chunk(mails, max(len(mails)/8, 1)) {
		group.Go(func() { s.addEach(part) })
	}
	group.Wait()
}
