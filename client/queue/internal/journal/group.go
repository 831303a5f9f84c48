package journal

import (
	"runtime"
	"sync"
)

// A Group has many goroutines share a sync. Each notes that it has written something, and waits until a sync has begun
// after that and has ended. One of those who wait makes it; the syncs follow each other without a pause while anybody
// waits. A sync that fails is final: the operating system may have forgotten what it could not write, and a later one
// would tell nothing of it.
//
// Sync is set before the first use. Methods may be called concurrently.
type Group struct {
	// Sync makes durable all that was noted before it is called.
	Sync func() error

	mu      sync.Mutex
	ended   sync.Cond // a sync has ended; its L is mu
	noted   uint64
	synced  uint64
	syncing bool
	err     error
}

// Note notes that something was written. The number is for Wait.
func (g *Group) Note() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noted++
	return g.noted
}

// Wait returns when all is durable that was noted up to a number. After a sync that has failed it returns its error,
// whatever the number.
func (g *Group) Wait(number uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended.L == nil {
		g.ended.L = &g.mu
	}
	for g.err == nil && g.synced < number {
		if g.syncing {
			g.ended.Wait()
			continue
		}
		g.syncing = true
		g.mu.Unlock()
		// Those who are about to note something come along.
		runtime.Gosched()
		g.mu.Lock()
		upTo := g.noted
		g.mu.Unlock()
		err := g.Sync()
		g.mu.Lock()
		g.syncing = false
		if err != nil {
			g.err = err
		} else {
			g.synced = upTo
		}
		g.ended.Broadcast()
	}
	return g.err
}

// WaitAll returns when all is durable that was noted before.
func (g *Group) WaitAll() error {
	g.mu.Lock()
	noted := g.noted
	g.mu.Unlock()
	return g.Wait(noted)
}

// Fail notes that a sync has failed that was not made by Wait.
func (g *Group) Fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
}

// Failed returns the error of a sync that has failed.
func (g *Group) Failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Clean reports whether there is nothing to sync.
func (g *Group) Clean() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.noted == g.synced
}
