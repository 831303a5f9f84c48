package sqlite

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// TestTakeBehindOthers takes jobs that come after many which are handed out already.
func TestTakeBehindOthers(t *testing.T) {
	p := newPatient(t)
	var all []queue.JobID
	for range 150 {
		all = append(all, p.add())
	}
	l := p.lease()
	out := map[queue.JobID]bool{}
	take := func(max, want int) {
		t.Helper()
		jobs, err := p.Take(t.Context(), l, queue.Query{All: true, Max: max})
		if err != nil || len(jobs) != want {
			t.Errorf("Take returned %d jobs, want %d: %v", len(jobs), want, err)
		}
		for _, j := range jobs {
			if out[j.ID] {
				t.Errorf("%v was handed out twice", j.ID)
			}
			out[j.ID] = true
		}
	}
	take(100, 100)
	p.edit(all[0], queue.Hold) // from now on Take looks from the first job again
	take(30, 30)
	take(30, 20)
	take(30, 0)
}

// TestTakeBeforeDue takes a job less than a microsecond before it is due.
func TestTakeBeforeDue(t *testing.T) {
	p := newPatient(t)
	e := newEntry("example.com", nil, 0)
	due := time.Now().Truncate(time.Millisecond)
	e.Jobs[0].Due = due.Add(900)
	if err := p.Add(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	l := p.lease()
	for want, after := range []time.Duration{100, time.Microsecond} {
		jobs, err := p.Take(t.Context(), l, queue.Query{Now: due.Add(after), Max: 1})
		if len(jobs) != want || err != nil {
			t.Errorf("Take %v after %v returned %d jobs, want %d: %v", after, due, len(jobs), want, err)
		}
	}
}

// TestUpdateWhileTaking updates a job while a Take reads jobs, or finds out where to begin, and sees the job as it was.
// It is handed out once, as it is now.
func TestUpdateWhileTaking(t *testing.T) {
	for name, found := range map[string]bool{"jobs": true, "first": false} {
		t.Run(name, func(t *testing.T) { testUpdateWhileTaking(t, found) })
	}
}

func testUpdateWhileTaking(t *testing.T, found bool) {
	d, name := newDisk(t)
	s, _ := openOn(t, name, t.TempDir())
	defer s.Close()
	ctx := t.Context()
	l, _, err := s.ClaimOne(ctx, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	add := func() {
		t.Helper()
		if err := s.Add(ctx, newEntry("example.com", nil, 0)); err != nil {
			t.Fatal(err)
		}
	}
	take := func(max int) []*queue.Job {
		t.Helper()
		jobs, err := s.Take(ctx, l, queue.Query{All: true, Max: max})
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	add()
	job := take(10)[0]
	add()
	second := take(10)
	if len(second) != 1 {
		t.Fatalf("Take returned %v", second)
	}
	edit := queue.Edit{Op: queue.Retry, At: time.Now()}
	if _, err := s.Edit(ctx, queue.Filter{Job: &second[0].ID}, edit); err != nil {
		t.Fatal(err)
	}
	if found {
		take(0) // after an edit, a Take finds out first where to begin
	}
	add()
	again := *job
	again.Attempts, again.Due = 1, job.Due.Add(-time.Hour)
	d.beforeRead(func() {
		if err := s.Update(ctx, l, []queue.Change{{Job: &again}}); err != nil {
			t.Error(err)
		}
	})
	jobs := take(10)
	if d.reading.Load() != nil {
		t.Fatal("Take has not read")
	}
	n := 0
	for _, j := range append(jobs, take(10)...) {
		if j.ID == job.ID {
			n++
			if j.Attempts != 1 {
				t.Errorf("the job was handed out as it was: %+v", j)
			}
		}
	}
	if n != 1 {
		t.Errorf("the job was handed out %d times", n)
	}
}

// TestUpdateTwice finishes a job twice at once.
func TestUpdateTwice(t *testing.T) {
	p := newPatient(t)
	p.add()
	other := p.add()
	l := p.lease()
	jobs, err := p.Take(t.Context(), l, queue.Query{All: true, Max: 1})
	if err != nil || len(jobs) != 1 {
		t.Fatal(jobs, err)
	}
	done := *jobs[0]
	done.To = nil
	if err := p.Update(t.Context(), l, []queue.Change{{Job: &done}, {Job: &done}}); err != nil {
		t.Fatal(err)
	}
	p.wantMessages(1)
	p.wantTaken(l, other)
}

// TestReleaseRerouted ends a lease under which a job is handed out that was rerouted: its new destination is woken.
func TestReleaseRerouted(t *testing.T) {
	p := newPatient(t)
	id := p.add()
	l := p.lease()
	p.wantTaken(l, id)
	p.edit(id, queue.Reroute)
	if leases, _, err := p.Claim(t.Context(), time.Now(), 1); len(leases) != 0 || err != nil {
		t.Errorf("Claim returned %v, %v while the job is handed out", leases, err)
	}
	if err := p.Release(t.Context(), l, time.Time{}); err != nil {
		t.Fatal(err)
	}
	leases, _, err := p.Claim(t.Context(), time.Now(), 1)
	if len(leases) != 1 || leases[0].Destination != "other.example" || err != nil {
		t.Fatalf("Claim returned %v, %v", leases, err)
	}
	p.wantTaken(leases[0], id)
}

// TestForgets looks for what a store remembers of destinations whose mail is done, in each way to be done.
func TestForgets(t *testing.T) {
	p := newPatient(t)
	for i := range 4 {
		id := p.add()
		l := p.lease()
		jobs := p.wantTaken(l, id)
		switch i {
		case 0: // it fails once
			jobs[0].Attempts++
			if err := p.Update(t.Context(), l, []queue.Change{{Job: jobs[0]}}); err != nil {
				t.Fatal(err)
			}
			jobs = p.wantTaken(l, id)
		case 1:
			p.edit(id, queue.Reroute)
		case 2:
			p.edit(id, queue.Hold)
		case 3:
			p.edit(id, queue.Drop)
		}
		jobs[0].To = nil
		if err := p.Update(t.Context(), l, []queue.Change{{Job: jobs[0]}}); err != nil {
			t.Fatal(err)
		}
		if err := p.Release(t.Context(), l, time.Time{}); err != nil {
			t.Fatal(err)
		}
		p.wantMessages(0)
		leases := reflect.ValueOf(p.Store).Elem().FieldByName("leases")
		for _, name := range []string{"destinations", "moved", "wakes", "resting"} {
			if n := leases.FieldByName(name).Len(); n != 0 {
				t.Errorf("%d: %d %s are remembered: %s", i, n, name, fmt.Sprint(leases.FieldByName(name)))
			}
		}
	}
}
