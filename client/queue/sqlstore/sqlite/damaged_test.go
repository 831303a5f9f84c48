package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/sqlstore"
)

// A patient is a queue whose rows are damaged.
type patient struct {
	*testing.T
	file string
	*sqlstore.Store
	db  *sql.DB
	log bytes.Buffer
}

func newPatient(t *testing.T) *patient {
	p := &patient{T: t, file: filepath.Join(t.TempDir(), "queue.db")}
	p.open()
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func (p *patient) open() {
	p.Helper()
	var err error
	if p.db, err = driver.Open(source(p.file, "")); err != nil {
		p.Fatal(err)
	}
	opt := &sqlstore.Options{Logger: slog.New(slog.NewTextHandler(&p.log, nil))}
	if p.Store, err = sqlstore.Open(p.Context(), p.db, sqlstore.SQLite, opt); err != nil {
		p.Fatal(err)
	}
}

// add adds a message to example.com.
func (p *patient) add() queue.JobID {
	p.Helper()
	e := newEntry("example.com", []byte("content"), 0)
	if err := p.Add(p.Context(), e); err != nil {
		p.Fatal(err)
	}
	return e.Jobs[0].ID
}

// exec changes rows behind the back of the store.
func (p *patient) exec(query string, args ...any) {
	p.Helper()
	result, err := p.db.ExecContext(p.Context(), query, args...)
	if err != nil {
		p.Fatal(err)
	}
	if n, err := result.RowsAffected(); n != 1 || err != nil {
		p.Fatalf("%s changed %d rows: %v", query, n, err)
	}
}

func (p *patient) lease() queue.Lease {
	p.Helper()
	l, ok, err := p.ClaimOne(p.Context(), "example.com")
	if err != nil || !ok {
		p.Fatal(ok, err)
	}
	return l
}

// wantTaken takes all jobs, and fails the test if there are others than these.
func (p *patient) wantTaken(l queue.Lease, want ...queue.JobID) []*queue.Job {
	p.Helper()
	jobs, err := p.Take(p.Context(), l, queue.Query{All: true, Max: 10})
	if err != nil {
		p.Fatal(err)
	}
	have := map[queue.JobID]bool{}
	for _, j := range jobs {
		have[j.ID] = true
	}
	for _, id := range want {
		if !have[id] {
			p.Errorf("Take has not returned %v", id)
		}
	}
	if len(jobs) != len(want) {
		p.Errorf("Take has returned %d jobs, want %d", len(jobs), len(want))
	}
	return jobs
}

func (p *patient) list(f queue.Filter) []queue.Listed {
	p.Helper()
	listed, _, err := p.List(p.Context(), f, queue.JobID{}, 10)
	if err != nil {
		p.Fatal(err)
	}
	return listed
}

func (p *patient) edit(id queue.JobID, op queue.Op) int {
	p.Helper()
	n, err := p.Edit(p.Context(), queue.Filter{Job: &id}, queue.Edit{Op: op, At: time.Now(), Destination: "other.example"})
	if err != nil {
		p.Fatal(err)
	}
	return n
}

// wantMessages fails the test unless this many messages are queued.
func (p *patient) wantMessages(want int64) {
	p.Helper()
	if u, err := p.Usage(p.Context(), "", true); err != nil || u.Messages != want {
		p.Errorf("Usage is %v, want %d messages: %v", u, want, err)
	}
}

// TestDamagedJob damages jobs in each way that a row can be. The others go on.
func TestDamagedJob(t *testing.T) {
	const another = `{"id":"04g6f3qv9i0000000000.0","to":[{"address":"a@example.org"}]}`
	for _, text := range []string{"{", "", "{}", `{"id":"ID"}`, another} {
		t.Run(text, func(t *testing.T) {
			p := newPatient(t)
			first, bad, last := p.add(), p.add(), p.add()
			text := strings.ReplaceAll(text, "ID", bad.String())
			p.exec("UPDATE queue_job SET job = ? WHERE message = ?", text, string(bad.Message))
			l := p.lease()
			p.wantTaken(l, first, last)
			p.wantTaken(l)
			if err := p.Release(p.Context(), l, time.Time{}); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(p.log.String(), bad.String()); n != 1 {
				t.Errorf("the log has the job %d times:\n%s", n, &p.log)
			}
			p.wantMessages(3)
			p.wantShown(bad)
			for op := queue.Hold; op < queue.Drop; op++ {
				if n := p.edit(bad, op); n != 0 {
					t.Errorf("Edit %d has changed %d jobs", op, n)
				}
			}
			p.wantTaken(p.lease(), first, last)
			if n := p.edit(bad, queue.Drop); n != 1 {
				t.Errorf("Drop has removed %d jobs", n)
			}
			p.wantMessages(2)
			if n := len(p.list(queue.Filter{})); n != 2 {
				t.Errorf("List has %d jobs", n)
			}
			if _, err := p.Open(p.Context(), bad.Message); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("Open of a message that was dropped: %v", err)
			}
		})
	}
}

