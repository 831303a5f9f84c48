package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/queuetest"
	"smtpkit.example/smtp/proto"
)

// TestMemoryClosed tests what is left after Close.
func TestMemoryClosed(t *testing.T) {
	ctx := context.Background()
	m := queue.NewMemory()
	now := time.Now()
	id := queue.NewID(now)
	to, err := proto.ParseAddress("a@b.example")
	if err != nil {
		t.Fatal(err)
	}
	job := &queue.Job{ID: queue.JobID{Message: id}, Destination: "b.example", Due: now, Alarm: now.Add(time.Hour),
		To: []queue.Recipient{{Recipient: proto.Recipient{Address: to}}}}
	e := &queue.Entry{Message: &queue.Message{ID: id, Arrived: now}, Jobs: []*queue.Job{job},
		Content: strings.NewReader("content")}
	if err := m.Add(ctx, e); err != nil {
		t.Fatal(err)
	}
	leases, _, err := m.Claim(ctx, now, 1)
	if err != nil || len(leases) != 1 {
		t.Fatalf("Claim returned %v, %v", leases, err)
	}
	content, err := m.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, content.Size())
	if _, err := content.ReadAt(got, 0); err != nil || string(got) != "content" {
		t.Errorf("the content is %q, %v", got, err)
	}
	if _, err := m.Take(ctx, leases[0], queue.Query{Now: now, Max: 1}); err == nil || errors.Is(err, queue.ErrLease) {
		t.Errorf("Take after Close: %v", err)
	}
	if err := m.Add(ctx, e); err == nil {
		t.Error("Add after Close succeeds")
	}
}

// TestMemory runs the tests for a Store.
func TestMemory(t *testing.T) {
	open := func(*testing.T) queue.Store { return queue.NewMemory() }
	queuetest.TestStore(t, open, &queuetest.Options{
		Reopen: func(t *testing.T, s queue.Store) queue.Store {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			return s.(*queue.Memory).Reopen()
		},
		Looked: func(s queue.Store) int64 { return s.(*queue.Memory).Looked() },
	})
}
