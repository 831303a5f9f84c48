package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math"

	"smtpkit.example/smtp/client/queue"
)

// What Take reads: jobs in the order of an index, with what is known of their messages. Of a message that is small
// there is all, so that it is not read one by one when it is delivered.
var (
	selectDue    = selectJobs("due", " AND j.lane = ?")
	selectAlarms = selectJobs("alarm", "")
)

// takenLimit is how long a content is at most that is read together with its job.
const takenLimit = 16 << 10

func selectJobs(order, lane string) string {
	return fmt.Sprintf(`SELECT j.message, j.n, j.%[1]s, j.arrived, j.job, coalesce(m.tag, ''), coalesce(m.size, 0),
			m.id IS NOT NULL AND m.body IS NULL
				AND NOT EXISTS (SELECT 1 FROM queue_job o WHERE o.message = j.message AND o.n <> j.n),
			CASE WHEN m.body IS NULL AND m.size <= %[3]d THEN m.message END,
			CASE WHEN m.body IS NULL AND m.size <= %[3]d THEN m.content END
		FROM queue_job j LEFT JOIN queue_message m ON m.id = j.message
		WHERE j.destination = ?%[2]s AND j.state = 0 AND j.%[1]s <= ? AND (j.%[1]s, j.message, j.n) >= (?, ?, ?)
		ORDER BY j.%[1]s, j.message, j.n LIMIT ?`, order, lane, takenLimit)
}

// Take hands out jobs. See [queue.Store]. With AlarmsOnly, those come first whose alarm is the earliest.
//
// It reads on a connection that the writer does not need, and goes on where the last Take under this lease ended.
func (s *Store) Take(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.editing.RLock()
	defer s.editing.RUnlock()
	s.mu.Lock()
	d, err := s.leases.lessee(l)
	if err == nil {
		err = s.broken
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	le := d.lease
	s.mu.Unlock()

	le.take.Lock()
	defer le.take.Unlock()
	if err := s.findFirst(l.Destination, le); err != nil {
		return nil, err
	}
	var jobs []*queue.Job
	for len(jobs) < q.Max {
		more, rest, err := s.takeSome(l, le, &q, q.Max-len(jobs))
		if err != nil {
			if len(jobs) > 0 {
				return jobs, nil // they are handed out; the error comes again
			}
			return nil, err
		}
		jobs = append(jobs, more...)
		if !rest {
			break
		}
	}
	return jobs, nil
}

// findFirst has le go on at the first job of each lane, unless it does already. Most destinations have one job, and so
// seven lanes and the alarms need not be looked at one by one. The caller holds le.take.
func (s *Store) findFirst(destination string, le *lease) error {
	s.mu.Lock()
	if le.found {
		s.mu.Unlock()
		return nil
	}
	le.found, le.taking, le.settled = true, true, nil // rewind may undo it
	for i := range le.again {
		le.again[i] = last
	}
	s.mu.Unlock()

	times, err := earliest(s.read.earliest, destination)

	s.mu.Lock()
	defer s.mu.Unlock()
	le.taking, le.settled = false, nil
	if err != nil {
		le.found = false
		return reading(err)
	}
	for i, at := range times {
		p := place{at: at}
		if le.again[i].before(p) {
			p = le.again[i]
		}
		if le.found && le.from[i].before(p) {
			le.from[i] = p
		}
	}
	return nil
}

// takeSome hands out at most max jobs. Rest says that there may be others.
func (s *Store) takeSome(l queue.Lease, le *lease, q *queue.Query, max int) (jobs []*queue.Job, rest bool, err error) {
	at := int64(math.MaxInt64)
	if !q.All || q.AlarmsOnly {
		at = floor(q.Now)
	}
	lane := int(q.Lane)
	if q.AlarmsOnly {
		lane = alarms
	}
	s.mu.Lock()
	from := le.from[lane]
	if from.at > at {
		s.mu.Unlock()
		return nil, false, nil
	}
	le.taking, le.settled, le.again[lane] = true, nil, last
	limit := max + min(len(le.out), 64)
	s.mu.Unlock()

	rows, err := s.selectRows(l.Destination, lane, at, from, limit)

	s.mu.Lock()
	defer s.mu.Unlock()
	settled := le.settled
	le.taking, le.settled = false, nil
	if err != nil {
		return nil, false, err
	}
	if _, err := s.leases.lessee(l); err != nil {
		return nil, false, err
	}
	for _, r := range rows {
		if len(jobs) == max {
			break
		}
		_, old := settled[r.place.id]
		if r.job != nil && le.out[r.place.id] == nil && !old {
			r.job.Epoch = le.epoch
			jobs = append(jobs, r.job)
			le.out[r.place.id] = &handed{lease: le, arrived: r.arrived, sole: r.sole, tag: r.tag, size: r.size}
			if r.kept != nil {
				s.recent.add(r.kept)
			}
		}
		le.from[lane] = r.place
	}
	if le.again[lane].before(le.from[lane]) {
		le.from[lane] = le.again[lane]
	}
	return jobs, len(rows) == limit, nil
}

// A foundRow is a row that a Take has found.
type foundRow struct {
	place   place
	arrived int64
	job     *queue.Job
	// tag, size and sole are as in handed, and kept is the message if it is small.
	tag  string
	size int64
	sole bool
	kept *kept
}

// selectRows reads rows of waiting jobs, from a place.
//
// A job that cannot be read is nil, and is put aside.
func (s *Store) selectRows(
	destination string, lane int, at int64, from place, limit int,
) (found []foundRow, err error) {
	var rows *sql.Rows
	id, n := string(from.id.Message), int64(from.id.N)
	if lane == alarms {
		rows, err = s.read.alarms.Query(destination, at, from.at, id, n, limit)
	} else {
		rows, err = s.read.due.Query(destination, lane, at, from.at, id, n, limit)
	}
	if err != nil {
		return nil, reading(err)
	}
	defer rows.Close()
	var text, message, content sql.RawBytes
	for rows.Next() {
		found = append(found, foundRow{})
		r := &found[len(found)-1]
		err := rows.Scan(&r.place.id.Message, &r.place.id.N, &r.place.at, &r.arrived, &text, &r.tag, &r.size, &r.sole,
			&message, &content)
		if err != nil {
			return nil, reading(err)
		}
		if r.job, err = decodeJob(text, r.place.id); err != nil {
			s.putAside(r.place.id, err)
		}
		if message != nil {
			r.kept = &kept{r.place.id.Message, bytes.Clone(message), append([]byte{}, content...)}
		}
	}
	return found, reading(rows.Err())
}
