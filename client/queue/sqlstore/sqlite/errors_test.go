package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	_ "github.com/ncruces/go-sqlite3/vfs/memdb" // a database in memory, with a name

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/sqlstore"
)

// TestInUse opens a queue that is open, and again when it is closed.
func TestInUse(t *testing.T) {
	for driver, open := range drivers {
		t.Run(driver, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "queue.db")
			s, err := open(t, file, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := open(t, file, nil); !errors.Is(err, queue.ErrInUse) {
				t.Errorf("Open of a queue that is open: %v", err)
			}
			if err := s.Add(t.Context(), newEntry("example.com", []byte("x"), 0)); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := open(t, file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOpenRefuses opens what cannot be a queue. The error says what to do.
func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue.db")
	s, err := Open(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db := database(t, "file:"+file)
	if _, err := db.Exec("UPDATE queue_meta SET version = version + 1"); err != nil {
		t.Fatal(err)
	}
	one := database(t, "file:"+file)
	one.SetMaxOpenConns(2)
	fresh := "file:" + filepath.Join(t.TempDir(), "queue.db")
	for _, test := range []struct {
		db      *sql.DB
		dialect sqlstore.Dialect
		opt     *sqlstore.Options
		want    string
	}{
		{db, sqlstore.SQLite, nil, "they have version 2, and this program knows version 1"},
		{database(t, "file:/memory?vfs=memdb"), sqlstore.SQLite, nil, "journal_mode"},
		{database(t, ":memory:"), sqlstore.SQLite, nil, "give the driver the name of a file"},
		{one, sqlstore.SQLite, nil, "SetMaxOpenConns"},
		{database(t, fresh), 0, nil, "use sqlstore.SQLite"},
		{database(t, fresh), sqlstore.SQLite, &sqlstore.Options{ChunkSize: 1<<20 + 1}, "from 1 to 1048576"},
	} {
		s, err := sqlstore.Open(t.Context(), test.db, test.dialect, test.opt)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open: %v, want %q", err, test.want)
			if err == nil {
				_ = s.Close()
			}
		}
	}
	if _, err := db.Exec("UPDATE queue_meta SET version = version - 1"); err != nil {
		t.Fatal(err)
	}
	s, err = sqlstore.Open(t.Context(), db, sqlstore.SQLite, nil)
	if err != nil {
		t.Fatalf("after an Open that failed: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func database(t *testing.T, name string) *sql.DB {
	t.Helper()
	db, err := driver.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestDiskFull fills the disk while several goroutines add messages. Their errors are temporary, and nothing is lost.
func TestDiskFull(t *testing.T) {
	d, name := newDisk(t)
	s, _ := openOn(t, name, t.TempDir())
	defer s.Close()
	ctx := t.Context()
	before := newEntry("example.com", []byte("before"), 0)
	if err := s.Add(ctx, before); err != nil {
		t.Fatal(err)
	}
	d.setFail(func(op operation, file string) error {
		if op == written && file == "queue.db-wal" {
			return syscall.ENOSPC
		}
		return nil
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := s.Add(ctx, newEntry("example.com", []byte("full"), 0))
			var temporary interface{ Temporary() bool }
			if !errors.As(err, &temporary) || !temporary.Temporary() {
				t.Errorf("Add with a full disk: %v", err)
			}
		})
	}
	wg.Wait()
	d.setFail(nil)
	after := newEntry("example.com", []byte("after"), 0)
	if err := s.Add(ctx, after); err != nil {
		t.Fatal(err)
	}
	wantQueued(t, s, before, after)
}

// TestSyncFails has a sync fail. The store takes nothing more, since it is not known what is on the disk; what was
// added before is there when it is opened again.
func TestSyncFails(t *testing.T) {
	for _, failure := range []error{sqlite3.IOERR_FSYNC, sqlite3.PERM} {
		t.Run(failure.Error(), func(t *testing.T) { testSyncFails(t, failure) })
	}
}

func testSyncFails(t *testing.T, failure error) {
	d, name := newDisk(t)
	dir := t.TempDir()
	s, _ := openOn(t, name, dir)
	ctx := t.Context()
	before := newEntry("example.com", []byte("before"), 0)
	if err := s.Add(ctx, before); err != nil {
		t.Fatal(err)
	}
	d.setFail(func(op operation, file string) error {
		if op == synced {
			return failure
		}
		return nil
	})
	failed := newEntry("example.com", []byte("fails"), 0)
	for range 2 {
		err := s.Add(ctx, failed)
		var temporary interface{ Temporary() bool }
		if err == nil || errors.As(err, &temporary) && temporary.Temporary() ||
			!strings.Contains(err.Error(), "open it again") {
			t.Errorf("Add with a sync that fails: %v", err)
		}
		d.setFail(nil) // a sync that works does not bring back what is lost
	}
	if leases, _, err := s.Claim(ctx, before.Message.Arrived, 1); err == nil && len(leases) == 1 {
		if _, err := s.Take(ctx, leases[0], queue.Query{All: true, Max: 1}); err == nil {
			t.Error("Take from a store that has failed has no error")
		}
	}
	if err := s.Close(); err != nil {
		t.Logf("Close: %v", err)
	}
	s, _ = openOn(t, name, dir)
	defer s.Close()
	listed, _, err := s.List(ctx, queue.Filter{}, queue.JobID{}, 10)
	if err != nil || len(listed) == 0 || listed[0].Message.ID != before.Message.ID {
		t.Errorf("List returned %v, %v", listed, err)
	}
}

// wantQueued fails the test if other messages are queued, or their content is missing.
func wantQueued(t *testing.T, s *sqlstore.Store, entries ...*queue.Entry) {
	t.Helper()
	listed, _, err := s.List(context.Background(), queue.Filter{}, queue.JobID{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	have := map[queue.ID]bool{}
	for _, l := range listed {
		have[l.Message.ID] = true
	}
	for _, e := range entries {
		if !have[e.Message.ID] {
			t.Errorf("%s is missing", e.Message.ID)
		}
	}
	if len(listed) != len(entries) {
		t.Errorf("%d messages are queued, want %d", len(listed), len(entries))
	}
	if u, err := s.Usage(context.Background(), "", true); err != nil || u.Messages != int64(len(entries)) {
		t.Errorf("Usage is %v, %v", u, err)
	}
}

// TestSameTransaction adds a message that is there already together with others, which are not hurt.
func TestSameTransaction(t *testing.T) {
	_, name := newDisk(t)
	s, _ := openOn(t, name, t.TempDir())
	defer s.Close()
	entries := []*queue.Entry{newEntry("example.com", []byte("first"), 0)}
	if err := s.Add(t.Context(), entries[0]); err != nil {
		t.Fatal(err)
	}
	for range 15 {
		entries = append(entries, newEntry("example.com", []byte("other"), 0))
	}
	var wg sync.WaitGroup
	for _, e := range append(entries, entries[0], entries[1]) {
		wg.Go(func() {
			again := *e
			again.Content = strings.NewReader("other")
			m := *e.Message
			again.Message = &m
			if err := s.Add(t.Context(), &again); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantQueued(t, s, entries...)
}
