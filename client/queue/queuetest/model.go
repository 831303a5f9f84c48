package queuetest

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// A model is what a Store should be, written without regard to speed and without the code of package queue: it looks at
// all jobs for everything.
type model struct {
	mails     []*mail // of which the messages and contents are used
	jobs      []*modelJob
	leases    map[string]queue.Lease
	ended     []queue.Lease
	notBefore map[string]time.Time
	// out has the jobs that are handed out, as they were then.
	out []handed
}

// handed is a job that was handed out to the lease of a destination.
type handed struct {
	destination string
	job         *queue.Job
}

// A modelJob is a job, with the destination to whose lease it is handed out, or "".
type modelJob struct {
	queue.Job
	message *queue.Message
	lessee  string
}

func newModel() *model {
	return &model{leases: map[string]queue.Lease{}, notBefore: map[string]time.Time{}}
}

func (m *model) add(added *mail) {
	if slices.ContainsFunc(m.mails, func(o *mail) bool { return o.message.ID == added.message.ID }) {
		return
	}
	m.mails = append(m.mails, added)
	for _, j := range added.jobs {
		k := &modelJob{Job: *copyOf(j), message: added.message}
		if l, ok := m.leases[j.Destination]; ok && l.Epoch == j.Epoch {
			k.lessee = j.Destination
		}
		m.jobs = append(m.jobs, k)
	}
}

// A span is when a destination has to be woken: not before from, and not after to. They differ if notBefore has passed,
// and is later than Due: a Store may have forgotten it.
type span struct{ from, to time.Time }

