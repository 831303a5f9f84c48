package queuetest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing/iotest"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

var updateTests = []test{
	{"Update", testUpdate},
	{"UpdateRemoves", testUpdateRemoves},
	{"UpdateMerge", testUpdateMerge},
	{"UpdateReports", testUpdateReports},
	{"UpdateReportFails", testUpdateReportFails},
	{"UpdateConcurrent", testUpdateConcurrent},
}

// testUpdate: all that an attempt changes is written, and nothing else of the message.
func testUpdate(s *suite) {
	m := s.mail("a.example", "a.example", "b.example")
	m.jobs[0].To = append(m.jobs[0].To, s.recipient("second@a.example"), s.recipient("third@a.example"))
	s.add(m)
	l := s.claimOne("a.example")
	jobs := s.take(l, queue.Query{Now: s.now, Max: 2})
	changed := copyOf(jobs[0])
	changed.To = changed.To[1:]
	changed.To[0].Last = &queue.Failure{Status: proto.Status{4, 5, 1}, Host: "mx.a.example", Text: "slow",
		Reply: proto.Reply{Code: 421, Text: "later"}}
	changed.Due, changed.Alarm = s.now.Add(time.Minute), s.now.Add(2*time.Minute)
	changed.Lane, changed.Attempts, changed.LastAttempt, changed.Told = 3, 7, s.now, true
	s.update(l, queue.Change{Job: changed})
	m.jobs[0] = changed
	s.wantWhole("updated", m)
	again := copyOf(jobs[1])
	again.Attempts = 1
	s.update(l, queue.Change{Job: again}, queue.Change{Job: copyOf(again)})
	m.jobs[1] = again
	s.wantWhole("updated, twice in a call", m)
	s.update(l)
	s.wantWhole("updated by no changes", m)
	s.wantTaken("the one that waits", l, queue.Query{Now: s.now, Max: 10}, again)
	s.release(l, time.Time{})
	s.now = s.now.Add(time.Minute)
	l = s.claimOne("a.example")
	s.wantTaken("in its new lane", l, queue.Query{Now: s.now, Max: 10, Lane: 3}, changed)
}

// testUpdateRemoves: a job without recipients is removed, and the message with its last job.
func testUpdateRemoves(s *suite) {
	m := s.mail("a.example", "a.example", "b.example")
	other := s.mail("a.example")
	other.jobs[0].Due = s.now.Add(time.Hour)
	s.add(m, other)
	c, err := s.store.Open(s.ctx, m.message.ID)
	s.must(err)
	defer c.Close()
	l, b := s.claimOne("a.example"), s.claimOne("b.example")
	jobs := s.take(l, queue.Query{Now: s.now, Max: 2})
	s.update(l, done(jobs[1]))
	m.jobs = slices.Delete(m.jobs, 1, 2)
	s.wantWhole("the second job is done", m)
	s.update(b, done(s.take1(b)))
	m.jobs = m.jobs[:1]
	s.wantWhole("the third job is done", m)
	s.update(l, done(jobs[0]))
	s.wantGone("the last job is done", m.message.ID)
	s.wantWhole("another message", other)
	// Once more changes nothing, neither for the jobs that are gone nor for their message.
	s.update(l, done(jobs[0]), queue.Change{Job: jobs[1]})
	s.wantGone("updated when it is gone", m.message.ID)
	if u, err := s.store.Usage(s.ctx, "", true); err != nil ||
		u != (queue.Usage{Messages: 1, Octets: other.message.Size}) {
		s.Errorf("Usage is %v, %v", u, err)
	}
	got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil || string(got) != string(m.content) {
		s.Errorf("the content that was open is %q, %v", got, err)
	}
	s.release(l, time.Time{})
	s.release(b, time.Time{})
	s.wantClaim("all done", 10, time.Hour)
	m = s.mail("a.example", "a.example")
	s.add(m)
	l = s.claimOne("a.example")
	jobs = s.take(l, queue.Query{Now: s.now, Max: 2})
	s.update(l, done(jobs[0]), done(jobs[1]))
	s.wantGone("both jobs are done in one call", m.message.ID)
}

