// Package bucket bounds how often many may do something, in a table that is bounded itself: networks that connect,
// users who send.
package bucket

import (
	"slices"
	"sync"
	"time"
)

const (
	// CrowdShare is how many times the limit of one key holds for all those together that find no place in a Table.
	CrowdShare = 10
	// MaxLimits is how many limits a Table can have.
	MaxLimits = 3
	// swept is how many keys are looked at when another one comes, to find those that have nothing spent any more.
	swept = 8
)

// A Limit is how many tokens a bucket has. All can be spent at once; then they come back evenly, all of them in a
// window of time. Without tokens there is no limit.
type Limit struct {
	Tokens int
	Window time.Duration
}

// A Table has a token bucket for each key and each limit. Make one with New. Its methods may be called concurrently.
//
// The number of keys is bounded. A key leaves only when all its buckets are full again, which is how they begin. So
// whoever makes up keys, and fills the table, forgets nothing of what one of them has spent. While there is no place,
// new keys share buckets, which are CrowdShare times as large.
type Table[K comparable] struct {
	clock  func() time.Duration // the time since some instant
	most   int                  // how many keys have a place
	limits [MaxLimits]rate

	mu    sync.Mutex // guards what follows
	at    map[K]int
	list  []entry[K]
	hand  int // the place in list that is looked at next
	crowd buckets
}

// A rate is a Limit at work. Its zero value is none.
type rate struct {
	every  time.Duration // how long it takes for a token to come back
	window time.Duration // how long it takes for all of them
}

// An entry is a key and what it has spent.
type entry[K comparable] struct {
	key K
	buckets
}

// The buckets of a key. Each is the time at which it will be full again; it is full if that is over.
type buckets [MaxLimits]time.Duration

// New returns a table in which most keys have buckets of their own. There are at most MaxLimits limits.
func New[K comparable](most int, limits ...Limit) *Table[K] {
	began := time.Now()
	t := &Table[K]{clock: func() time.Duration { return time.Since(began) }, most: most, at: make(map[K]int)}
	for i, l := range limits {
		if l.Tokens > 0 {
			t.limits[i] = rate{max(l.Window/time.Duration(l.Tokens), 1), l.Window}
		}
	}
	return t
}

// Len returns how many keys have buckets of their own now.
func (t *Table[K]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.list)
}

// Take spends a token of the key for the limit with an index. It reports false if there is none.
func (t *Table[K]) Take(key K, limit int) bool { return t.spend(key, limit, false) }

// Charge spends a token of the key, and owes it if there is none. Then it reports false. It is for what shows only
// afterwards: whoever does many of these things at a time has to wait the longer for the next token.
func (t *Table[K]) Charge(key K, limit int) bool { return t.spend(key, limit, true) }

func (t *Table[K]) spend(key K, limit int, owes bool) bool {
	r := t.limits[limit]
	if r.every == 0 {
		return true
	}
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	b, every := t.enter(key, now, r.every)
	full := max(b[limit], now) + every
	ok := full-now <= r.window
	if ok || owes {
		b[limit] = full
	}
	return ok
}

// Count spends a token of the key if there is one, and returns how many are spent now: at most all. Without a limit it
// returns 0.
func (t *Table[K]) Count(key K, limit int) int {
	r := t.limits[limit]
	if r.every == 0 {
		return 0
	}
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	b, every := t.enter(key, now, r.every)
	b[limit] = min(max(b[limit], now)+every, now+r.window)
	return int((b[limit] - now + r.every - 1) / r.every)
}

// Has reports whether the key has a token.
func (t *Table[K]) Has(key K, limit int) bool {
	r := t.limits[limit]
	if r.every == 0 {
		return true
	}
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	b, every := &t.crowd, max(r.every/CrowdShare, 1)
	if i, ok := t.at[key]; ok {
		b, every = &t.list[i].buckets, r.every
	} else if len(t.list) < t.most {
		return true // it would have buckets of its own
	}
	return max(b[limit], now)+every-now <= r.window
}

// enter returns the buckets of the key, and how long it takes there for a token to come back. A key without buckets
// gets some, unless the table is full.
func (t *Table[K]) enter(key K, now, every time.Duration) (*buckets, time.Duration) {
	if i, ok := t.at[key]; ok {
		return &t.list[i].buckets, every
	}
	t.sweep(now)
	if len(t.list) >= t.most {
		return &t.crowd, max(every/CrowdShare, 1)
	}
	t.at[key] = len(t.list)
	t.list = append(t.list, entry[K]{key: key})
	return &t.list[len(t.list)-1].buckets, every
}

// sweep forgets keys whose buckets are full.
func (t *Table[K]) sweep(now time.Duration) {
	for range min(swept, len(t.list)) {
		if t.hand >= len(t.list) {
			t.hand = 0
		}
		e := &t.list[t.hand]
		if slices.Max(e.buckets[:]) > now {
			t.hand++
			continue
		}
		delete(t.at, e.key)
		last := len(t.list) - 1
		if t.hand != last {
			*e = t.list[last]
			t.at[e.key] = t.hand
		}
		t.list = t.list[:last]
	}
}
