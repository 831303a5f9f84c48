package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue"
)

var claimTests = []test{
	{"ClaimOrder", testClaimOrder},
	{"ClaimAlarm", testClaimAlarm},
	{"ClaimHeld", testClaimHeld},
	{"ClaimConcurrent", testClaimConcurrent},
	{"ClaimOne", testClaimOne},
	{"Renew", testRenew},
	{"ErrLease", testErrLease},
}

// claim leases what has to be woken now.
func (s *suite) claim(max int) []queue.Lease {
	s.Helper()
	leases, _, err := s.store.Claim(s.ctx, s.now, max)
	s.must(err)
	return leases
}

func (s *suite) claimOne(destination string) queue.Lease {
	s.Helper()
	l, ok, err := s.store.ClaimOne(s.ctx, destination)
	if err != nil || !ok {
		s.Fatalf("ClaimOne(%s): %v, %v", destination, ok, err)
	}
	if l.Destination != destination || l.Epoch == 0 {
		s.Fatalf("ClaimOne(%s) returned %v", destination, l)
	}
	return l
}

func (s *suite) take(l queue.Lease, q queue.Query) []*queue.Job {
	s.Helper()
	jobs, err := s.store.Take(s.ctx, l, q)
	if err != nil {
		s.Fatalf("Take of %s: %v", l.Destination, err)
	}
	for _, j := range jobs {
		if j.Epoch != l.Epoch {
			s.Errorf("Take of %s returned job %s with epoch %d, want %d", l.Destination, j.ID, j.Epoch, l.Epoch)
		}
	}
	return jobs
}

// take1 takes the one job of a lease that can be taken.
func (s *suite) take1(l queue.Lease) *queue.Job {
	s.Helper()
	jobs := s.take(l, queue.Query{Now: s.now, Max: 10, All: true})
	if len(jobs) != 1 {
		s.Fatalf("Take of %s returned %d jobs, want one", l.Destination, len(jobs))
	}
	return jobs[0]
}

// wantTaken takes jobs and fails the test if they are not those that are wanted, in this order.
func (s *suite) wantTaken(what string, l queue.Lease, q queue.Query, want ...*queue.Job) {
	s.Helper()
	got := s.take(l, q)
	if !slices.Equal(ids(got), ids(want)) {
		s.Errorf("%s: Take of %s returned %v, want %v", what, l.Destination, ids(got), ids(want))
		return
	}
	if got, want := dumpJobs(got), dumpJobs(want); got != want {
		s.Errorf("%s: Take of %s returned\n%s\nwant\n%s", what, l.Destination, got, want)
	}
}

func (s *suite) update(l queue.Lease, changes ...queue.Change) {
	s.Helper()
	if err := s.store.Update(s.ctx, l, changes); err != nil {
		s.Fatalf("Update of %s: %v", l.Destination, err)
	}
}

func (s *suite) release(l queue.Lease, notBefore time.Time) {
	s.Helper()
	if err := s.store.Release(s.ctx, l, notBefore); err != nil {
		s.Fatalf("Release of %s: %v", l.Destination, err)
	}
}

// done returns the change of a job that is delivered.
func done(j *queue.Job) queue.Change {
	j = copyOf(j)
	j.To = nil
	return queue.Change{Job: j}
}

func destinations(leases []queue.Lease) []string {
	names := make([]string, len(leases))
	for i, l := range leases {
		names[i] = l.Destination
	}
	return names
}

func (s *suite) wantDestinations(what string, leases []queue.Lease, want ...string) {
	s.Helper()
	if got := destinations(leases); !slices.Equal(got, want) {
		s.Errorf("%s: leases of %q, want %q", what, got, want)
	}
}

// wantClaim fails the test if Claim does not lease the wanted destinations in this order, with this next. It is the
// time after now, or "none".
func (s *suite) wantClaim(what string, max int, next any, want ...string) []queue.Lease {
	s.Helper()
	leases, got, err := s.store.Claim(s.ctx, s.now, max)
	s.must(err)
	s.wantDestinations(what, leases, want...)
	var wantNext time.Time
	if d, ok := next.(time.Duration); ok {
		wantNext = s.now.Add(d)
	}
	if !got.Equal(wantNext) {
		s.Errorf("%s: next is %s, want %s", what, dumpTime(got), dumpTime(wantNext))
	}
	return leases
}