// wantShown fails the test unless a damaged job is shown as held, and does not wake its destination.
func (p *patient) wantShown(bad queue.JobID) {
	p.Helper()
	state := queue.Held
	listed := p.list(queue.Filter{State: &state})
	if len(listed) != 1 {
		p.Fatalf("%d jobs are held", len(listed))
	}
	j, m := listed[0].Job, listed[0].Message
	if j.ID != bad || j.Destination != "example.com" || !strings.Contains(j.Why, "cannot be read") || m.From != sender {
		p.Errorf("List has %+v of %+v", j, m)
	}
	state = queue.Queued
	if n := len(p.list(queue.Filter{State: &state})); n != 2 {
		p.Errorf("%d jobs are queued", n)
	}
	shapes, err := p.Shape(p.Context(), time.Now())
	if err != nil || len(shapes) != 1 || shapes[0].Jobs != 3 || shapes[0].Held != 1 {
		p.Errorf("Shape is %+v, %v", shapes, err)
	}
}

// TestDamagedAlone damages the only job of a destination, which is not woken any more, and repairs it.
func TestDamagedAlone(t *testing.T) {
	p := newPatient(t)
	bad := p.add()
	var text string
	if err := p.db.QueryRowContext(t.Context(), "SELECT job FROM queue_job").Scan(&text); err != nil {
		t.Fatal(err)
	}
	p.exec("UPDATE queue_job SET job = 'x' || job")
	l := p.lease()
	p.wantTaken(l)
	if err := p.Release(t.Context(), l, time.Time{}); err != nil {
		t.Fatal(err)
	}
	leases, next, err := p.Claim(t.Context(), time.Now().Add(24*time.Hour), 1)
	if len(leases) != 0 || !next.IsZero() || err != nil {
		t.Errorf("Claim returned %v, %v, %v", leases, next, err)
	}
	p.exec("UPDATE queue_job SET job = ?", text)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p.open()
	p.wantTaken(p.lease(), bad)
}

// TestDamagedMeanwhile damages jobs that are handed out and have been edited. One that is done is removed, and what
// comes of another one is forgotten.
func TestDamagedMeanwhile(t *testing.T) {
	p := newPatient(t)
	done, failed := p.add(), p.add()
	l := p.lease()
	jobs := p.wantTaken(l, done, failed)
	for _, j := range jobs {
		p.edit(j.ID, queue.Hold)
		p.edit(j.ID, queue.Release)
		p.exec("UPDATE queue_job SET job = 'x' WHERE message = ?", string(j.ID.Message))
	}
	for _, j := range jobs {
		if j.ID == done {
			j.To = nil
		}
		j.Attempts++
		if err := p.Update(t.Context(), l, []queue.Change{{Job: j}}); err != nil {
			t.Errorf("Update of a job that was damaged meanwhile: %v", err)
		}
	}
	p.wantMessages(1)
	p.wantTaken(l)
	if listed := p.list(queue.Filter{}); len(listed) != 1 || listed[0].Job.ID != failed {
		t.Errorf("List has %v", listed)
	}
}

// TestDamagedMessage damages a message. Its job can be listed, changed and dropped.
func TestDamagedMessage(t *testing.T) {
	for _, text := range []string{"", "{}"} {
		p := newPatient(t)
		bad := p.add()
		p.exec("UPDATE queue_message SET message = ?", text)
		if m, err := p.Message(t.Context(), bad.Message); err == nil || errors.Is(err, queue.ErrNotFound) {
			t.Errorf("Message returned %v, %v", m, err)
		}
		p.wantTaken(p.lease(), bad)
		if m, err := p.Message(t.Context(), bad.Message); err == nil || errors.Is(err, queue.ErrNotFound) {
			t.Errorf("Message returned %v, %v after Take", m, err)
		}
		listed := p.list(queue.Filter{Tag: "user"})
		if len(listed) != 1 || listed[0].Job.State != queue.Queued || listed[0].Message.Size != 7 ||
			time.Since(listed[0].Message.Arrived) > time.Hour {
			t.Fatalf("List has %v", listed)
		}
		if n := p.edit(bad, queue.Hold) + p.edit(bad, queue.Drop); n != 2 {
			t.Errorf("Edit has changed %d jobs", n)
		}
		p.wantMessages(0)
	}
}
