package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// A batch is what one transaction does. Rows are collected, and written by few statements: flush.
type batch struct {
	w *writer
	// careful looks for messages before they are added.
	careful bool
	// editing says that Store.editing is locked until the batch is over.
	editing bool

	messages, jobs, changed []any // arguments of the statements below
	gone                    []any
	emptied                 []any // messages that may have no jobs any more
	finished                []any // messages that have none

	usage  map[string]queue.Usage // by how much that of each tag changes
	bodies []int64                // whose messages are removed
}

// reset forgets all. It keeps the memory of the arguments.
func (b *batch) reset(careful bool) *batch {
	for _, args := range []*[]any{&b.messages, &b.jobs, &b.changed, &b.gone, &b.emptied, &b.finished} {
		clear(*args)
		*args = (*args)[:0]
	}
	b.careful, b.editing, b.usage, b.bodies = careful, false, nil, nil
	return b
}

// A many is a statement for any number of rows.
type many struct {
	head, row, tail string
	columns         int
	texts           [maxRows]string
}

// maxRows is the number of rows of the largest statement. The numbers of rows are powers of two.
const maxRows = 7

// A statement that fails is followed by a rollback of all. With OR FAIL, SQLite does not prepare to undo it alone.
var (
	insertMessages = newMany("INSERT OR FAIL INTO queue_message (id, tag, size, body, message, content) VALUES ", 6, "")
	insertJobs     = newMany("INSERT OR FAIL INTO queue_job "+jobColumns+" VALUES ", 10, "")
	replaceJobs    = newMany("INSERT INTO queue_job "+jobColumns+" VALUES ", 10, ` ON CONFLICT (message, n) DO UPDATE SET
		destination = excluded.destination, lane = excluded.lane, due = excluded.due, alarm = excluded.alarm,
		state = excluded.state, recipients = excluded.recipients, job = excluded.job`)
	deleteJobs     = newMany("DELETE FROM queue_job WHERE (message, n) IN (VALUES ", 2, ")")
	deleteMessages = newMany("DELETE FROM queue_message WHERE id IN (", 1, `)
		AND NOT EXISTS (SELECT 1 FROM queue_job WHERE queue_job.message = queue_message.id) RETURNING tag, size, body`)
	deleteFinished = newMany("DELETE FROM queue_message WHERE id IN (", 1, ")")
)

const jobColumns = "(message, n, destination, lane, due, alarm, state, arrived, recipients, job)"

func newMany(head string, columns int, tail string) *many {
	row := "(" + strings.Repeat("?, ", columns-1) + "?)"
	if columns == 1 {
		row = "?"
	}
	m := &many{head: head, row: row, tail: tail, columns: columns}
	for i := range m.texts {
		m.texts[i] = head + strings.Repeat(row+", ", 1<<i-1) + row + tail
	}
	return m
}

// each calls f for statements that together have all rows.
func (m *many) each(args []any, f func(query string, args []any) error) error {
	for i := maxRows - 1; len(args) > 0; {
		n := m.columns << i
		if len(args) < n {
			i--
			continue
		}
		if err := f(m.texts[i], args[:n]); err != nil {
			return err
		}
		args = args[n:]
	}
	return nil
}

// add adds a message with its jobs.
func (b *batch) add(a *addition) {
	var body any
	if a.body != 0 {
		body = a.body
	}
	b.messages = append(b.messages, string(a.id), a.tag, a.size, body, string(a.message), a.content)
	for i := range a.rows {
		b.jobs = a.rows[i].appendTo(b.jobs)
	}
	b.count(a.tag, 1, a.size)
}

// replace writes a job that is there already.
func (b *batch) replace(r *row) { b.changed = r.appendTo(b.changed) }

// remove removes a job, and its message if it has no other.
func (b *batch) remove(id queue.JobID) {
	b.gone = append(b.gone, string(id.Message), int64(id.N))
	b.emptied = append(b.emptied, string(id.Message))
}

// removeSole removes the only job of a message, and the message.
func (b *batch) removeSole(id queue.JobID, h *handed) {
	b.gone = append(b.gone, string(id.Message), int64(id.N))
	b.finished = append(b.finished, string(id.Message))
	b.count(h.tag, -1, -h.size)
}

// lockEditing has no Take under way until the batch is over.
func (b *batch) lockEditing() {
	if !b.editing {
		b.editing = true
		b.w.s.editing.Lock()
	}
}

// has reports whether there is a message.
func (b *batch) has(id queue.ID) (bool, error) {
	st, err := b.w.statement("SELECT count(*) FROM queue_message WHERE id = ?")
	if err != nil {
		return false, err
	}
	n := 0
	err = st.QueryRow(string(id)).Scan(&n)
	return n > 0, err
}