// waking returns when each destination without a lease has to be woken.
func (m *model) waking(now time.Time) map[string]span {
	wakes := map[string]span{}
	for _, j := range m.jobs {
		d := j.Destination
		if _, leased := m.leases[d]; leased || j.State == queue.Held || j.lessee != "" {
			continue
		}
		at := span{j.Due, j.Due}
		if nb := m.notBefore[d]; nb.After(j.Due) {
			if at.to = nb; nb.After(now) {
				at.from = nb
			}
		}
		at = span{earlier(at.from, j.Alarm), earlier(at.to, j.Alarm)}
		if old, ok := wakes[d]; ok {
			at = span{earlier(at.from, old.from), earlier(at.to, old.to)}
		}
		wakes[d] = at
	}
	return wakes
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (m *model) lease(l queue.Lease) {
	m.leases[l.Destination] = l
	delete(m.notBefore, l.Destination)
}

func (m *model) release(l queue.Lease, notBefore time.Time) {
	delete(m.leases, l.Destination)
	m.ended = append(m.ended, l)
	if !notBefore.IsZero() {
		m.notBefore[l.Destination] = notBefore
	}
	for _, j := range m.jobs {
		if j.lessee == l.Destination {
			j.lessee = ""
		}
	}
	m.out = slices.DeleteFunc(m.out, func(h handed) bool { return h.destination == l.Destination })
}

// takeable returns the jobs that Take may return, the first ones first, and the time by which they are ordered.
func (m *model) takeable(l queue.Lease, q queue.Query) (jobs []*modelJob, key func(j *queue.Job) time.Time) {
	key = func(j *queue.Job) time.Time { return j.Due }
	if q.AlarmsOnly {
		key = func(j *queue.Job) time.Time { return j.Alarm }
	}
	for _, j := range m.jobs {
		if j.Destination != l.Destination || j.State == queue.Held || j.lessee != "" {
			continue
		}
		if q.AlarmsOnly && j.Alarm.After(q.Now) {
			continue
		}
		if !q.AlarmsOnly && (j.Lane != q.Lane || !q.All && j.Due.After(q.Now)) {
			continue
		}
		jobs = append(jobs, j)
	}
	slices.SortStableFunc(jobs, func(a, b *modelJob) int { return key(&a.Job).Compare(key(&b.Job)) })
	return jobs, key
}

func (m *model) find(id queue.JobID) *modelJob {
	for _, j := range m.jobs {
		if j.ID == id {
			return j
		}
	}
	return nil
}

// update writes the outcome of a job that is handed out.
func (m *model) update(c *queue.Job) {
	j := m.find(c.ID)
	if j == nil {
		return
	}
	j.lessee = ""
	old := j.Job
	j.Job = *copyOf(c)
	if j.Edits != old.Edits {
		j.Edits, j.Destination, j.State, j.Why, j.Due = old.Edits, old.Destination, old.State, old.Why, old.Due
		if j.Expires.After(old.Expires) {
			j.Expires, j.Alarm = old.Expires, old.Alarm
		}
	}
	if len(j.To) == 0 {
		m.remove(j)
	}
}

func (m *model) remove(j *modelJob) {
	m.jobs = slices.DeleteFunc(m.jobs, func(k *modelJob) bool { return k == j })
}

// edit edits the jobs that match, and returns their number.
func (m *model) edit(f queue.Filter, e queue.Edit) int {
	matching := m.list(f)
	for _, j := range matching {
		delete(m.notBefore, j.Destination)
		changed := edited(&j.Job, e)
		if changed == nil {
			m.remove(j)
			continue
		}
		j.Job = *changed
		delete(m.notBefore, j.Destination)
	}
	return len(matching)
}

// list returns the jobs that match, sorted.
func (m *model) list(f queue.Filter) []*modelJob {
	var jobs []*modelJob
	for _, j := range m.jobs {
		if f.IDs != nil && !slices.Contains(f.IDs, j.ID.Message) ||
			f.Job != nil && *f.Job != j.ID ||
			f.Destination != "" && f.Destination != j.Destination ||
			f.State != nil && *f.State != j.State ||
			f.Tag != "" && f.Tag != j.message.Tag ||
			!f.Before.IsZero() && !j.message.Arrived.Before(f.Before) ||
			!f.After.IsZero() && j.message.Arrived.Before(f.After) ||
			f.From != "" && !sameAddress(f.From, j.message.From.Local, j.message.From.Domain.String()) {
			continue
		}
		if f.To != "" && !slices.ContainsFunc(j.To, func(r queue.Recipient) bool {
			return sameAddress(f.To, r.Address.Local, r.Address.Domain.String())
		}) {
			continue
		}
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *modelJob) int {
		return cmp.Or(cmp.Compare(a.ID.Message, b.ID.Message), cmp.Compare(a.ID.N, b.ID.N))
	})
	return jobs
}

// sameAddress compares the address of a Filter with a simple one.
func sameAddress(want, local, domain string) bool {
	switch {
	case want == "<>":
		return local == "" && domain == ""
	case want[0] == '@':
		return strings.EqualFold(want[1:], domain)
	}
	return strings.EqualFold(want, local+"@"+domain)
}

// usage returns what is queued of a tag, or of all.
func (m *model) usage(tag string, all bool) (u queue.Usage) {
	for _, mail := range m.mails {
		queued := slices.ContainsFunc(m.jobs, func(j *modelJob) bool { return j.ID.Message == mail.message.ID })
		if queued && (all || mail.message.Tag == tag) {
			u.Messages++
			u.Octets += int64(len(mail.content))
		}
	}
	return u
}

// shape returns the rows of Shape.
func (m *model) shape(now time.Time) map[string]queue.Shape {
	rows := map[string]queue.Shape{}
	for _, j := range m.jobs {
		row := rows[j.Destination]
		row.Destination = j.Destination
		row.Jobs++
		row.Recipients += len(j.To)
		if j.State == queue.Held {
			row.Held++
		}
		if row.Oldest.IsZero() || row.Oldest.After(j.message.Arrived) {
			row.Oldest = j.message.Arrived
		}
		column := 0
		for age := now.Sub(j.message.Arrived); column < len(queue.ShapeAges) && queue.ShapeAges[column] <= age; {
			column++
		}
		row.Ages[column]++
		rows[j.Destination] = row
	}
	return rows
}
