package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
)

// TestLogOrder looks at what is written, and synced, for transactions that are synced and that are not, while SQLite
// moves pages from the log to the database every now and then.
func TestLogOrder(t *testing.T) {
	d, name := newDisk(t)
	db, err := driver.Open(source(filepath.Join(t.TempDir(), "queue.db"), "&vfs="+name))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := t.Context()
	c, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := c.ExecContext(ctx, query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("PRAGMA journal_mode = wal")
	exec("PRAGMA synchronous = full")
	exec("PRAGMA wal_autocheckpoint = 20")
	exec("CREATE TABLE t (n INTEGER PRIMARY KEY, data BLOB)")
	var answer string
	for _, mode := range []string{"normal", "full"} {
		if err := c.QueryRowContext(ctx, "PRAGMA queue_sync = "+mode).Scan(&answer); err != nil || answer != mode {
			t.Fatalf("queue_sync = %s: %q, %v", mode, answer, err)
		}
		for range 60 {
			before := len(d.log)
			exec("INSERT INTO t (data) VALUES (?)", bytes.Repeat([]byte("x"), 9000))
			wantWritten(t, d.log[before:], mode)
		}
	}
	wantInOrder(t, d.log)
	if _, err := c.ExecContext(ctx, "PRAGMA queue_sync = off"); err == nil {
		t.Error("queue_sync = off has no error")
	}
}

// wantWritten fails the test unless a transaction was written by one call, or two if it began with a header, and was
// synced if it had to be.
func wantWritten(t *testing.T, log []event, mode string) {
	t.Helper()
	checkpoint := slices.IndexFunc(log, func(e event) bool { return e.file == "queue.db" })
	if checkpoint >= 0 {
		log = log[:checkpoint]
	}
	var writes, syncs int
	header := false
	for _, e := range log {
		switch {
		case e.op == written:
			writes++
			header = header || e.off == 0
		case e.op == synced:
			syncs++
		}
	}
	if header {
		writes--
		syncs--
	}
	if checkpoint >= 0 && mode == "normal" {
		syncs--
	}
	want := 0
	if mode == "full" {
		want = 1
	}
	if writes != 1 || syncs < want || mode == "normal" && syncs > 0 {
		t.Errorf("%s: %d writes and %d syncs for a transaction", mode, writes, syncs)
	}
}

// wantInOrder fails the test unless the log is synced before each write to the database, and its header before what
// follows; and the database before the log begins again.
func wantInOrder(t *testing.T, log []event) {
	t.Helper()
	unsynced := map[string]bool{}
	header, checkpoints, idle := false, 0, 0
	for i, e := range log {
		switch {
		case e.op == synced:
			if e.file == "queue.db-wal" {
				idle++
			}
			if idle > 3 {
				t.Fatalf("event %d syncs what is synced", i)
			}
			unsynced[e.file] = false
			header = header && e.file != "queue.db-wal"
			continue
		case e.op != written || e.file != "queue.db" && e.file != "queue.db-wal":
			continue
		case header:
			t.Fatalf("event %d comes before the header of the log is synced", i)
		case e.file == "queue.db" && unsynced["queue.db-wal"]:
			t.Fatalf("event %d writes to the database before the log is synced", i)
		case e.file == "queue.db-wal" && e.off == 0:
			if unsynced["queue.db"] {
				t.Fatalf("event %d begins a log before the database is synced", i)
			}
			header = true
			checkpoints++
		}
		unsynced[e.file] = true
		if e.file == "queue.db-wal" {
			idle = 0
		}
	}
	if checkpoints < 5 {
		t.Errorf("the log has begun %d times only", checkpoints)
	}
}

// TestLogRead reads what a transaction has written that does not fit into memory, after it is rolled back, and before
// and after it is committed.
func TestLogRead(t *testing.T) {
	db, err := driver.Open(source(filepath.Join(t.TempDir(), "queue.db"), "&vfs="+vfsName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exec := func(query string) {
		t.Helper()
		if _, err := c.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int, query func(context.Context, string, ...any) *sql.Row) {
		t.Helper()
		got := 0
		err := query(t.Context(), "SELECT coalesce(sum(n * (data = zeroblob(3000))), 0) FROM t").Scan(&got)
		if err != nil || got != n {
			t.Errorf("the sum is %d, want %d: %v", got, n, err)
		}
	}
	exec("PRAGMA journal_mode = wal")
	exec("PRAGMA synchronous = full")
	exec("PRAGMA cache_size = 10")
	exec("CREATE TABLE t (n INTEGER PRIMARY KEY, data BLOB)")
	exec("PRAGMA queue_sync = normal")
	const many = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 1000) " +
		"INSERT INTO t SELECT n, zeroblob(3000) FROM i"
	exec("BEGIN")
	exec(many)
	exec("ROLLBACK")
	want(0, c.QueryRowContext)
	want(0, db.QueryRowContext)
	exec("BEGIN")
	exec(many)
	want(500500, c.QueryRowContext)
	want(0, db.QueryRowContext)
	exec("COMMIT")
	want(500500, c.QueryRowContext)
	want(500500, db.QueryRowContext)
}

// TestLogFile uses a log as any file may be used.
func TestLogFile(t *testing.T) {
	f := new(vfsutil.SliceFile)
	l := &log{file: &file{File: f}, main: &file{mode: normal}}
	page := bytes.Repeat([]byte("x"), 4096)
	write := func(off int64) {
		t.Helper()
		if n, err := l.WriteAt(page, off); n != len(page) || err != nil {
			t.Fatal(n, err)
		}
	}
	inFile := func() int { return len(*f) }
	write(0)
	write(4096)
	if inFile() != 0 {
		t.Error("nothing is collected")
	}
	if n, err := l.Size(); n != 8192 || err != nil {
		t.Errorf("Size: %d, %v", n, err)
	}
	write(8192)
	if err := l.Truncate(4096); err != nil {
		t.Error(err)
	}
	if n, err := l.Size(); n != 4096 || err != nil {
		t.Errorf("Size after the file was cut at 4096: %d, %v", n, err)
	}
	for off := int64(4096); off < 2*maxPages; off += 4096 {
		write(off)
	}
	if inFile() < maxPages {
		t.Errorf("only %d of %d octets are written", inFile(), 2*maxPages)
	}
}
