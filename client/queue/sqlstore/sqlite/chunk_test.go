package sqlite

import (
	"bytes"
	"testing"

	"smtpkit.example/smtp/client/queue"
)

// TestChunksRemoved finishes messages of several chunks, which must leave nothing in the database: one that was handed
// out when it was added, and one that was taken.
func TestChunksRemoved(t *testing.T) {
	_, name := newDisk(t)
	s, db := openOn(t, name, t.TempDir())
	defer s.Close()
	ctx := t.Context()
	l, _, err := s.ClaimOne(ctx, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		t.Helper()
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM queue_chunk").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const chunks = 10
	for _, epoch := range []int64{l.Epoch, 0} {
		e := newEntry("example.com", bytes.Repeat([]byte("x"), 3000*chunks), epoch)
		if err := s.Add(ctx, e); err != nil {
			t.Fatal(err)
		}
		jobs := e.Jobs
		if epoch == 0 {
			if jobs, err = s.Take(ctx, l, queue.Query{All: true, Max: 2}); err != nil || len(jobs) != 1 {
				t.Fatal(jobs, err)
			}
		}
		if n := count(); n != chunks {
			t.Errorf("%d chunks are in the database, want %d", n, chunks)
		}
		done := *jobs[0]
		done.To = nil
		if err := s.Update(ctx, l, []queue.Change{{Job: &done}}); err != nil {
			t.Fatal(err)
		}
		// Chunks are removed one by one, in turn with what others want.
		for range chunks + 1 {
			if err := s.Suspend(ctx, queue.Suspension{Site: "other.example"}); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(); n != 0 {
			t.Errorf("%d chunks are left of a message that is done", n)
		}
	}
}
