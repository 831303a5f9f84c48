package sqlstore

import (
	"context"

	"smtpkit.example/smtp/client/queue"
)

// Update writes outcomes. See [queue.Store]. What it has written survives a loss of power when something durable is
// written after it, or the operating system has written it by itself.
func (s *Store) Update(ctx context.Context, l queue.Lease, changes []queue.Change) error {
	t := &update{lease: l, changes: make([]change, len(changes))}
	octets := 0
	defer func() {
		for _, a := range t.reports {
			s.abandon(a)
		}
	}()
	for i := range changes {
		c := &t.changes[i]
		c.given = &changes[i]
		if len(c.given.Job.To) > 0 {
			var err error
			if c.row, err = newRow(c.given.Merge(c.given.Job), 0); err != nil {
				return err
			}
			octets += len(c.row.job)
		}
		for _, e := range c.given.Reports {
			a, err := s.newAddition(ctx, e)
			if err != nil {
				return err
			}
			t.reports = append(t.reports, a)
			octets += len(a.content) + len(a.message)
		}
	}
	return s.w.do(ctx, &request{task: t, octets: octets})
}

// update is the task of Update.
type update struct {
	lease   queue.Lease
	changes []change
	reports []*addition
	dest    *destination
	l       *lease
	// odd says that a change is of a job that is not handed out.
	odd bool
}

// A change is a queue.Change on its way to the database.
type change struct {
	given *queue.Change
	// out is the job as it was handed out, or nil if it was not, or not under this lease.
	out *handed
	// row is what is written, unless the job is removed.
	row     row
	removed bool
	gone    bool   // the job was not there
	from    string // where the job was to go
}

// prepare checks the lease, and takes the jobs back. A second Update for one of them has to look into the database.
func (t *update) prepare(s *Store) (writes bool, err error) {
	if t.dest, err = s.leases.lessee(t.lease); err != nil {
		return false, err
	}
	t.l = t.dest.lease
	for i := range t.changes {
		c := &t.changes[i]
		id := c.given.Job.ID
		c.out = t.l.out[id]
		if c.out == nil || c.out.updating {
			c.out, t.odd = nil, true
			continue
		}
		c.out.updating = true
	}
	for _, a := range t.reports {
		_, _ = a.prepare(s) // it cannot fail
	}
	return len(t.changes) > 0, nil
}

func (t *update) write(b *batch) error {
	if t.odd {
		b.lockEditing()
	}
	for _, a := range t.reports {
		if err := a.write(b); err != nil {
			return err
		}
	}
	for i := range t.changes {
		if err := t.changes[i].write(b, t.lease.Destination); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) write(b *batch, destination string) error {
	id := c.given.Job.ID
	c.gone, c.removed, c.from = false, len(c.given.Job.To) == 0, destination
	if c.out != nil && !c.out.edited {
		c.row.arrived = c.out.arrived
		switch {
		case !c.removed:
			b.replace(&c.row)
		case c.out.sole:
			b.removeSole(id, c.out)
		default:
			b.remove(id)
		}
		return nil
	}
	stored, ok, err := b.stored(id)
	if err != nil {
		return err
	}
	c.from = stored.destination
	if c.removed && ok {
		b.remove(id)
		return nil
	}
	var job *queue.Job
	if ok {
		job, err = decodeJob(stored.job, id)
	}
	if !ok || err != nil { // one that cannot be read is put aside by the next Take
		c.gone = true
		return nil
	}
	if c.row, err = newRow(c.given.Merge(job), stored.arrived); err != nil {
		return err
	}
	b.replace(&c.row)
	return nil
}

func (t *update) finish(s *Store, err error) {
	for _, a := range t.reports {
		a.finish(s, err)
	}
	for i := range t.changes {
		c := &t.changes[i]
		id := c.given.Job.ID
		if c.out != nil {
			c.out.updating = false
		}
		if err != nil {
			continue // what was handed out still is
		}
		if c.out != nil {
			delete(t.l.out, id)
			delete(t.l.moved, id)
			delete(s.leases.moved, id)
		}
		t.l.settle(id)
		if !c.gone {
			s.changed(c)
		}
	}
}

// changed takes note of what a change has made of a job.
func (s *Store) changed(c *change) {
	from := s.leases.destination(c.from)
	from.jobs--
	if c.removed {
		s.recent.remove(c.given.Job.ID.Message)
	} else {
		s.leases.destination(c.row.destination).jobs++
		s.leases.waits(&c.row)
	}
	s.leases.settle(from)
}
