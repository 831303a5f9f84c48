package server

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// withClock returns rates whose clock is now.
func withClock(l Limits, most int, now *time.Duration) *rates {
	r := newRates(&l)
	r.most, r.clock = most, func() time.Duration { return *now }
	return r
}

// network64 returns the i-th network.
func network64(i int) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], 0x20010db8<<32|uint64(i))
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// TestRatesAreTokenBuckets compares rates with buckets that count tokens, a second implementation, for networks that do
// what they want at random times.
func TestRatesAreTokenBuckets(t *testing.T) {
	type bucket struct {
		tokens float64
		at     time.Duration
	}
	const limit = 12 // in a minute: a token in 5 seconds
	rnd := rand.New(rand.NewPCG(1, 2))
	now := time.Hour
	r := withClock(Limits{ConnsPerMinute: limit}, 100, &now)
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
		if has := r.has(connRate, network64(i)); has != want {
			t.Fatalf("at %v the network %d has a token: %v, want %v", now, i, has, want)
		}
		if got := r.take(connRate, network64(i)); got != want {
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

// TestRatesOwe: what shows only afterwards is owed, so that many at a time are paid for.
func TestRatesOwe(t *testing.T) {
	now := time.Hour
	r := withClock(Limits{AuthFailuresPerHour: 2}, 100, &now)
	for i, want := range []bool{true, true, false, false} {
		if got := r.charge(authRate, network64(0)); got != want {
			t.Errorf("charge %d reports %v, want %v", i, got, want)
		}
	}
	// Two are owed, and the third that comes back is there to be taken.
	now += 90*time.Minute - 1
	if r.has(authRate, network64(0)) {
		t.Error("a network that owes two has a token before three have come back")
	}
	now++
	if !r.has(authRate, network64(0)) {
		t.Error("a network that owes two has no token after three have come back")
	}
}

// TestRatesAreBounded: a client with very many networks neither makes the table grow nor has a limit forgotten, and
// what it gets with all of them together is bounded.
func TestRatesAreBounded(t *testing.T) {
	const most = 64
	now := time.Hour
	r := withClock(Limits{ConnsPerMinute: 6, MessagesPerMinute: 1}, most, &now)
	spent := network64(1 << 20)
	for range 6 {
		r.take(connRate, spent)
	}
	taken := 0
	for i := range 100_000 {
		if r.take(connRate, network64(i)) {
			taken++
		}
		if len(r.list) > most || len(r.at) != len(r.list) {
			t.Fatalf("%d networks are in the list, and %d in the map", len(r.list), len(r.at))
		}
	}
	if want := most - 1 + 6*crowdShare; taken != want {
		t.Errorf("100,000 networks have taken %d tokens, want %d", taken, want)
	}
	if r.take(connRate, spent) {
		t.Error("the network that had spent its tokens was forgotten")
	}
	if r.has(connRate, network64(1<<21)) {
		t.Error("a network has a token of a crowd that has none")
	}
	// When the buckets are full again, others find a place, and it is as large as before.
	now += time.Minute
	for i := range most {
		if n := network64(1<<22 + i); !r.has(connRate, n) || !r.take(connRate, n) {
			t.Fatalf("the network %d finds no token after a minute", i)
		}
	}
	if _, ok := r.at[network64(1<<22+most-1)]; !ok || len(r.list) > most {
		t.Errorf("the last network has no place among %d", len(r.list))
	}
	for i := range r.list {
		if r.at[r.list[i].network] != i {
			t.Fatalf("the network %v is at %d, and not %d", r.list[i].network, i, r.at[r.list[i].network])
		}
	}
}

// TestRatesWithoutLimit: no limit is none, and a client that is not connected over IP has none.
func TestRatesWithoutLimit(t *testing.T) {
	now := time.Hour
	r := withClock(Limits{ConnsPerMinute: 1}, 10, &now)
	for range 10 {
		if !r.take(messageRate, network64(0)) || !r.charge(authRate, network64(0)) || !r.has(authRate, network64(0)) {
			t.Fatal("a kind without a limit has one")
		}
		if !r.take(connRate, netip.Prefix{}) || !r.has(connRate, netip.Prefix{}) {
			t.Fatal("a client without a network has a limit")
		}
	}
	if len(r.list) > 0 {
		t.Errorf("%d networks are counted for no limit", len(r.list))
	}
}
