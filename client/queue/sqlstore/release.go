package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// Release ends a lease. See [queue.Store].
func (s *Store) Release(ctx context.Context, l queue.Lease, notBefore time.Time) error {
	t := &release{lease: l}
	if !notBefore.IsZero() {
		t.notBefore = ceil(notBefore)
	}
	return s.w.do(ctx, &request{task: t})
}

// release is the task of Release. It is the writer's, so that it comes after all Updates that were called before, and
// sees all that is written.
type release struct {
	lease     queue.Lease
	notBefore int64
	dest      *destination
	moved     map[queue.JobID]*handed
}

func (t *release) prepare(s *Store) (writes bool, err error) {
	if t.dest, err = s.leases.lessee(t.lease); err != nil {
		return false, err
	}
	t.moved = t.dest.lease.moved
	return len(t.moved) > 0, nil
}

// write has those jobs wait that were handed out, and rerouted meanwhile.
func (t *release) write(b *batch) error {
	for id := range t.moved {
		err := b.w.exec("UPDATE queue_job SET state = 0 WHERE message = ? AND n = ? AND state = 2",
			string(id.Message), int64(id.N))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *release) finish(*Store, error) {}

// after ends the lease: what was handed out waits, and the destination is woken for the first of what waits.
func (t *release) after(w *writer) error {
	for _, h := range t.moved {
		if err := w.reckon(h.moved); err != nil {
			return err
		}
	}
	var due, alarm int64 = never, never
	if t.dest.jobs > 0 {
		var err error
		if due, alarm, err = w.earliest(t.dest.name); err != nil {
			return err
		}
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.leases.lessee(t.lease)
	if err != nil {
		return err
	}
	for id := range t.moved {
		delete(s.leases.moved, id)
	}
	d.due, d.alarm, d.notBefore, d.lease = due, alarm, t.notBefore, nil
	s.leases.settle(d)
	return nil
}

// reckon finds out when a destination is to be woken after its jobs were changed, and what is to be taken.
func (w *writer) reckon(name string) error {
	due, alarm, err := w.earliest(name)
	if err != nil {
		return err
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.leases.destination(name)
	d.due, d.alarm, d.notBefore = due, alarm, 0
	if l := d.lease; l != nil {
		l.rewind()
	}
	s.leases.settle(d)
	return nil
}

// selectEarliest reads the earliest Due of the jobs of a destination in each lane that are not held, and their earliest
// Alarm.
var selectEarliest = "SELECT " +
	strings.Repeat("(SELECT min(due) FROM queue_job WHERE destination = ? AND state = 0 AND lane = ?), ", queue.Lanes) +
	"(SELECT min(alarm) FROM queue_job WHERE destination = ? AND state = 0)"

// earliest reads the times of selectEarliest, of each lane and of alarms; never if there is no job.
func earliest(st *sql.Stmt, destination string) (times [queue.Lanes + 1]int64, err error) {
	var found [queue.Lanes + 1]sql.NullInt64
	var args, into []any
	for lane := range queue.Lanes {
		args, into = append(args, destination, lane), append(into, &found[lane])
	}
	args, into = append(args, destination), append(into, &found[alarms])
	err = st.QueryRow(args...).Scan(into...)
	for i, t := range found {
		if times[i] = never; t.Valid {
			times[i] = t.Int64
		}
	}
	return times, err
}

// earliest reads the earliest Due and Alarm of the jobs of a destination that are not held.
func (w *writer) earliest(name string) (due, alarm int64, err error) {
	st, err := w.statement(selectEarliest)
	if err != nil {
		return 0, 0, err
	}
	times, err := earliest(st, name)
	return slices.Min(times[:alarms]), times[alarms], err
}
