package sqlite

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"smtpkit.example/smtp/client/queue"
)

// TestRecent reads messages that were handed out when they were added, more than are kept in memory.
func TestRecent(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, filepath.Join(t.TempDir(), "queue.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, _, err := s.ClaimOne(ctx, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	var entries []*queue.Entry
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 60_000+i*50) }
	const n = 160 // more than 8 MiB, and some of more than 64 KiB
	for i := range n {
		given := content(i)
		e := newEntry("example.com", given, l.Epoch)
		if err := s.Add(ctx, e); err != nil {
			t.Fatal(err)
		}
		clear(given) // it belongs to the caller again
		entries = append(entries, e)
	}
	var open queue.Content
	for i, e := range entries {
		id := e.Message.ID
		m, err := s.Message(ctx, id)
		if err != nil || m.ID != id || m.Size != int64(60_000+i*50) || m.From != sender {
			t.Errorf("Message %d returned %v, %v", i, m, err)
		}
		c, err := s.Open(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size())); err != nil || !bytes.Equal(got, content(i)) {
			t.Errorf("the content of message %d is another one: %v", i, err)
		}
		open = c
	}
	for _, e := range entries {
		j := *e.Jobs[0]
		j.To = nil
		if err := s.Update(ctx, l, []queue.Change{{Job: &j}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(ctx, e.Message.ID); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("Open of a message that is done: %v", err)
		}
		if _, err := s.Message(ctx, e.Message.ID); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("Message of a message that is done: %v", err)
		}
	}
	if got, err := io.ReadAll(io.NewSectionReader(open, 0, open.Size())); err != nil || !bytes.Equal(got, content(n-1)) {
		t.Errorf("an open content is not the same when its message is removed: %v", err)
	}
}
