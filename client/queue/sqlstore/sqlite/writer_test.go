package sqlite

import (
	"context"
	"errors"
	"sync"
	"testing"

	"smtpkit.example/smtp/client/queue"
)

// TestSyncs counts the syncs of the log: one for each message that is added, and none for an outcome.
func TestSyncs(t *testing.T) {
	d, name := newDisk(t)
	s, _ := openOn(t, name, t.TempDir())
	defer s.Close()
	l, _, err := s.ClaimOne(t.Context(), "example.com")
	if err != nil {
		t.Fatal(err)
	}
	syncs := func(do func() error) (n int) {
		t.Helper()
		before := len(d.events())
		if err := do(); err != nil {
			t.Fatal(err)
		}
		for _, e := range d.events()[before:] {
			if e.op == synced && e.file == "queue.db-wal" {
				n++
			}
		}
		return n
	}
	for i := range 3 {
		e := newEntry("example.com", []byte("x"), l.Epoch)
		if n := syncs(func() error { return s.Add(t.Context(), e) }); n != 1 {
			t.Errorf("Add %d has synced %d times", i, n)
		}
		done := *e.Jobs[0]
		done.To = nil
		update := func() error { return s.Update(t.Context(), l, []queue.Change{{Job: &done}}) }
		if n := syncs(update); n != 0 {
			t.Errorf("Update %d has synced %d times", i, n)
		}
	}
}

// A watched context tells when somebody waits for its end.
type watched struct {
	context.Context
	once  sync.Once
	waits chan struct{}
}

func (w *watched) Done() <-chan struct{} {
	w.once.Do(func() { close(w.waits) })
	return w.Context.Done()
}

// TestWithdraw ends the context of an Add that waits for another one to be written.
func TestWithdraw(t *testing.T) {
	d, name := newDisk(t)
	s, _ := openOn(t, name, t.TempDir())
	defer s.Close()
	writes, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.setFail(func(op operation, _ string) error {
		if op == written {
			once.Do(func() {
				close(writes)
				<-goOn
			})
		}
		return nil
	})
	first := newEntry("example.com", []byte("first"), 0)
	added := make(chan error)
	go func() { added <- s.Add(t.Context(), first) }()
	<-writes
	ctx, cancel := context.WithCancel(t.Context())
	second := &watched{Context: ctx, waits: make(chan struct{})}
	withdrawn := make(chan error)
	go func() { withdrawn <- s.Add(second, newEntry("example.com", []byte("second"), 0)) }()
	<-second.waits
	cancel()
	if err := <-withdrawn; !errors.Is(err, context.Canceled) {
		t.Errorf("Add whose context has ended: %v", err)
	}
	close(goOn)
	if err := <-added; err != nil {
		t.Error(err)
	}
	if err := s.Suspend(t.Context(), queue.Suspension{Site: "other.example"}); err != nil { // it is written later
		t.Error(err)
	}
	wantQueued(t, s, first)
}
