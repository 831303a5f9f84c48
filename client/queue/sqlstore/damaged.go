package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// What cannot be read stays in the database, and does not get in the way: a job is put aside when Take comes across it.
// List shows it as held, with the reason, and Drop removes it. Whatever else is done to it has no effect, so that it
// can be repaired. A message that cannot be read is that of jobs which are attempted in vain.

// putAside has a job that cannot be read not be found by Take again. It returns at once, as the writer may wait for the
// Take that calls it. If nothing comes of it, Take finds the job again under the next lease.
func (s *Store) putAside(id queue.JobID, why error) {
	s.w.post(&request{task: &aside{id: id, why: why, logger: s.logger}})
}

// aside is the task of putAside.
type aside struct {
	id     queue.JobID
	why    error
	logger *slog.Logger
	done   bool
}

func (t *aside) prepare(*Store) (bool, error) { return true, nil }

func (t *aside) write(b *batch) error {
	st, err := b.w.statement("UPDATE queue_job SET state = 3 WHERE message = ? AND n = ? AND state = 0")
	if err != nil {
		return err
	}
	result, err := st.Exec(string(t.id.Message), int64(t.id.N))
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	t.done = n > 0
	return err
}

func (t *aside) finish(*Store, error) {}

func (t *aside) after(*writer) error {
	if t.done {
		t.logger.Error("smtp: a job in the queue is damaged, and was put aside", "job", t.id.String(), "damage", t.why)
	}
	return nil
}

// A listedRow is a row that List has read.
type listedRow struct {
	id                  queue.JobID
	destination, tag    string
	lane                queue.Lane
	due, alarm, arrived int64
	size                int64
	job, message        sql.RawBytes
}

// decode decodes the row. Of what cannot be read it returns what the columns have.
func (r *listedRow) decode() listed {
	l := listed{arrived: r.arrived}
	var err error
	if l.job, err = decodeJob(r.job, r.id); err != nil {
		l.damaged = true
		l.job = &queue.Job{
			ID: r.id, Destination: r.destination, State: queue.Held, Why: err.Error(), Lane: r.lane, Due: at(r.due),
			Alarm: at(r.alarm), Expires: at(r.alarm),
		}
	}
	if l.message, err = decodeMessage(r.message, r.id.Message); err != nil {
		l.message = &queue.Message{ID: r.id.Message, Arrived: at(r.arrived), Tag: r.tag, Size: r.size}
	}
	return l
}

// decodeJob decodes the job of a row.
func decodeJob(text []byte, id queue.JobID) (*queue.Job, error) {
	j := new(queue.Job)
	err := j.UnmarshalJSON(text)
	if err == nil && (j.ID != id || len(j.To) == 0) {
		err = errors.New("it is another job, or has no recipients")
	}
	if err != nil {
		return nil, fmt.Errorf("smtp: a job in the database cannot be read: %w", err)
	}
	return j, nil
}

// decodeMessage decodes the message of a row.
func decodeMessage(text []byte, id queue.ID) (*queue.Message, error) {
	m := new(queue.Message)
	err := m.UnmarshalJSON(text)
	if err == nil && m.ID != id {
		err = errors.New("it is another message")
	}
	if err != nil {
		return nil, fmt.Errorf("smtp: a message in the database cannot be read: %w", err)
	}
	return m, nil
}

// at is the inverse of floor.
func at(t int64) time.Time { return time.UnixMicro(t).UTC() }
