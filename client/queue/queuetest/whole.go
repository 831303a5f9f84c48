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
	k := s.keep()
	for i := range 3 {
		s.reopen()
		what := fmt.Sprintf("opened again, %d", i)
		k.wantKept(what)
		k.wantLeases(what)
	}
}

// kept is what is in a store that is opened again. It is made by all methods that write.
type kept struct {
	*suite
	// m has jobs in all states. Those of part and report are not due, and that of handedOut was added with an epoch.
	m, part, report, handedOut *mail
	gone                       *mail
	a                          queue.Lease
	note                       queue.Suspension
}

func (s *suite) keep() *kept {
	k := &kept{suite: s, m: s.mail("a.example", "a.example", "b.example", "c.example", "d.example"),
		gone: s.mail("a.example"), part: s.mail("gone.example", "e.example"), report: s.mail("report.example"),
		note: queue.Suspension{Site: "a.example", Until: s.now.Add(time.Hour), Why: "kept"}}
	k.m.message.Tag = "tag"
	k.m.content = s.octets(100_000)
	k.part.jobs[1].Due = s.now.Add(time.Hour)
	k.report.jobs[0].Due = s.now.Add(2 * time.Hour)
	k.m.jobs[4].Due = s.now.Add(3 * time.Hour)
	s.add(k.m, k.gone, k.part)
	k.a = s.claimOne("a.example")
	b, g := s.claimOne("b.example"), s.claimOne("gone.example")
	for _, j := range s.take(k.a, queue.Query{Now: s.now, Max: 10}) {
		switch j.ID {
		case k.gone.jobs[0].ID:
			c := done(j)
			c.Reports = []*queue.Entry{k.report.entry()}
			s.update(k.a, c)
		case k.m.jobs[0].ID:
			j.Attempts, j.Due, j.Lane = 3, s.now.Add(time.Minute), 6
			s.update(k.a, queue.Change{Job: j})
			k.m.jobs[0] = j
		}
	}
	k.report.message.Size = int64(len(k.report.content))
	s.update(g, done(s.take1(g)))
	k.part.jobs = k.part.jobs[1:]
	s.take(b, queue.Query{Now: s.now, Max: 1})
	k.handedOut = s.mail("a.example")
	k.handedOut.jobs[0].Epoch = k.a.Epoch
	s.add(k.handedOut)
	hold := queue.Edit{Op: queue.Hold, At: s.now, Why: "kept"}
	s.edit("Hold", 1, queue.Filter{Destination: "c.example"}, hold)
	k.m.jobs[3] = edited(k.m.jobs[3], hold)
	reroute := queue.Edit{Op: queue.Reroute, At: s.now, Destination: "f.example"}
	s.edit("Reroute", 1, queue.Filter{Destination: "b.example"}, reroute)
	k.m.jobs[2] = edited(k.m.jobs[2], reroute)
	s.release(g, s.now.Add(time.Hour))
	s.must(s.store.Suspend(s.ctx, k.note))
	return k
}

// wantKept fails the test if something is not there, or something else is.
func (k *kept) wantKept(what string) {
	k.Helper()
	octets := int64(0)
	for _, whole := range []*mail{k.m, k.part, k.report, k.handedOut} {
		k.wantWhole(what, whole)
		octets += whole.message.Size
	}
	k.wantGone(what, k.gone.message.ID)
	if u, err := k.store.Usage(k.ctx, "", true); err != nil || u != (queue.Usage{Messages: 4, Octets: octets}) {
		k.Errorf("%s: Usage is %v, %v", what, u, err)
	}
	tagged := queue.Usage{Messages: 1, Octets: k.m.message.Size}
	if u, err := k.store.Usage(k.ctx, "tag", false); err != nil || u != tagged {
		k.Errorf("%s: Usage of the tag is %v, %v", what, u, err)
	}
	notes, err := k.store.Suspended(k.ctx, k.now)
	if err != nil || len(notes) != 1 || notes[0].Site != k.note.Site || notes[0].Why != k.note.Why ||
		!notes[0].Until.Equal(k.note.Until) {
		k.Errorf("%s: Suspended returned %v, %v", what, notes, err)
	}
}

// wantLeases fails the test if leases from before are good for something, or new ones are not. Jobs stay handed out.
func (k *kept) wantLeases(what string) {
	k.Helper()
	if _, err := k.store.Take(k.ctx, k.a, queue.Query{Now: k.now, Max: 1}); !errors.Is(err, queue.ErrLease) {
		k.Errorf("%s: Take under a lease from before: %v, want ErrLease", what, err)
	}
	leases, next, err := k.store.Claim(k.ctx, k.now, 10)
	k.must(err)
	names := slices.Sorted(slices.Values(destinations(leases)))
	if !slices.Equal(names, []string{"a.example", "f.example"}) {
		k.Errorf("%s: leases of %q", what, names)
	}
	if !next.Equal(k.part.jobs[0].Due) {
		k.Errorf("%s: next is %s, want %s", what, dumpTime(next), dumpTime(k.part.jobs[0].Due))
	}
	if err := k.store.Update(k.ctx, k.a, []queue.Change{done(k.m.jobs[1])}); !errors.Is(err, queue.ErrLease) {
		k.Errorf("%s: Update under a lease from before: %v, want ErrLease", what, err)
	}
	for _, l := range leases {
		if l.Destination != "a.example" {
			k.wantTaken(what, l, queue.Query{Now: k.now, Max: 10}, k.m.jobs[2])
			continue
		}
		if l.Epoch <= k.a.Epoch {
			k.Errorf("%s: a lease has epoch %d, after %d", what, l.Epoch, k.a.Epoch)
		}
		k.a = l
		k.wantTaken(what, l, queue.Query{Now: k.now, Max: 10}, k.m.jobs[1], k.handedOut.jobs[0])
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
