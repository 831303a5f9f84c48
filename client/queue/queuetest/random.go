package queuetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// A player does random operations to a store and to a model of it, and compares what they return.
type player struct {
	*suite
	*rand.Rand
	model *model
	// log has what was done, for a failure.
	log []string
}

var (
	randomDestinations = []string{"a.example", "b.example", "c.example", "=d"}
	randomAddresses    = []string{"x@a.example", "y@b.example", "Z@A.example"}
	randomTags         = []string{"", "t", "u"}
)

// random runs one round. The seed is in the name of the subtest.
func (s *suite) random(seed uint64) {
	p := &player{suite: s, Rand: rand.New(rand.NewPCG(seed, 12)), model: newModel()}
	defer func() {
		if s.Failed() {
			s.Logf("the last operations of seed %d:", seed)
			for _, line := range p.log[max(0, len(p.log)-40):] {
				s.Log(line)
			}
		}
	}()
	operations := []struct {
		weight int
		f      func()
	}{
		{12, p.add}, {10, p.claim}, {4, p.claimOne}, {16, p.take}, {14, p.update}, {8, p.release}, {8, p.edit}, {4, p.list},
		{2, p.stale}, {1, p.restart}, {6, p.pass},
	}
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	for i := range 300 {
		n := p.IntN(total)
		for _, o := range operations {
			if n -= o.weight; n < 0 {
				o.f()
				break
			}
		}
		if i%10 == 9 {
			p.compare()
		}
		if s.Failed() {
			return
		}
	}
}

func (p *player) did(format string, args ...any) {
	p.log = append(p.log, p.now.Format("05.000 ")+fmt.Sprintf(format, args...))
}

// pass lets time pass: it is short, so that leases that end by the clock do not.
func (p *player) pass() {
	p.now = p.now.Add(time.Duration(p.IntN(300)) * time.Millisecond)
	p.arrived = p.arrived.Add(time.Duration(p.IntN(300)) * time.Millisecond)
}

// around returns a time between now minus before and now plus after.
func (p *player) around(before, after time.Duration) time.Time {
	ms := int64((before + after) / time.Millisecond)
	return p.now.Add(time.Duration(p.Int64N(ms))*time.Millisecond - before)
}

func pick[T any](p *player, from []T) T { return from[p.IntN(len(from))] }

// newMail returns a random message.
func (p *player) newMail() *mail {
	var dests []string
	for range 1 + p.IntN(4) {
		dests = append(dests, pick(p, randomDestinations))
	}
	m := p.mail(dests...)
	m.message.Tag = pick(p, randomTags)
	m.message.From = p.address(pick(p, randomAddresses))
	if p.IntN(4) == 0 {
		m.message.From = proto.Address{}
	}
	m.content = p.octets(p.IntN(3000))
	m.message.Size = int64(len(m.content))
	for _, j := range m.jobs {
		j.To = nil
		for range 1 + p.IntN(3) {
			j.To = append(j.To, p.recipient(pick(p, randomAddresses)))
		}
		p.times(j)
		if p.IntN(10) == 0 {
			j.State, j.Why = queue.Held, "held at first"
		}
		switch l, ok := p.model.leases[j.Destination]; p.IntN(4) {
		case 0:
			if ok && j.State == queue.Queued {
				j.Epoch = l.Epoch
			}
		case 1:
			if len(p.model.ended) > 0 {
				j.Epoch = pick(p, p.model.ended).Epoch
			}
		}
	}
	return m
}

// times gives a job random times and a lane.
func (p *player) times(j *queue.Job) {
	j.Due, j.Alarm = p.around(2*time.Second, 3*time.Second), p.around(time.Second, time.Minute)
	j.Expires = p.around(0, time.Hour)
	j.Lane = queue.Lane(p.IntN(2))
}

func (p *player) add() {
	m := p.newMail()
	p.did("add %s", dumpJobs(m.jobs))
	p.suite.add(m)
	p.model.add(m)
}

func (p *player) claim() {
	max := p.IntN(4)
	wakes := p.model.waking(p.now)
	leases, next, err := p.store.Claim(p.ctx, p.now, max)
	p.must(err)
	p.did("claim %d: %v, next %s", max, leases, dumpTime(next))
	var due int
	for _, at := range wakes {
		if !at.from.After(p.now) {
			due++
		}
	}
	if len(leases) != min(max, due) {
		p.Errorf("Claim leases %q, want %d of %v", destinations(leases), min(max, due), wakes)
	}
	var last time.Time // the latest time from which one of the leases has waited
	for _, l := range leases {
		at, ok := wakes[l.Destination]
		if !ok || at.from.After(p.now) || at.to.Before(last) {
			p.Errorf("Claim leases %q of %v", destinations(leases), wakes)
		}
		if at.from.After(last) {
			last = at.from
		}
		delete(wakes, l.Destination)
		p.model.lease(l)
	}
	var first *span
	for d, at := range wakes {
		if at.to.Before(last) {
			p.Errorf("Claim leases %q before %s", destinations(leases), d)
		}
		if first == nil {
			first = &at
		}
		first.from, first.to = earlier(first.from, at.from), earlier(first.to, at.to)
	}
	if first == nil {
		first = new(span)
	}
	if next.Before(first.from) || next.After(first.to) {
		p.Errorf("the next of Claim is %s, want %s", dumpTime(next), dumpTime(first.to))
	}
}

