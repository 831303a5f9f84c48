package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/sqlstore"
)

// TestPowerLoss adds and finishes messages on a disk that records, and loses power at many points of the record. After
// each, in each way to lose what was not synced, the queue opens, has what was durable, and nothing else that is
// broken. With SMTPKIT_EVERY_POINT set, it does so at each point.
func TestPowerLoss(t *testing.T) {
	d, name := newDisk(t)
	dir := t.TempDir()
	s, db := openOn(t, name, dir)
	contents := load(t, d, s, db)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log := d.log
	points := 120
	if testing.Short() {
		points = 30
	}
	if os.Getenv("SMTPKIT_EVERY_POINT") != "" {
		points = len(log)
	}
	chance := rand.New(rand.NewPCG(1, 2))
	t.Logf("%d events", len(log))
	// The tables are made before anything is promised: points before the first message say little.
	first := 0
	for log[first].op != addBegins {
		first++
	}
	for i := range points {
		n := first + (len(log)-first)*i/points + chance.IntN(max(1, (len(log)-first)/points))
		for how := range losses {
			t.Run(fmt.Sprintf("%d/%d", n, how), func(t *testing.T) {
				dir := t.TempDir()
				image(t, log[:n], how, chance, dir)
				s, _ := openOn(t, name, dir)
				defer s.Close()
				check(t, s, log[:n], contents)
			})
			d.log = d.log[:len(log)]
		}
	}
}

// openOn opens a queue on a disk, with contents of several chunks.
func openOn(t *testing.T, vfs, dir string) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db, err := driver.Open(source(filepath.Join(dir, "queue.db"), "&vfs="+vfs))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlstore.Open(context.Background(), db, sqlstore.SQLite, &sqlstore.Options{ChunkSize: 3000})
	if err != nil {
		_ = db.Close()
		t.Fatal(err)
	}
	return s, db
}

// load uses a queue from several goroutines, and returns the contents of the messages.
func load(t *testing.T, d *disk, s *sqlstore.Store, db *sql.DB) map[queue.ID][]byte {
	ctx := t.Context()
	contents := map[queue.ID][]byte{}
	var mu sync.Mutex
	l, _, err := s.ClaimOne(ctx, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 12 {
				content := bytes.Repeat([]byte{byte('a' + i)}, 100+(g*12+i)*170)
				e := newEntry("example.com", content, l.Epoch)
				mu.Lock()
				contents[e.Message.ID] = content
				mu.Unlock()
				d.record(event{op: addBegins, id: e.Message.ID})
				if err := s.Add(ctx, e); err != nil {
					t.Error(err)
				}
				d.record(event{op: added, id: e.Message.ID})
				if i%3 == 2 {
					continue
				}
				j := *e.Jobs[0]
				j.To, j.Attempts = nil, 1
				d.record(event{op: doneBegins, id: e.Message.ID})
				if err := s.Update(ctx, l, []queue.Change{{Job: &j}}); err != nil {
					t.Error(err)
				}
				d.record(event{op: done, id: e.Message.ID})
				if i%4 == g {
					if _, err := db.ExecContext(ctx, "PRAGMA wal_checkpoint(RESTART)"); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	return contents
}

// check compares a queue with what was promised before the power was lost.
func check(t *testing.T, s *sqlstore.Store, log []event, contents map[queue.ID][]byte) {
	ctx := context.Background()
	listed, _, err := s.List(ctx, queue.Filter{}, queue.JobID{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	have := map[queue.ID]bool{}
	var usage queue.Usage
	for _, l := range listed {
		id := l.Message.ID
		have[id] = true
		usage.Messages++
		usage.Octets += l.Message.Size
		c, err := s.Open(ctx, id)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil || !bytes.Equal(got, contents[id]) {
			t.Errorf("%s has %d octets, want %d: %v", id, len(got), len(contents[id]), err)
		}
		_ = c.Close()
	}
	if u, err := s.Usage(ctx, "", true); err != nil || u != usage {
		t.Errorf("Usage is %v, want %v: %v", u, usage, err)
	}
	mayBeDone := map[queue.ID]bool{}
	for _, e := range log {
		if e.op == doneBegins {
			mayBeDone[e.id] = true
		}
	}
	for i, e := range log {
		switch {
		case e.op == added && !have[e.id] && !mayBeDone[e.id]:
			t.Errorf("%s was added, and is lost", e.id)
		case e.op == done && have[e.id] && durableAfter(log[i:]):
			t.Errorf("%s is done, and has come back", e.id)
		}
	}
	e := newEntry("other.example", []byte("x"), 0)
	if err := s.Add(ctx, e); err != nil {
		t.Error(err)
	}
	leases, _, err := s.Claim(ctx, time.Now().Add(time.Hour), 10)
	if want := min(1, len(listed)) + 1; err != nil || len(leases) != want {
		t.Errorf("Claim returned %v, want %d leases: %v", leases, want, err)
	}
}

// durableAfter reports whether a message was added that Add was called for in a log.
func durableAfter(log []event) bool {
	begun := map[queue.ID]bool{}
	for _, e := range log {
		switch {
		case e.op == addBegins:
			begun[e.id] = true
		case e.op == added && begun[e.id]:
			return true
		}
	}
	return false
}