// flush writes what was collected.
func (b *batch) flush() error {
	exec := func(query string, args []any) error { return b.w.exec(query, args...) }
	for _, step := range []struct {
		statement *many
		args      *[]any
		do        func(string, []any) error
	}{
		{insertMessages, &b.messages, exec},
		{insertJobs, &b.jobs, exec},
		{replaceJobs, &b.changed, exec},
		{deleteJobs, &b.gone, exec},
		{deleteMessages, &b.emptied, b.removeMessages},
		{deleteFinished, &b.finished, exec},
	} {
		if err := step.statement.each(*step.args, step.do); err != nil {
			return err
		}
		clear(*step.args)
		*step.args = (*step.args)[:0]
	}
	return nil
}

func (b *batch) removeMessages(query string, args []any) error {
	st, err := b.w.statement(query)
	if err != nil {
		return err
	}
	rows, err := st.Query(args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var tag string
		var size int64
		var body sql.NullInt64
		if err := rows.Scan(&tag, &size, &body); err != nil {
			return err
		}
		b.count(tag, -1, -size)
		if body.Valid {
			b.bodies = append(b.bodies, body.Int64)
		}
	}
	return rows.Err()
}

func (b *batch) count(tag string, messages, octets int64) {
	if b.usage == nil {
		b.usage = map[string]queue.Usage{}
	}
	b.usage[tag] = sum(b.usage[tag], queue.Usage{Messages: messages, Octets: octets})
}

// writeUsage brings queue_usage up to date, so that nothing is counted when the queue is opened.
func (b *batch) writeUsage() error {
	for tag, change := range b.usage {
		if change == (queue.Usage{}) {
			continue
		}
		b.w.s.mu.Lock()
		u := sum(b.w.s.usage.of[tag], change)
		b.w.s.mu.Unlock()
		var err error
		if u.Messages == 0 {
			err = b.w.exec("DELETE FROM queue_usage WHERE tag = ?", tag)
		} else {
			err = b.w.exec(`INSERT INTO queue_usage (tag, messages, octets) VALUES (?, ?, ?)
				ON CONFLICT (tag) DO UPDATE SET messages = excluded.messages, octets = excluded.octets`,
				tag, u.Messages, u.Octets)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// account takes note of what the batch has made of the usage.
func (b *batch) account() {
	b.w.s.mu.Lock()
	defer b.w.s.mu.Unlock()
	for tag, change := range b.usage {
		b.w.s.usage.add(tag, change)
	}
}

// A row is a row of queue_job.
type row struct {
	id          queue.JobID
	destination string
	lane        queue.Lane
	due, alarm  int64
	state       int64
	arrived     int64
	recipients  int
	job         []byte
}

// newRow makes the row of a job of a message that arrived at a time.
func newRow(j *queue.Job, arrived int64) (row, error) {
	c := *j
	c.Epoch = 0
	text, err := c.MarshalJSON()
	if err != nil {
		return row{}, fmt.Errorf("smtp: encoding the job %v: %w", j.ID, err)
	}
	r := row{
		id: j.ID, destination: j.Destination, lane: j.Lane, due: ceil(j.Due), alarm: ceil(j.Alarm),
		arrived: arrived, recipients: len(j.To), job: text,
	}
	if j.State == queue.Held {
		r.state = held
	}
	return r, nil
}

func (r *row) appendTo(args []any) []any {
	return append(args, string(r.id.Message), int64(r.id.N), r.destination, int64(r.lane), r.due, r.alarm, r.state,
		r.arrived, int64(r.recipients), string(r.job))
}

// A stored is a row of queue_job as it is in the database.
type stored struct {
	destination string
	arrived     int64
	job         []byte
}

// stored reads a job as it is now, with all that was added to the batch. It reports false if there is none.
func (b *batch) stored(id queue.JobID) (s stored, ok bool, err error) {
	if err := b.flush(); err != nil {
		return s, false, err
	}
	st, err := b.w.statement("SELECT destination, arrived, job FROM queue_job WHERE message = ? AND n = ?")
	if err != nil {
		return s, false, err
	}
	err = st.QueryRow(string(id.Message), int64(id.N)).Scan(&s.destination, &s.arrived, &s.job)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	return s, err == nil, err
}

// Times are stored in microseconds since 1970. They are rounded up, so that nothing is done before its time.
func ceil(t time.Time) int64 { return floor(t.Add(time.Microsecond - 1)) }

func floor(t time.Time) int64 { return t.UnixMicro() }
