package queuetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

var listTests = []test{
	{"List", testList},
	{"ListWhileChanging", testListWhileChanging},
	{"Filter", testFilter},
	{"Shape", testShape},
	{"Usage", testUsage},
	{"Suspend", testSuspend},
}

// testList: List has all jobs sorted by JobID, in pages of any size, with their messages.
func testList(s *suite) {
	var want []queue.JobID
	messages := map[queue.ID]string{}
	var mails []*mail
	for i := range 5 {
		m := s.mail("a.example", "b.example", "c.example")
		m.jobs[2].ID.N = 10 // 10 comes after 1 and 2
		m.jobs[1].ID.N = 2
		m.message.Tag = fmt.Sprint(i)
		mails = append(mails, m)
		want = append(want, ids(m.jobs)...)
	}
	for _, i := range []int{3, 0, 4, 2, 1} {
		s.add(mails[i])
		messages[mails[i].message.ID] = dumpMessage(mails[i].message)
	}
	s.take(s.claimOne("b.example"), queue.Query{Now: s.now, Max: 2})
	for _, max := range []int{1, 2, 3, 7, 14, 15, 16, 1000} {
		var got []queue.JobID
		after := queue.JobID{}
		for range 20 {
			jobs, next, err := s.store.List(s.ctx, queue.Filter{}, after, max)
			s.must(err)
			for _, l := range jobs {
				got = append(got, l.Job.ID)
				if m := dumpMessage(l.Message); m != messages[l.Job.ID.Message] {
					s.Errorf("job %s is listed with the message %s", l.Job.ID, m)
				}
			}
			if len(jobs) > max || next != (queue.JobID{}) && len(jobs) < max {
				s.Errorf("a page of %d jobs, of %d at most, and the next is %s", len(jobs), max, next)
			}
			if after = next; next == (queue.JobID{}) {
				break
			}
		}
		if !slices.Equal(got, want) {
			s.Errorf("in pages of %d the jobs are\n%v, want\n%v", max, got, want)
		}
	}
	// A filter does not make pages smaller.
	jobs, next, err := s.store.List(s.ctx, queue.Filter{Destination: "c.example"}, want[4], 3)
	if err != nil || len(jobs) != 3 || next != want[11] {
		s.Errorf("List of c.example returned %d jobs, next %s, %v", len(jobs), next, err)
	}
	jobs, next, err = s.store.List(s.ctx, queue.Filter{Destination: "c.example"}, want[11], 3)
	if err != nil || len(jobs) != 1 || next != (queue.JobID{}) || jobs[0].Job.ID != want[14] {
		s.Errorf("List of the last c.example returned %d jobs, next %s, %v", len(jobs), next, err)
	}
}

// testListWhileChanging: a job that is there all the time is listed once, whatever comes and goes between the pages.
func testListWhileChanging(s *suite) {
	var stays, goes []*mail
	for range 12 {
		goes = append(goes, s.mail("a.example"))
		stays = append(stays, s.mail("a.example", "b.example"))
	}
	s.add(goes[:9]...)
	s.add(stays...)
	seen := map[queue.JobID]int{}
	after := queue.JobID{}
	for i := 0; ; i++ {
		jobs, next, err := s.store.List(s.ctx, queue.Filter{}, after, 3)
		s.must(err)
		for _, l := range jobs {
			seen[l.Job.ID]++
		}
		if next == (queue.JobID{}) {
			break
		}
		if i > 30 {
			s.Fatal("the pages do not end")
		}
		// The cursor itself goes too, if it can.
		if i < 9 {
			s.edit("Drop", -1, queue.Filter{IDs: []queue.ID{goes[8-i].message.ID}}, queue.Edit{Op: queue.Drop, At: s.now})
		} else if i < 12 {
			s.add(goes[i])
		}
		if id := next; seen[id] > 0 {
			for _, g := range goes {
				if g.message.ID == id.Message {
					s.edit("Drop", -1, queue.Filter{Job: &id}, queue.Edit{Op: queue.Drop, At: s.now})
				}
			}
		}
		after = next
	}
	for _, m := range stays {
		for _, j := range m.jobs {
			if seen[j.ID] != 1 {
				s.Errorf("job %s is listed %d times", j.ID, seen[j.ID])
			}
		}
	}
	for id, n := range seen {
		if n > 1 {
			s.Errorf("job %s is listed %d times", id, n)
		}
	}
}

