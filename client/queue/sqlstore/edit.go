package sqlstore

import (
	"context"

	"smtpkit.example/smtp/client/queue"
)

// Edit changes jobs. See [queue.Store]. It writes some hundred jobs in a transaction, so others get their turn; if it
// fails, those before are changed already.
func (s *Store) Edit(ctx context.Context, f queue.Filter, e queue.Edit) (n int, err error) {
	p := s.newPage(f, queue.JobID{}, pageRows)
	for p.more {
		t := &edit{s: s, edit: e, page: p}
		if err := s.w.do(ctx, &request{task: t, durable: true, alone: true}); err != nil {
			return n, err
		}
		n += len(t.edited)
	}
	return n, nil
}

// edit is a task of Edit: some of the jobs.
type edit struct {
	s      *Store
	edit   queue.Edit
	page   *page
	edited []edited
}

// An edited is a job that is edited.
type edited struct {
	from string
	row  row
	keep bool
	out  *handed // if it is handed out
}

func (t *edit) prepare(*Store) (bool, error) { return true, nil }

func (t *edit) write(b *batch) error {
	b.lockEditing()
	p := *t.page
	rows, err := p.read(context.Background(), b.w.conn.QueryContext)
	if err != nil {
		return err
	}
	t.edited = t.edited[:0]
	for _, l := range rows {
		if l.damaged && t.edit.Op != queue.Drop {
			continue
		}
		t.s.mu.Lock()
		ed := edited{from: l.job.Destination, out: t.s.leases.outOf(l)}
		t.s.mu.Unlock()
		id := l.job.ID
		if ed.keep = t.edit.Apply(l.job); !ed.keep {
			ed.row.id = id
			b.remove(id)
		} else {
			if ed.row, err = newRow(l.job, l.arrived); err != nil {
				return err
			}
			if ed.row.state == waiting && ed.out != nil && ed.out.lease.destination != ed.row.destination {
				ed.row.state = moved
			}
			b.replace(&ed.row)
		}
		t.edited = append(t.edited, ed)
	}
	*t.page = p
	return nil
}

// outOf returns the job that was read as it is handed out, or nil.
func (ls *leases) outOf(l listed) *handed {
	if h := ls.moved[l.job.ID]; h != nil {
		return h
	}
	if d := ls.destinations[l.job.Destination]; d != nil && d.lease != nil {
		return d.lease.out[l.job.ID]
	}
	return nil
}

func (t *edit) finish(s *Store, err error) {
	if err != nil {
		t.edited = nil
		return
	}
	for i := range t.edited {
		ed := &t.edited[i]
		s.leases.destination(ed.from).jobs--
		if ed.keep {
			s.leases.destination(ed.row.destination).jobs++
		} else {
			s.recent.remove(ed.row.id.Message)
		}
		if ed.out != nil {
			ed.out.edited = true
			s.leases.move(ed)
		}
	}
}

// move remembers, or forgets, that a job that is handed out is to go elsewhere.
func (ls *leases) move(ed *edited) {
	id, h := ed.row.id, ed.out
	delete(ls.moved, id)
	delete(h.lease.moved, id)
	if !ed.keep || ed.row.destination == h.lease.destination {
		return
	}
	h.moved = ed.row.destination
	ls.moved[id] = h
	if h.lease.moved == nil {
		h.lease.moved = map[queue.JobID]*handed{}
	}
	h.lease.moved[id] = h
}

// after finds out anew when the destinations are to be woken.
func (t *edit) after(w *writer) error {
	done := map[string]bool{}
	for i := range t.edited {
		for _, name := range []string{t.edited[i].from, t.edited[i].row.destination} {
			if name == "" || done[name] {
				continue
			}
			done[name] = true
			if err := w.reckon(name); err != nil {
				return err
			}
		}
	}
	return nil
}
