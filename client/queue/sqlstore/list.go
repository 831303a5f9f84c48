package sqlstore

import (
	"context"
	"database/sql"
	"math"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
)

const (
	pageRows = 500 // how many jobs are read, and edited, at once
	// fewJobs is how many jobs of a destination are read and sorted rather than looked for among all.
	fewJobs = 20000
)

// List returns jobs. See [queue.Store]. It looks at all jobs unless the filter has IDs, Job or Destination.
func (s *Store) List(
	ctx context.Context, f queue.Filter, after queue.JobID, max int,
) ([]queue.Listed, queue.JobID, error) {
	if err := s.isOpen(); err != nil {
		return nil, queue.JobID{}, err
	}
	var jobs []queue.Listed
	for p := s.newPage(f, after, min(max+1, pageRows)); ; {
		rows, err := p.read(ctx, s.db.QueryContext)
		if err != nil {
			return nil, queue.JobID{}, reading(err)
		}
		for _, r := range rows {
			if len(jobs) == max {
				if max == 0 {
					return nil, queue.JobID{}, nil
				}
				return jobs, jobs[max-1].Job.ID, nil
			}
			jobs = append(jobs, queue.Listed{Message: r.message, Job: r.job})
		}
		if !p.more {
			return jobs, queue.JobID{}, nil
		}
	}
}

// A page reads jobs that match a filter, some at a time, in the order of their IDs.
type page struct {
	f     queue.Filter
	ids   []queue.ID // of f, sorted
	few   bool       // there are few jobs of the destination
	after queue.JobID
	limit int
	more  bool
}

func (s *Store) newPage(f queue.Filter, after queue.JobID, limit int) *page {
	p := &page{f: f, after: after, limit: limit, more: true}
	p.ids = slices.Clone(f.IDs)
	slices.Sort(p.ids)
	p.ids = slices.Compact(p.ids)
	if f.Destination != "" {
		s.mu.Lock()
		d := s.leases.destinations[f.Destination]
		p.few = d == nil || d.jobs < fewJobs
		s.mu.Unlock()
	}
	return p
}

// A listed is a job that was read.
type listed struct {
	job     *queue.Job
	message *queue.Message
	arrived int64
	damaged bool // the job cannot be read, and is what is known of it
}

type queryFunc func(ctx context.Context, query string, args ...any) (*sql.Rows, error)

// read reads the next ones. It sets p.more to false if there are no others.
func (p *page) read(ctx context.Context, query queryFunc) (found []listed, err error) {
	if p.f.IDs != nil && len(p.ids) == 0 {
		p.more = false
		return nil, nil
	}
	text, args, lastID := p.query()
	rows, err := query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	n := 0
	var r listedRow
	for ; rows.Next(); n++ {
		err := rows.Scan(&p.after.Message, &p.after.N, &r.destination, &r.lane, &r.due, &r.alarm, &r.arrived, &r.job,
			&r.tag, &r.size, &r.message)
		if err != nil {
			return nil, err
		}
		r.id = p.after
		l := r.decode()
		if p.f.Match(l.message, l.job) {
			found = append(found, l)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if n < p.limit {
		p.more = lastID != "" && len(p.ids) > 0
		p.after = queue.JobID{Message: lastID, N: math.MaxInt32}
	}
	return found, nil
}

// query returns the statement for the next ones. If it is for some of the IDs only, last is the last of them.
func (p *page) query() (text string, args []any, last queue.ID) {
	var b strings.Builder
	from := "queue_job"
	if p.few && p.f.IDs == nil && p.f.Job == nil {
		from = `(SELECT * FROM queue_job WHERE destination = ? AND state = 0
			UNION ALL SELECT * FROM queue_job WHERE destination = ? AND state <> 0)`
		args = append(args, p.f.Destination, p.f.Destination)
	}
	b.WriteString(`SELECT j.message, j.n, j.destination, j.lane, j.due, j.alarm, j.arrived, j.job, m.tag, m.size, m.message
		FROM ` + from + " j JOIN queue_message m ON m.id = j.message WHERE (j.message, j.n) > (?, ?)")
	args = append(args, string(p.after.Message), int64(p.after.N))
	where := func(condition string, arg any) {
		b.WriteString(" AND " + condition)
		args = append(args, arg)
	}
	if p.f.IDs != nil {
		i, _ := slices.BinarySearch(p.ids, p.after.Message)
		some := p.ids[i:min(len(p.ids), i+pageRows)]
		b.WriteString(" AND j.message IN (''" + strings.Repeat(", ?", len(some)) + ")")
		for _, id := range some {
			args = append(args, string(id))
		}
		if i+pageRows < len(p.ids) {
			last = some[len(some)-1]
		}
	}
	if p.f.Job != nil {
		where("j.message = ?", string(p.f.Job.Message))
		where("j.n = ?", int64(p.f.Job.N))
	}
	if p.f.Destination != "" {
		where("j.destination = ?", p.f.Destination)
	}
	if p.f.Tag != "" {
		where("m.tag = ?", p.f.Tag)
	}
	if p.f.State != nil {
		if *p.f.State == queue.Held {
			b.WriteString(" AND j.state IN (1, 3)")
		} else {
			b.WriteString(" AND j.state NOT IN (1, 3)")
		}
	}
	if !p.f.Before.IsZero() {
		where("j.arrived <= ?", floor(p.f.Before))
	}
	if !p.f.After.IsZero() {
		where("j.arrived >= ?", floor(p.f.After))
	}
	b.WriteString(" ORDER BY j.message, j.n LIMIT ?")
	return b.String(), append(args, int64(p.limit)), last
}

// Shape counts what is queued, by destination and age. See [queue.Store]. It looks at all jobs.
func (s *Store) Shape(ctx context.Context, now time.Time) ([]queue.Shape, error) {
	if err := s.isOpen(); err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("SELECT destination, count(*), sum(state IN (1, 3)), sum(recipients), min(arrived)")
	var args []any
	for _, age := range queue.ShapeAges {
		b.WriteString(", sum(arrived > ?)")
		args = append(args, floor(now.Add(-age)))
	}
	b.WriteString(" FROM queue_job GROUP BY destination ORDER BY destination")
	rows, err := s.db.QueryContext(ctx, b.String(), args...)
	if err != nil {
		return nil, reading(err)
	}
	defer rows.Close()
	var shapes []queue.Shape
	for rows.Next() {
		var sh queue.Shape
		var oldest int64
		into := []any{&sh.Destination, &sh.Jobs, &sh.Held, &sh.Recipients, &oldest}
		for i := range queue.ShapeAges {
			into = append(into, &sh.Ages[i])
		}
		if err := rows.Scan(into...); err != nil {
			return nil, reading(err)
		}
		sh.Ages[len(queue.ShapeAges)] = sh.Jobs
		for i := len(queue.ShapeAges); i > 0; i-- {
			sh.Ages[i] -= sh.Ages[i-1]
		}
		sh.Oldest = time.UnixMicro(oldest).UTC()
		shapes = append(shapes, sh)
	}
	return shapes, reading(rows.Err())
}