// testFilter tries each field of a Filter, in List and in Edit.
func testFilter(s *suite) {
	a, b, c := s.mail("a.example", "b.example"), s.mail("a.example"), s.mail("c.example", "=route")
	s.arrived = s.arrived.Add(time.Second)
	d := s.mail("[192.0.2.1]")
	a.message.From, a.message.Tag = s.address("Alice@Example.ORG"), "tag"
	b.message.From, b.message.Tag = proto.Address{}, "tagged"
	c.message.From = s.address(`"odd@local"@sub.example.org`)
	d.message.From, d.message.Tag = s.address("pelé@bücher.example"), "TAG"
	a.jobs[0].To = []queue.Recipient{s.recipient("x@a.example"), s.recipient("Y@A.example")}
	a.jobs[1].To = []queue.Recipient{s.recipient("x@b.example")}
	b.jobs[0].To = []queue.Recipient{s.recipient("xx@a.example")}
	c.jobs[0].To = []queue.Recipient{s.recipient("x_@c.example"), s.recipient(`"a%b"@c.example`)}
	c.jobs[1].To = []queue.Recipient{{Recipient: proto.Recipient{Address: proto.Address{Local: "postmaster"}}}}
	d.jobs[0].To = []queue.Recipient{s.recipient("u@[192.0.2.1]")}
	a.jobs[1].State, c.jobs[0].State = queue.Held, queue.Held
	s.add(a, b, c, d)
	names := map[queue.JobID]string{a.jobs[0].ID: "a0", a.jobs[1].ID: "a1", b.jobs[0].ID: "b0", c.jobs[0].ID: "c0",
		c.jobs[1].ID: "c1", d.jobs[0].ID: "d0"}
	held, queued := queue.Held, queue.Queued
	never := queue.JobID{Message: a.message.ID, N: 7}
	for i, test := range []struct {
		f    queue.Filter
		want string
	}{
		{queue.Filter{}, "a0 a1 b0 c0 c1 d0"},
		{queue.Filter{IDs: []queue.ID{}}, ""},
		{queue.Filter{IDs: []queue.ID{a.message.ID}}, "a0 a1"},
		{queue.Filter{IDs: []queue.ID{d.message.ID, "x", a.message.ID, d.message.ID}}, "a0 a1 d0"},
		{queue.Filter{Job: &a.jobs[1].ID}, "a1"},
		{queue.Filter{Job: &never}, ""},
		{queue.Filter{Job: &a.jobs[1].ID, IDs: []queue.ID{b.message.ID}}, ""},
		{queue.Filter{Destination: "a.example"}, "a0 b0"},
		{queue.Filter{Destination: "=route"}, "c1"},
		{queue.Filter{Destination: "[192.0.2.1]"}, "d0"},
		{queue.Filter{Destination: ".example"}, ""},
		{queue.Filter{From: "alice@example.org"}, "a0 a1"},
		{queue.Filter{From: "@example.org"}, "a0 a1"},
		{queue.Filter{From: "@SUB.example.org"}, "c0 c1"},
		{queue.Filter{From: "<>"}, "b0"},
		{queue.Filter{From: "pelé@BÜCHER.example"}, "d0"},
		{queue.Filter{From: "ice@example.org"}, ""},
		{queue.Filter{To: "x@a.example"}, "a0"},
		{queue.Filter{To: "y@a.example"}, "a0"},
		{queue.Filter{To: "@a.example"}, "a0 b0"},
		{queue.Filter{To: "_@c.example"}, ""},
		{queue.Filter{To: "X_@c.example"}, "c0"},
		{queue.Filter{To: "%@c.example"}, ""},
		{queue.Filter{To: "@[192.0.2.1]"}, "d0"},
		{queue.Filter{To: "Postmaster"}, "c1"},
		{queue.Filter{Tag: "tag"}, "a0 a1"},
		{queue.Filter{Tag: "tag%"}, ""},
		{queue.Filter{State: &held}, "a1 c0"},
		{queue.Filter{State: &queued}, "a0 b0 c1 d0"},
		{queue.Filter{Before: b.message.Arrived}, "a0 a1"},
		{queue.Filter{Before: b.message.Arrived.Add(time.Millisecond)}, "a0 a1 b0"},
		{queue.Filter{After: c.message.Arrived}, "c0 c1 d0"},
		{queue.Filter{After: c.message.Arrived.Add(time.Millisecond)}, "d0"},
		{queue.Filter{After: b.message.Arrived, Before: d.message.Arrived}, "b0 c0 c1"},
		{queue.Filter{Destination: "a.example", Tag: "tag", To: "@a.example", From: "@example.org", State: &queued,
			IDs: []queue.ID{a.message.ID, b.message.ID}, Before: d.message.Arrived, After: a.message.Arrived}, "a0"},
		{queue.Filter{Destination: "a.example", State: &held}, ""},
	} {
		var got []string
		jobs := s.stored(test.f)
		for _, j := range jobs {
			got = append(got, names[j.ID])
		}
		what := fmt.Sprintf("filter %d, %+v", i, test.f)
		if strings.Join(got, " ") != test.want {
			s.Errorf("List of %s has %q, want %q", what, got, test.want)
		}
		hold := queue.Edit{Op: queue.Hold, Why: what, At: s.now}
		states := map[queue.JobID]queue.State{}
		for _, j := range s.stored(queue.Filter{}) {
			states[j.ID] = j.State
		}
		s.edit(what, len(strings.Fields(test.want)), test.f, hold)
		for _, j := range s.stored(queue.Filter{}) {
			if slices.Contains(got, names[j.ID]) != (j.Why == what) {
				s.Errorf("Edit of %s: job %s has Why %q", what, names[j.ID], j.Why)
			}
			if states[j.ID] == queue.Queued && j.State == queue.Held {
				s.edit("Release", 1, queue.Filter{Job: &j.ID}, queue.Edit{Op: queue.Release, At: s.now})
			}
		}
	}
}

