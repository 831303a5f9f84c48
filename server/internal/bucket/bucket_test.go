package bucket

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// The limits of tables in tests.
const (
	conns = iota
	messages
	logins
)

// withClock returns a table whose clock is now.
func withClock(most int, now *time.Duration, limits ...Limit) *Table[netip.Prefix] {
	t := New[netip.Prefix](most, limits...)
	t.clock = func() time.Duration { return *now }
	return t
}

// network64 returns the i-th network.
func network64(i int) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], 0x20010db8<<32|uint64(i))
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// TestTokenBuckets compares a table with buckets that count tokens, a second implementation, for networks that do
// what they want at random times.
func TestTokenBuckets(t *testing.T) {
	type bucket struct {
		tokens float64
		at     time.Duration
	}
	const limit = 12 // in a minute: a token in 5 seconds
	rnd := rand.New(rand.NewPCG(1, 2))
	now := time.Hour
	r := withClock(100, &now, Limit{limit, time.Minute})
	model := make(map[int]*bucket)
	taken, refused := 0, 0
	for range 20_000 {
		now += time.Duration(rnd.IntN(900)) * time.Millisecond
		i := rnd.IntN(5)
		b := model[i]
		if b == nil {
			b = &bucket{limit, now}
			model[i] = b
		}
		b.tokens, b.at = min(limit, b.tokens+(now-b.at).Seconds()/5), now
		want := b.tokens >= 1-1e-6
		if has := r.Has(network64(i), conns); has != want {
			t.Fatalf("at %v the network %d has a token: %v, want %v", now, i, has, want)
		}
		if got := r.Take(network64(i), conns); got != want {
			t.Fatalf("at %v the network %d takes a token: %v, want %v", now, i, got, want)
		}
		if want {
			b.tokens--
			taken++
		} else {
			refused++
		}
	}
	if taken < 1000 || refused < 1000 {
		t.Errorf("%d were taken and %d refused", taken, refused)
	}
}

// TestOwe: what shows only afterwards is owed, so that many at a time are paid for.
func TestOwe(t *testing.T) {
	now := time.Hour
	r := withClock(100, &now, Limit{}, Limit{}, Limit{2, time.Hour})
	for i, want := range []bool{true, true, false, false} {
		if got := r.Charge(network64(0), logins); got != want {
			t.Errorf("charge %d reports %v, want %v", i, got, want)
		}
	}
	// Two are owed, and the third that comes back is there to be taken.
	now += 90*time.Minute - 1
	if r.Has(network64(0), logins) {
		t.Error("a network that owes two has a token before three have come back")
	}
	now++
	if !r.Has(network64(0), logins) {
		t.Error("a network that owes two has no token after three have come back")
	}
}

// TestBounded: a client with very many networks neither makes the table grow nor has a limit forgotten, and
// what it gets with all of them together is bounded.
func TestBounded(t *testing.T) {
	const most = 64
	now := time.Hour
	r := withClock(most, &now, Limit{6, time.Minute}, Limit{1, time.Minute})
	spent := network64(1 << 20)
	for range 6 {
		r.Take(spent, conns)
	}
	taken := 0
	for i := range 100_000 {
		if r.Take(network64(i), conns) {
			taken++
		}
		if len(r.list) > most || len(r.at) != len(r.list) {
			t.Fatalf("%d networks are in the list, and %d in the map", len(r.list), len(r.at))
		}
	}
	if want := most - 1 + 6*CrowdShare; taken != want {
		t.Errorf("100,000 networks have taken %d tokens, want %d", taken, want)
	}
	if r.Take(spent, conns) {
		t.Error("the network that had spent its tokens was forgotten")
	}
	if r.Has(network64(1<<21), conns) {
		t.Error("a network has a token of a crowd that has none")
	}
	// When the buckets are full again, others find a place, and it is as large as before.
	now += time.Minute
	for i := range most {
		if n := network64(1<<22 + i); !r.Has(n, conns) || !r.Take(n, conns) {
			t.Fatalf("the network %d finds no token after a minute", i)
		}
	}
	if _, ok := r.at[network64(1<<22+most-1)]; !ok || len(r.list) > most {
		t.Errorf("the last network has no place among %d", len(r.list))
	}
	for i := range r.list {
		if r.at[r.list[i].key] != i {
			t.Fatalf("the network %v is at %d, and not %d", r.list[i].key, i, r.at[r.list[i].key])
		}
	}
}

// TestWithoutLimit: no limit is none.
func TestWithoutLimit(t *testing.T) {
	now := time.Hour
	r := withClock(10, &now, Limit{1, time.Minute})
	for range 10 {
		if !r.Take(network64(0), messages) || !r.Charge(network64(0), logins) || !r.Has(network64(0), logins) {
			t.Fatal("a kind without a limit has one")
		}
	}
	if len(r.list) > 0 {
		t.Errorf("%d networks are counted for no limit", len(r.list))
	}
}
