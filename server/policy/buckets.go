package policy

import (
	"hash/maphash"
	"time"

	"smtpkit.example/smtp/server/internal/bucket"
)

// maxKeys is how many keys are counted each by itself by default. They take some 6 MB.
const maxKeys = 1 << 16

// A buckets has a token bucket for each key, of which a hash is kept. Its methods may be called concurrently.
type buckets struct {
	table *bucket.Table[uint64]
	seed  maphash.Seed
}

// newBuckets returns buckets of n tokens for each of most keys.
func newBuckets(n int, window time.Duration, most int) *buckets {
	return &buckets{bucket.New[uint64](most, bucket.Limit{Tokens: n, Window: window}), maphash.MakeSeed()}
}

// take spends a token of the key. It reports false if there is none.
func (b *buckets) take(key string) bool { return b.table.Take(maphash.String(b.seed, key), 0) }

// count spends a token of the key if there is one, and returns how many are spent: at most all.
func (b *buckets) count(key string) int { return b.table.Count(maphash.String(b.seed, key), 0) }