// testClaimOrder: Claim leases what has waited longest, and says what is next.
func testClaimOrder(s *suite) {
	s.wantClaim("nothing", 10, "none")
	for _, due := range []time.Duration{5, 3, 4, 1, 2} {
		name := fmt.Sprintf("d%d.example", due)
		s.addAt(name, -due*time.Second)
		s.addAt(name, time.Hour)
		s.addAt(name, -due*time.Second+time.Millisecond)
	}
	s.addAt("exact.example", 0)
	s.addAt("later.example", time.Hour)
	s.addAt("soon.example", time.Minute)
	s.wantClaim("of none", 0, -5*time.Second)
	leases := s.wantClaim("of two", 2, -3*time.Second, "d5.example", "d4.example")
	s.wantClaim("of all", 10, time.Minute, "d3.example", "d2.example", "d1.example", "exact.example")
	s.wantClaim("of what is leased", 10, time.Minute)

	// A lease that has ended is as if it had never been.
	s.release(leases[0], time.Time{})
	again := s.wantClaim("of what was released", 10, time.Minute, "d5.example")
	if again[0].Epoch <= leases[0].Epoch {
		s.Errorf("the second lease has epoch %d, after %d", again[0].Epoch, leases[0].Epoch)
	}
	// When its jobs are updated, the destination is woken for the earliest of them.
	for _, j := range s.take(again[0], queue.Query{Now: s.now, Max: 10}) {
		j.Due = s.now.Add(30 * time.Second)
		s.update(again[0], queue.Change{Job: j})
	}
	s.release(again[0], time.Time{})
	s.wantClaim("of nothing", 10, 30*time.Second)
	s.now = s.now.Add(30*time.Second - time.Millisecond)
	s.wantClaim("just before", 10, time.Millisecond)
	s.now = s.now.Add(time.Millisecond)
	s.wantClaim("just in time", 10, 30*time.Second, "d5.example")
}

// testClaimAlarm: a destination is woken for an alarm too.
func testClaimAlarm(s *suite) {
	m := s.mail("past.example", "future.example", "never.example")
	for i, alarm := range []time.Duration{-2 * time.Second, time.Second, 48 * time.Hour} {
		m.jobs[i].Due, m.jobs[i].Alarm = s.now.Add(24*time.Hour), s.now.Add(alarm)
	}
	s.add(m)
	s.addAt("due.example", -time.Second)
	s.wantClaim("alarm before due", 1, -time.Second, "past.example")
	s.wantClaim("due", 2, time.Second, "due.example")
	s.now = s.now.Add(time.Second)
	s.wantClaim("alarm now", 2, 24*time.Hour-time.Second, "future.example")
}

// testClaimHeld: held jobs wake nobody.
func testClaimHeld(s *suite) {
	m := s.mail("held.example", "mixed.example", "mixed.example", "mixed.example")
	for _, j := range m.jobs[:2] {
		j.State = queue.Held
		j.Due, j.Alarm = s.now.Add(-time.Hour), s.now.Add(-time.Hour)
	}
	m.jobs[2].Due, m.jobs[3].Due = s.now.Add(time.Minute), s.now.Add(2*time.Minute)
	s.add(m)
	s.wantClaim("held jobs", 10, time.Minute)
	l := s.claimOne("mixed.example")
	s.wantTaken("held job", l, queue.Query{Now: s.now, Max: 10})
	s.wantTaken("held job", l, queue.Query{Now: s.now, Max: 10, AlarmsOnly: true})
	s.wantTaken("held job", l, queue.Query{Now: s.now, Max: 10, All: true}, m.jobs[2], m.jobs[3])
	l = s.claimOne("held.example")
	s.wantTaken("held job", l, queue.Query{Now: s.now, Max: 10, All: true})
	s.wantClaim("held jobs", 10, "none")
}

// testClaimConcurrent: many that claim at once get each destination once.
func testClaimConcurrent(s *suite) {
	const all = 40
	for i := range all {
		s.addAt(fmt.Sprintf("d%d.example", i), -time.Duration(i)*time.Second)
	}
	var lock sync.Mutex
	leases := map[string]queue.Lease{}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for {
				got, _, err := s.store.Claim(s.ctx, s.now, 1+i%3)
				if err != nil {
					s.Errorf("Claim: %v", err)
				}
				// The one that everybody wants.
				if l, ok, err := s.store.ClaimOne(s.ctx, "d0.example"); err != nil {
					s.Errorf("ClaimOne: %v", err)
				} else if ok {
					got = append(got, l)
				}
				if len(got) == 0 {
					return
				}
				lock.Lock()
				for _, l := range got {
					if other, ok := leases[l.Destination]; ok {
						s.Errorf("%s is leased with epochs %d and %d", l.Destination, other.Epoch, l.Epoch)
					}
					leases[l.Destination] = l
				}
				lock.Unlock()
			}
		})
	}
	group.Wait()
	if len(leases) != all {
		s.Errorf("%d destinations are leased, want %d", len(leases), all)
	}
}