// testShape counts jobs by destination and age.
func testShape(s *suite) {
	ages := []time.Duration{0, 5*time.Minute - time.Millisecond, 5 * time.Minute, 20 * time.Minute, 1279 * time.Minute,
		1280 * time.Minute, 1000 * time.Hour, -time.Second}
	want := map[string]*queue.Shape{}
	column := []int{0, 0, 1, 3, 8, 9, 9, 0}
	for i, age := range ages {
		m := s.mail("b.example", "a.example", "a.example")
		m.message.Arrived = s.now.Add(-age)
		m.jobs[1].To = append(m.jobs[1].To, s.recipient("x@a.example"))
		if i%2 == 0 {
			m.jobs[2].State = queue.Held
		}
		if i < 3 {
			m.jobs[0].Destination = fmt.Sprintf("x%d.example", i)
		}
		s.add(m)
		for _, j := range m.jobs {
			row := want[j.Destination]
			if row == nil {
				row = &queue.Shape{Destination: j.Destination, Oldest: m.message.Arrived}
				want[j.Destination] = row
			}
			row.Jobs++
			row.Recipients += len(j.To)
			row.Held += int(j.State)
			row.Ages[column[i]]++
			if m.message.Arrived.Before(row.Oldest) {
				row.Oldest = m.message.Arrived
			}
		}
	}
	check := func(what string) { s.Helper(); s.wantShape(what, want) }
	check("added")
	l := s.claimOne("x1.example")
	j := s.take1(l)
	check("handed out")
	s.edit("Reroute", 1, queue.Filter{Job: &j.ID}, queue.Edit{Op: queue.Reroute, At: s.now, Destination: "z.example"})
	want["z.example"] = want["x1.example"]
	want["z.example"].Destination = "z.example"
	delete(want, "x1.example")
	check("rerouted")
	s.edit("Hold", 1, queue.Filter{Destination: "x0.example"}, queue.Edit{Op: queue.Hold, At: s.now})
	want["x0.example"].Held++
	s.edit("Drop", 1, queue.Filter{Destination: "x2.example"}, queue.Edit{Op: queue.Drop, At: s.now})
	delete(want, "x2.example")
	s.update(l, done(j))
	delete(want, "z.example")
	check("delivered, held, dropped")
	b := s.claimOne("b.example")
	first := s.take(b, queue.Query{Now: s.now, Max: 1})[0]
	first.To = append(first.To, s.recipient("y@b.example"), s.recipient("z@b.example"))
	s.update(b, queue.Change{Job: first})
	want["b.example"].Recipients += 2
	check("updated")
}

// wantShape fails the test if Shape does not have the rows that are wanted.
func (s *suite) wantShape(what string, want map[string]*queue.Shape) {
	s.Helper()
	got, err := s.store.Shape(s.ctx, s.now)
	s.must(err)
	var names []string
	for _, row := range got {
		names = append(names, row.Destination)
		w := want[row.Destination]
		if w == nil {
			continue
		}
		if !row.Oldest.Equal(w.Oldest) {
			s.Errorf("%s: the oldest of %s is %s, want %s", what, row.Destination, row.Oldest, w.Oldest)
		}
		if row.Oldest = w.Oldest; row != *w {
			s.Errorf("%s: the row is\n%+v, want\n%+v", what, row, *w)
		}
	}
	if !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
		s.Errorf("%s: rows of %q, want %q", what, names, slices.Sorted(maps.Keys(want)))
	}
}