func (p *player) claimOne() {
	d := pick(p, randomDestinations)
	l, ok, err := p.store.ClaimOne(p.ctx, d)
	p.must(err)
	p.did("claim %s: %v, %v", d, l, ok)
	if _, leased := p.model.leases[d]; leased == ok {
		p.Errorf("ClaimOne(%s): %v, and the destination is leased: %v", d, ok, leased)
	}
	if ok {
		p.model.lease(l)
	}
}

// lease returns a lease that has not ended.
func (p *player) lease() (l queue.Lease, ok bool) {
	if len(p.model.leases) == 0 {
		return l, false
	}
	return p.model.leases[pick(p, slices.Sorted(maps.Keys(p.model.leases)))], true
}

func (p *player) take() {
	l, ok := p.lease()
	if !ok {
		return
	}
	q := queue.Query{Now: p.now, Lane: queue.Lane(p.IntN(2)), Max: p.IntN(4), All: p.IntN(4) == 0,
		AlarmsOnly: p.IntN(4) == 0}
	want, key := p.model.takeable(l, q)
	got := p.suite.take(l, q)
	p.did("take %+v of %v: %v", q, l, ids(got))
	if len(got) != min(q.Max, len(want)) {
		p.Errorf("Take returned %d jobs, want %d of %d", len(got), min(q.Max, len(want)), len(want))
		return
	}
	for i, j := range got {
		at := slices.IndexFunc(want, func(k *modelJob) bool { return k.ID == j.ID })
		if at < 0 || want[at].lessee != "" || !key(j).Equal(key(&want[i].Job)) {
			p.Errorf("Take returned job %d, %s, want %s", i, dumpJob(j), dumpJob(&want[i].Job))
			return
		}
		want[at].lessee = l.Destination
		if got, want := dumpJob(j), dumpJob(&want[at].Job); got != want {
			p.Errorf("Take returned\n%s, want\n%s", got, want)
		}
		p.model.out = append(p.model.out, handed{l.Destination, j})
	}
}

func (p *player) update() {
	l, ok := p.lease()
	if !ok {
		return
	}
	var changes []queue.Change
	var reports []*mail
	p.model.out = slices.DeleteFunc(p.model.out, func(h handed) bool {
		if h.destination != l.Destination || p.IntN(3) == 0 {
			return false
		}
		j := copyOf(h.job)
		c := queue.Change{Job: j}
		j.Attempts++
		j.LastAttempt = p.now
		p.times(j)
		j.To = j.To[p.IntN(len(j.To)+1):]
		for i := range j.To {
			j.To[i].Last = &queue.Failure{Status: proto.Status{4, 4, 1}, Text: fmt.Sprint(j.Attempts)}
		}
		for range p.IntN(12) / 10 {
			r := p.newMail()
			reports = append(reports, r)
			c.Reports = append(c.Reports, r.entry())
		}
		changes = append(changes, c)
		return true
	})
	var what []*queue.Job
	for _, c := range changes {
		what = append(what, c.Job)
	}
	p.did("update %v, %d reports: %s", l, len(reports), dumpJobs(what))
	p.suite.update(l, changes...)
	for _, r := range reports {
		p.did("report %s", dumpJobs(r.jobs))
		p.model.add(r)
	}
	for _, c := range changes {
		p.model.update(c.Job)
	}
}

func (p *player) release() {
	l, ok := p.lease()
	if !ok {
		return
	}
	var notBefore time.Time
	if p.IntN(2) == 0 {
		notBefore = p.around(time.Second, 3*time.Second)
	}
	p.did("release %v until %s", l, dumpTime(notBefore))
	p.suite.release(l, notBefore)
	p.model.release(l, notBefore)
}