func testClaimOne(s *suite) {
	j := s.addAt("later.example", time.Hour)
	due := s.addAt("due.example", -time.Second)
	s.claimOne("empty.example")
	l := s.claimOne("later.example")
	d := s.claimOne("due.example")
	for _, name := range []string{"empty.example", "later.example", "due.example"} {
		if l, ok, err := s.store.ClaimOne(s.ctx, name); ok || err != nil {
			s.Errorf("the second ClaimOne(%s): %v, %v, %v", name, l, ok, err)
		}
	}
	s.wantClaim("of what is leased", 10, "none")
	s.wantTaken("not due", l, queue.Query{Now: s.now, Max: 1})
	s.wantTaken("of due.example", d, queue.Query{Now: s.now, Max: 10, All: true}, due)
	s.wantTaken("of later.example", l, queue.Query{Now: s.now, Max: 10, All: true}, j)
	// A job that comes while the destination is leased is taken under that lease.
	j = s.addAt("later.example", 0)
	s.wantClaim("of what is leased", 10, "none")
	s.wantTaken("added later", l, queue.Query{Now: s.now, Max: 10}, j)
}

func testRenew(s *suite) {
	a, b := s.claimOne("a.example"), s.claimOne("b.example")
	s.release(a, time.Time{})
	made := queue.Lease{Destination: "never.example", Epoch: 1}
	lost, err := s.store.Renew(s.ctx, []queue.Lease{a, b, made})
	s.must(err)
	s.wantDestinations("Renew", lost, "a.example", "never.example")
	again := s.claimOne("a.example")
	lost, err = s.store.Renew(s.ctx, []queue.Lease{a, b, again})
	s.must(err)
	if len(lost) != 1 || lost[0].Epoch != a.Epoch {
		s.Errorf("Renew returned %v, want the first lease of a.example", lost)
	}
	if _, err := s.store.Renew(s.ctx, nil); err != nil {
		s.Errorf("Renew of nothing: %v", err)
	}
}

// testErrLease: a lease that has ended is good for nothing, and does no harm.
func testErrLease(s *suite) {
	m := s.mail("a.example")
	m.jobs[0].Due = s.now.Add(-time.Second)
	s.add(m)
	old := s.claim(1)[0]
	job := s.take1(old)
	refused := func(what string, l queue.Lease) {
		s.Helper()
		if jobs, err := s.store.Take(s.ctx, l, queue.Query{Now: s.now, Max: 1, All: true}); !errors.Is(err, queue.ErrLease) {
			s.Errorf("%s: Take: %v, %v, want ErrLease", what, jobs, err)
		}
		rep := s.mail("report.example")
		for _, c := range []queue.Change{done(job), {Job: job, Reports: []*queue.Entry{rep.entry()}}} {
			if err := s.store.Update(s.ctx, l, []queue.Change{c}); !errors.Is(err, queue.ErrLease) {
				s.Errorf("%s: Update: %v, want ErrLease", what, err)
			}
		}
		s.wantGone(what+", report", rep.message.ID)
		if err := s.store.Release(s.ctx, l, s.now.Add(time.Hour)); !errors.Is(err, queue.ErrLease) {
			s.Errorf("%s: Release: %v, want ErrLease", what, err)
		}
		s.wantWhole(what, m)
	}
	s.release(old, time.Time{})
	refused("released", old)
	refused("never was", queue.Lease{Destination: "a.example", Epoch: old.Epoch + 1000})
	refused("another destination", queue.Lease{Destination: "b.example", Epoch: old.Epoch})
	refused("zero", queue.Lease{Destination: "a.example"})
	l := s.wantClaim("released once more", 1, "none", "a.example")[0]
	refused("leased again", old)
	refused("zero", queue.Lease{Destination: "a.example"})
	if _, ok, err := s.store.ClaimOne(s.ctx, "a.example"); ok || err != nil {
		s.Errorf("the lease has ended with the old one: %v, %v", ok, err)
	}
	s.wantTaken("under the new lease", l, queue.Query{Now: s.now, Max: 1}, m.jobs[0])
}
