package policy

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// maxKeys is how many keys are counted each by itself by default. They take some 4 MB.
	maxKeys = 1 << 16
	// crowdShare is how many times what one key may spend can be spent by all those together that find no place.
	crowdShare = 10
	// swept is how many keys are looked at when another one comes, to find those that have nothing spent any more.
	swept = 8
)

// A buckets has a token bucket for each key. All of its tokens can be spent at once; then they come back evenly, all
// of them in a window of time.
//
// The number of keys is bounded. A key leaves only when its bucket is full again, which is how a bucket begins: whoever
// makes up keys gains nothing. While there is no place, new keys share one bucket, which is crowdShare times as large.
// Its methods may be called concurrently.
type buckets struct {
	every  time.Duration // how long it takes for a token to come back
	window time.Duration // how long it takes for all
	most   int           // how many keys have a place
	from   time.Time
	seed   maphash.Seed

	mu    sync.Mutex // guards what follows
	at    map[uint64]int
	list  []bucket
	hand  int // the place in list that is looked at next
	crowd bucket
}

// A bucket is that of a key, of which a hash is kept.
type bucket struct {
	key  uint64
	full time.Duration // when it will be full, since from; it is full if that is over
}

// newBuckets returns buckets of n tokens for each of most keys.
func newBuckets(n int, window time.Duration, most int) *buckets {
	return &buckets{every: max(window/time.Duration(n), 1), window: window, most: most, from: time.Now(),
		seed: maphash.MakeSeed(), at: make(map[uint64]int)}
}

// take spends a token of the key. It reports false if there is none.
func (b *buckets) take(key string) bool {
	now := time.Since(b.from)
	b.mu.Lock()
	defer b.mu.Unlock()
	k, every := b.of(key, now)
	full := max(k.full, now) + every
	if full-now > b.window {
		return false
	}
	k.full = full
	return true
}

// count spends a token of the key if there is one, and returns how many are spent: at most all.
func (b *buckets) count(key string) int {
	now := time.Since(b.from)
	b.mu.Lock()
	defer b.mu.Unlock()
	k, every := b.of(key, now)
	k.full = min(max(k.full, now)+every, now+b.window)
	return int((k.full - now + b.every - 1) / b.every)
}

// of returns the bucket of the key, and how long it takes there for a token to come back.
func (b *buckets) of(key string, now time.Duration) (*bucket, time.Duration) {
	hash := maphash.String(b.seed, key)
	if i, ok := b.at[hash]; ok {
		return &b.list[i], b.every
	}
	b.sweep(now)
	if len(b.list) >= b.most {
		return &b.crowd, max(b.every/crowdShare, 1)
	}
	b.at[hash] = len(b.list)
	b.list = append(b.list, bucket{key: hash})
	return &b.list[len(b.list)-1], b.every
}

// sweep forgets keys whose buckets are full.
func (b *buckets) sweep(now time.Duration) {
	for range min(swept, len(b.list)) {
		if b.hand >= len(b.list) {
			b.hand = 0
		}
		e := &b.list[b.hand]
		if e.full > now {
			b.hand++
			continue
		}
		delete(b.at, e.key)
		last := len(b.list) - 1
		if b.hand != last {
			*e = b.list[last]
			b.at[e.key] = b.hand
		}
		b.list = b.list[:last]
	}
}