// An operation is an Edit in a test.
type operation struct {
	name string
	edit queue.Edit
}

// operations returns one Edit for each Op.
func (s *suite) operations() []operation {
	at := s.now.Add(10 * time.Millisecond)
	return []operation{
		{"Hold", queue.Edit{Op: queue.Hold, At: at, Why: "said so"}},
		{"Release", queue.Edit{Op: queue.Release, At: at}},
		{"Retry", queue.Edit{Op: queue.Retry, At: at}},
		{"Reroute", queue.Edit{Op: queue.Reroute, At: at, Destination: "new.example"}},
		{"Expire", queue.Edit{Op: queue.Expire, At: at, Why: "enough"}},
		{"Drop", queue.Edit{Op: queue.Drop, At: at}},
	}
}

// testUpdateMerge: what an operator changes while a job is handed out stays as the operator has said.
func testUpdateMerge(s *suite) {
	at := s.now.Add(10 * time.Millisecond)
	for i, op := range s.operations() {
		m := s.mail("merge.example")
		m.jobs[0].Edits = i % 2 // edits before the job was handed out do not count
		m.jobs[0].To = append(m.jobs[0].To, s.recipient("second@a.example"))
		s.add(m)
		id := m.jobs[0].ID
		l := s.claimOne("merge.example")
		c := s.take1(l)
		s.edit(op.name, 1, queue.Filter{Job: &id}, op.edit)
		c.To = c.To[1:]
		c.Attempts, c.LastAttempt, c.Told, c.Lane = 1, s.now, true, 5
		c.Due, c.Alarm = s.now.Add(time.Hour), s.now.Add(time.Minute)
		s.update(l, queue.Change{Job: copyOf(c)})

		want := copyOf(c)
		want.Edits++
		want.Due = m.jobs[0].Due // an edit that does not change it keeps it
		switch op.edit.Op {
		case queue.Hold:
			want.State, want.Why = queue.Held, "said so"
		case queue.Release, queue.Retry:
			want.Due = at
		case queue.Reroute:
			want.Destination, want.Due = "new.example", at
		case queue.Expire:
			want.Why, want.Alarm, want.Expires = "enough", at, at
		case queue.Drop:
			s.wantGone("Drop while handed out", id.Message)
			s.release(l, time.Time{})
			continue
		}
		s.wantJob(op.name+" while handed out", id, want)
		s.release(l, time.Time{})
		l = s.claimOne(want.Destination)
		q := queue.Query{Now: s.now.Add(10 * time.Millisecond), Max: 10, All: true, Lane: 5}
		if op.edit.Op == queue.Hold {
			s.wantTaken("Hold while handed out", l, q)
		} else {
			s.wantTaken(op.name+" while handed out", l, q, want)
			s.update(l, done(want))
		}
		s.release(l, time.Time{})
		s.edit("Drop", -1, queue.Filter{IDs: []queue.ID{id.Message}}, queue.Edit{Op: queue.Drop, At: s.now})
	}
}

