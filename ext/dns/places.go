package dns

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// patience is for how long nobody loses a place to another one.
const patience = time.Second

// Places bounds how many do something at the same time. Where all places are taken, the one who has had his for longest
// loses it to the next one, once that was for patience. So those who get no answer do not keep others from asking.
type places struct {
	max   int
	freed chan struct{} // has an element if a place may have become free; its size is 1

	mu    sync.Mutex
	taken list.List // of *place, the one taken first in front
}

// A place is one of them.
type place struct {
	since   time.Time
	lose    func() // called when another one gets it; it must not block
	element *list.Element
}

func newPlaces(most int) *places { return &places{max: most, freed: make(chan struct{}, 1)} }

// take returns a place, or for how long to wait before the next attempt.
func (p *places) take(lose func()) (*place, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.taken.Len() >= p.max {
		first := p.taken.Front().Value.(*place)
		if wait := patience - now.Sub(first.since); wait > 0 {
			return nil, wait
		}
		p.remove(first)
		first.lose()
	}
	own := &place{since: now, lose: lose}
	own.element = p.taken.PushBack(own)
	return own, 0
}

// give gives a place back, unless it is lost.
func (p *places) give(own *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own.element != nil {
		p.remove(own)
		p.tell()
	}
}

func (p *places) remove(own *place) {
	p.taken.Remove(own.element)
	own.element = nil
}

// pass wakes up the next one, if there is a place. It is for those who have waited: they may need no place any more.
func (p *places) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell()
}

// tell wakes up one who waits, if there is a place.
func (p *places) tell() {
	if p.taken.Len() >= p.max {
		return
	}
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// await waits for a while, or until a place may be free. It returns the error of ctx. The caller calls pass once he has
// a place or needs none.
func (p *places) await(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.freed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