// filter returns a random filter, mostly one with few fields.
func (p *player) filter() (f queue.Filter) {
	if len(p.model.mails) == 0 {
		return f
	}
	for range 1 + p.IntN(2) {
		switch p.IntN(9) {
		case 0, 1:
			f.IDs = append(f.IDs, pick(p, p.model.mails).message.ID, pick(p, p.model.mails).message.ID)
		case 2:
			f.Job = &pick(p, pick(p, p.model.mails).jobs).ID
		case 3:
			f.Destination = pick(p, randomDestinations)
		case 4:
			f.From = pick(p, []string{"<>", "@a.example", "X@A.EXAMPLE"})
		case 5:
			f.To = pick(p, []string{"@b.example", "z@a.example"})
		case 6:
			f.Tag = pick(p, randomTags)
		case 7:
			state := queue.State(p.IntN(2))
			f.State = &state
		case 8:
			f.After, f.Before = pick(p, p.model.mails).message.Arrived, pick(p, p.model.mails).message.Arrived
		}
	}
	return f
}

func (p *player) edit() {
	f := p.filter()
	e := queue.Edit{Op: queue.Hold + queue.Op(p.IntN(6)), At: p.around(0, time.Second), Why: "why",
		Destination: pick(p, randomDestinations)}
	if e.Op == queue.Hold && p.IntN(2) == 0 {
		e.Op = queue.Release
	}
	n, err := p.store.Edit(p.ctx, f, e)
	p.must(err)
	p.did("edit %+v of %+v: %d", e, f, n)
	if want := p.model.edit(f, e); n != want {
		p.Errorf("Edit %+v of %+v returned %d, want %d", e, f, n, want)
	}
}

func (p *player) list() {
	f := p.filter()
	want := p.model.list(f)
	max := 1 + p.IntN(5)
	var got []queue.JobID
	for after := (queue.JobID{}); ; {
		jobs, next, err := p.store.List(p.ctx, f, after, max)
		p.must(err)
		for _, l := range jobs {
			got = append(got, l.Job.ID)
		}
		if after = next; next == (queue.JobID{}) || len(got) > len(want) {
			break
		}
	}
	var wanted []queue.JobID
	for _, j := range want {
		wanted = append(wanted, j.ID)
	}
	if !slices.Equal(got, wanted) {
		p.Errorf("List of %+v in pages of %d has\n%v, want\n%v", f, max, got, wanted)
	}
}

// stale uses a lease that has ended.
func (p *player) stale() {
	if len(p.model.ended) == 0 {
		return
	}
	l := pick(p, p.model.ended)
	p.did("use the old lease %v", l)
	if jobs, err := p.store.Take(p.ctx, l, queue.Query{Now: p.now, Max: 1, All: true}); !errors.Is(err, queue.ErrLease) {
		p.Errorf("Take under the old lease %v: %v, %v", l, ids(jobs), err)
	}
	if err := p.store.Release(p.ctx, l, p.now); !errors.Is(err, queue.ErrLease) {
		p.Errorf("Release of the old lease %v: %v", l, err)
	}
	lost, err := p.store.Renew(p.ctx, []queue.Lease{l})
	if err != nil || len(lost) != 1 {
		p.Errorf("Renew of the old lease %v: %v, %v", l, lost, err)
	}
}

// restart opens the store again. A store may have forgotten notBefore then, so it is made to.
func (p *player) restart() {
	if p.Reopen == nil {
		return
	}
	p.did("open again")
	p.reopen()
	for _, d := range slices.Sorted(maps.Keys(p.model.leases)) {
		p.model.release(p.model.leases[d], time.Time{})
	}
	p.model.out = nil
	for _, d := range slices.Sorted(maps.Keys(p.model.notBefore)) {
		l := p.suite.claimOne(d)
		p.model.lease(l)
		p.suite.release(l, time.Time{})
		p.model.release(l, time.Time{})
	}
}

// compare compares all that the store has with the model.
func (p *player) compare() {
	for _, m := range p.model.mails {
		left := *m
		left.jobs = nil
		for _, j := range p.model.list(queue.Filter{IDs: []queue.ID{m.message.ID}}) {
			left.jobs = append(left.jobs, &j.Job)
		}
		switch {
		case len(left.jobs) > 0:
			p.wantWhole("compared", &left)
		case p.IntN(10) == 0:
			p.wantGone("compared", m.message.ID)
		}
	}
	for _, tag := range randomTags {
		for _, all := range []bool{false, true} {
			if got, err := p.store.Usage(p.ctx, tag, all); err != nil || got != p.model.usage(tag, all) {
				p.Errorf("Usage(%q, %v) is %v, %v, want %v", tag, all, got, err, p.model.usage(tag, all))
			}
		}
	}
	shape, err := p.store.Shape(p.ctx, p.now)
	p.must(err)
	want := p.model.shape(p.now)
	for _, row := range shape {
		row.Oldest = row.Oldest.UTC()
		if row != want[row.Destination] {
			p.Errorf("Shape has\n%+v, want\n%+v", row, want[row.Destination])
		}
		delete(want, row.Destination)
	}
	if len(want) > 0 {
		p.Errorf("Shape has not %v", want)
	}
}