// testUpdateReports: reports are added with a change, also if the job is gone, and once.
func testUpdateReports(s *suite) {
	m, gone := s.mail("a.example"), s.mail("a.example")
	s.add(m, gone)
	l := s.claimOne("a.example")
	jobs := s.take(l, queue.Query{Now: s.now, Max: 2})
	s.edit("Drop", 1, queue.Filter{IDs: []queue.ID{gone.message.ID}}, queue.Edit{Op: queue.Drop, At: s.now})
	var reports []*mail
	for range 4 {
		r := s.mail("example.org", "example.net")
		r.message.From = proto.Address{}
		r.content = s.octets(70_000)
		r.message.Size = int64(len(r.content))
		reports = append(reports, r)
	}
	var changes []queue.Change
	for _, j := range jobs {
		c := queue.Change{Job: copyOf(j)}
		c.Job.Told = true
		if j.ID.Message == gone.message.ID {
			c.Reports = []*queue.Entry{reports[3].entry()}
		} else {
			c.Reports = []*queue.Entry{reports[0].entry(), reports[1].entry(), reports[2].entry()}
		}
		changes = append(changes, c)
	}
	s.update(l, changes...)
	m.jobs[0].Told = true
	s.wantWhole("updated with reports", m)
	s.wantGone("dropped", gone.message.ID)
	for i, r := range reports {
		s.wantWhole(fmt.Sprintf("report %d", i), r)
	}
	// An Update that is repeated, since it may have failed, adds no report twice.
	for i := range changes {
		for k, e := range changes[i].Reports {
			r := reports[slices.IndexFunc(reports, func(r *mail) bool { return r.message.ID == e.Message.ID })]
			changes[i].Reports[k] = r.entry()
		}
	}
	s.update(l, changes...)
	for i, r := range reports {
		s.wantWhole(fmt.Sprintf("report %d, added twice", i), r)
	}
	if jobs := s.stored(queue.Filter{}); len(jobs) != 9 {
		s.Errorf("%d jobs, want those of four reports, and one", len(jobs))
	}
	s.release(l, s.now.Add(time.Hour))
	leases := s.claim(10)
	slices.SortFunc(leases, func(a, b queue.Lease) int { return len(b.Destination) - len(a.Destination) })
	if len(leases) != 2 {
		s.Fatalf("the destinations %q have to be woken, want those of reports", destinations(leases))
	}
	for _, l := range leases {
		if jobs := s.take(l, queue.Query{Now: s.now.Add(time.Second), Max: 10}); len(jobs) != 4 {
			s.Errorf("%d jobs of reports for %s, want 4", len(jobs), l.Destination)
		}
	}
}

// testUpdateReportFails: if a report cannot be added, the change is not written: a report before its change.
func testUpdateReportFails(s *suite) {
	m := s.add(s.mail("a.example"))
	l := s.claimOne("a.example")
	j := s.take1(l)
	r := s.mail("example.org")
	e := r.entry()
	broken := errors.New("broken")
	e.Content = io.MultiReader(e.Content, iotest.ErrReader(broken))
	c := done(j)
	c.Reports = []*queue.Entry{e}
	if err := s.store.Update(s.ctx, l, []queue.Change{c}); !errors.Is(err, broken) {
		s.Errorf("Update with a report that cannot be read: %v, want its error", err)
	}
	s.wantGone("report that cannot be read", r.message.ID)
	s.wantWhole("the change of a report that cannot be read", m)
	s.wantTaken("still handed out", l, queue.Query{Now: s.now, Max: 10, All: true})
	c.Reports = []*queue.Entry{r.entry()}
	s.update(l, c)
	s.wantGone("delivered", m.message.ID)
	r.message.Size = int64(len(r.content))
	s.wantWhole("report at last", r)
}

// testUpdateConcurrent: the changes of many goroutines are all written.
func testUpdateConcurrent(s *suite) {
	const all, goroutines = 64, 8
	m := s.mail(slices.Repeat([]string{"a.example"}, all)...)
	s.add(m)
	l := s.claimOne("a.example")
	jobs := s.take(l, queue.Query{Now: s.now, Max: all})
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for i := g; i < all; i += goroutines {
				c := queue.Change{Job: copyOf(jobs[i])}
				if c.Job.Attempts = i + 1; i%2 == 0 {
					c = done(c.Job)
				}
				if err := s.store.Update(s.ctx, l, []queue.Change{c}); err != nil {
					s.Errorf("Update: %v", err)
				}
			}
		})
	}
	group.Wait()
	var want []*queue.Job
	for i, j := range m.jobs {
		if i%2 == 1 {
			j.Attempts = i + 1
			want = append(want, j)
		}
	}
	m.jobs = want
	s.wantWhole("updated by many", m)
}