// testUsage: messages count once, as long as they have a job.
func testUsage(s *suite) {
	usage := func(messages, octets int64) queue.Usage { return queue.Usage{Messages: messages, Octets: octets} }
	check := func(what string, want map[string]queue.Usage) {
		s.Helper()
		var all queue.Usage
		for tag, w := range want {
			got, err := s.store.Usage(s.ctx, tag, false)
			if err != nil || got != w {
				s.Errorf("%s: Usage of %q is %v, %v, want %v", what, tag, got, err, w)
			}
			all.Messages += w.Messages
			all.Octets += w.Octets
		}
		if got, err := s.store.Usage(s.ctx, "no such tag", true); err != nil || got != all {
			s.Errorf("%s: Usage of all is %v, %v, want %v", what, got, err, all)
		}
	}
	check("empty", map[string]queue.Usage{"": {}, "a": {}})
	var mails []*mail
	for i, tag := range []string{"a", "", "b", "a", "A"} {
		m := s.mail("a.example", "b.example")
		m.message.Tag = tag
		m.content = s.octets(1000 + i)
		mails = append(mails, m)
	}
	s.add(mails...)
	check("added", map[string]queue.Usage{"a": usage(2, 2003), "": usage(1, 1001), "b": usage(1, 1002),
		"A": usage(1, 1004), "c": {}})
	a, b := s.claimOne("a.example"), s.claimOne("b.example")
	for _, j := range s.take(a, queue.Query{Now: s.now, Max: 10}) {
		s.update(a, done(j))
	}
	check("a job of each is done", map[string]queue.Usage{"a": usage(2, 2003), "": usage(1, 1001), "b": usage(1, 1002),
		"A": usage(1, 1004)})
	for _, j := range s.take(b, queue.Query{Now: s.now, Max: 10}) {
		if j.ID.Message != mails[0].message.ID {
			s.update(b, done(j))
		}
	}
	check("all but one are done", map[string]queue.Usage{"a": usage(1, 1000), "": {}, "b": {}, "A": {}})
	s.edit("Drop", 1, queue.Filter{}, queue.Edit{Op: queue.Drop, At: s.now})
	check("dropped", map[string]queue.Usage{"a": {}, "": {}})
}

// testSuspend: notes are kept until their time has come.
func testSuspend(s *suite) {
	check := func(what string, now time.Time, want ...queue.Suspension) {
		s.Helper()
		got, err := s.store.Suspended(s.ctx, now)
		s.must(err)
		slices.SortFunc(got, func(a, b queue.Suspension) int { return strings.Compare(a.Site, b.Site) })
		equal := func(a, b queue.Suspension) bool { return a.Site == b.Site && a.Why == b.Why && a.Until.Equal(b.Until) }
		if !slices.EqualFunc(got, want, equal) {
			s.Errorf("%s: Suspended returned %v, want %v", what, got, want)
		}
	}
	check("none", s.now)
	a := queue.Suspension{Site: "a.example mx.a.example", Until: s.now.Add(time.Hour), Why: "over \"quota\"\nü"}
	b := queue.Suspension{Site: "b/../%", Until: s.now.Add(time.Minute)}
	for _, note := range []queue.Suspension{b, a, {Site: "c", Until: s.now.Add(2 * time.Hour), Why: "x"}} {
		s.must(s.store.Suspend(s.ctx, note))
	}
	s.must(s.store.Suspend(s.ctx, queue.Suspension{Site: "c"}))
	s.must(s.store.Suspend(s.ctx, queue.Suspension{Site: "never"}))
	check("one of three is removed", s.now, a, b)
	a.Until, a.Why = s.now.Add(30*time.Minute), "changed"
	s.must(s.store.Suspend(s.ctx, a))
	check("changed", s.now, a, b)
	check("just before", b.Until.Add(-time.Millisecond), a, b)
	check("one has ended", b.Until, a)
	// The Store does not act on them.
	s.addAt("a.example", 0)
	s.must(s.store.Suspend(s.ctx, queue.Suspension{Site: "a.example", Until: s.now.Add(time.Hour)}))
	s.wantClaim("suspended", 1, "none", "a.example")
}
