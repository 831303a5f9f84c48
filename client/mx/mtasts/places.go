package mtasts

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// A places bounds how many do something at the same time. Where all places are taken, the one who has had his for
// longest loses it to the next one, once that was for patience. Package ext/dns has the same, which is its own.
type places struct {
	most     int
	patience time.Duration
	freed    chan struct{} // has an element if a place may have become free; its size is 1

	mu    sync.Mutex
	taken list.List // of *place, the one taken first in front
}

// A place is one of them.
type place struct {
	since   time.Time
	lose    func()
	element *list.Element // nil once it is lost or given back
}

// newPlaces returns so many places.
func newPlaces(most int, patience time.Duration) *places {
	return &places{most: most, patience: patience, freed: make(chan struct{}, 1)}
}

// tryTake returns a place, or nil and for how long to wait before the next attempt. It calls lose when another one gets
// the place; lose must not block.
func (p *places) tryTake(lose func()) (*place, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.taken.Len() >= p.most {
		first := p.taken.Front().Value.(*place)
		if wait := p.patience - now.Sub(first.since); wait > 0 {
			return nil, wait
		}
		p.remove(first)
		first.lose()
	}
	own := &place{since: now, lose: lose}
	own.element = p.taken.PushBack(own)
	return own, 0
}

// take waits for a place. The error is that of ctx.
func (p *places) take(ctx context.Context, lose func()) (*place, error) {
	for first := true; ; first = false {
		own, wait := p.tryTake(lose)
		if own != nil {
			return own, nil
		}
		if first {
			defer p.pass()
		}
		if err := p.await(ctx, wait); err != nil {
			return nil, err
		}
	}
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

// pass wakes up the next one who waits, if there is a place. Who was woken up may have found that he needs none.
func (p *places) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell()
}

func (p *places) tell() {
	if p.taken.Len() >= p.most {
		return
	}
	select {
	case p.freed <- struct{}{}:
	default:
	}
}
