// Package queuetest tests implementations of [queue.Store]: TestStore has a test for each promise in the comments
// there.
//
//	func TestStore(t *testing.T) {
//		queuetest.TestStore(t, func(t *testing.T) queue.Store { return mystore.New(t.TempDir()) }, nil)
//	}
//
// Run it with -race. It does not stop the process or the disk, so it does not show that a store is durable: what it can
// show of that is in the test Reopen.
package queuetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// Options say what else TestStore can do with a store. Nil stands for the defaults.
type Options struct {
	// Reopen closes a store that Open has returned, and opens it again with all that it had. If it is nil, what outlives
	// a store is not tested. It is called while nothing else uses the store.
	Reopen func(t *testing.T, s queue.Store) queue.Store
	// Looked returns how many jobs, rows or files the store has looked at since it was made. If it is nil, the tests
	// that nothing is scanned count allocations of memory instead.
	Looked func(s queue.Store) int64
	// Seeds is the number of rounds of the test Random, which are subtests of that name and number. The default is 20,
	// and 5 with -short.
	Seeds int
	// Jobs is how many jobs wait for one destination in the test Scale. The default is 20,000, and 2,000 with -short.
	Jobs int
}

// TestStore tests a store in subtests. Each calls open for a new and empty store, and closes it. A subtest has the name
// of what it is about, so -run 'TestStore/Update' runs those about Update. Clocks: the times given to the store are
// within seconds of the time of day while a destination is leased, so leases may end by the clock after a minute.
func TestStore(t *testing.T, open func(t *testing.T) queue.Store, opt *Options) {
	var o Options
	if opt != nil {
		o = *opt
	}
	if o.Seeds == 0 {
		o.Seeds = 20
		if testing.Short() {
			o.Seeds = 5
		}
	}
	if o.Jobs == 0 {
		o.Jobs = 20_000
		if testing.Short() {
			o.Jobs = 2000
		}
	}
	for _, tests := range [][]test{contentTests, claimTests, takeTests, updateTests, releaseTests, editTests, listTests,
		wholeTests} {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) { begin(t, open, o).run(test.f) })
		}
	}
	for i := range o.Seeds {
		t.Run(fmt.Sprintf("Random%d", i), func(t *testing.T) { begin(t, open, o).random(uint64(i)) })
	}
}

// A test is a subtest of TestStore.
type test struct {
	name string
	f    func(s *suite)
}

// A suite is a test under way: a store, and the time that it is told.
type suite struct {
	*testing.T
	Options
	ctx   context.Context
	store queue.Store
	// now has whole milliseconds. Each message of mail arrives a millisecond after the one before.
	now, arrived time.Time
	source       *rand.ChaCha8 // of content
}

func begin(t *testing.T, open func(t *testing.T) queue.Store, o Options) *suite {
	now := time.Now().UTC().Truncate(time.Millisecond)
	s := &suite{T: t, Options: o, ctx: t.Context(), store: open(t), now: now, arrived: now.Add(-time.Minute),
		source: rand.NewChaCha8([32]byte{})}
	// Not a defer, so that the store is closed when a test has failed too.
	t.Cleanup(func() {
		if err := s.store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func (s *suite) run(f func(s *suite)) { f(s) }

// reopen closes and opens the store. It skips the rest of the test if that cannot be done.
func (s *suite) reopen() {
	s.Helper()
	if s.Reopen == nil {
		s.Skip("Options.Reopen is not set")
	}
	s.store = s.Reopen(s.T, s.store)
}

// must fails the test if err is not nil.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}
