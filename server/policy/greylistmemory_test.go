package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGreylistMemory compares a store with one that forgets nothing, and checks its bound.
func TestGreylistMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 40
		store := NewGreylistMemory(size).(*greylistMemory)
		all := map[string]GreylistEntry{}
		r := rand.New(rand.NewPCG(1, 2))
		kept, full := 0, 0
		for range 5000 {
			time.Sleep(time.Duration(r.Int64N(int64(2 * time.Minute))))
			key := fmt.Sprint(r.IntN(200))
			got, _ := store.Get(t.Context(), key)
			if !got.IsZero() {
				kept++
				if got != all[key] {
					t.Fatalf("%s has %v, want %v", key, got, all[key])
				}
			}
			now := time.Now()
			e := GreylistEntry{First: now, Passes: r.IntN(2), Expires: now.Add(time.Duration(r.Int64N(int64(3 * time.Hour))))}
			if err := store.Put(t.Context(), key, e); err == nil {
				all[key] = e
			} else if !errors.Is(err, ErrGreylistFull) || e.Passes > 0 || store.table.waiting.Len() < size/4 {
				t.Fatalf("put %v: %v, with %d that wait", e, err, store.table.waiting.Len())
			} else {
				full++
			}
			if n := len(store.table.entries); n > size || n != store.table.waiting.Len()+store.table.passed.Len() {
				t.Fatalf("%d entries, %d wait, %d passed", n, store.table.waiting.Len(), store.table.passed.Len())
			}
		}
		if kept < 200 || full < 20 {
			t.Errorf("%d entries were found, the store was full %d times: the test shows little", kept, full)
		}
	})
}

// TestGreylistMemoryRoom checks which entries give way.
func TestGreylistMemoryRoom(t *testing.T) {
	now := time.Unix(1e9, 0)
	waits := GreylistEntry{First: now, Expires: now.Add(day)}
	known := GreylistEntry{First: now, Passes: 1, Expires: now.Add(35 * day)}
	fill := func(waiting, passed int) *greylistTable {
		table := newGreylistTable(8)
		for i := range waiting {
			table.put(fmt.Sprint("w", i), waits, now)
		}
		for i := range passed {
			table.put(fmt.Sprint("p", i), known, now)
		}
		return table
	}
	for _, tt := range []struct {
		name            string
		waiting, passed int
		put             GreylistEntry
		later           time.Duration
		gone            string // "" is none, "full" that there is no room
	}{
		{"room", 4, 3, waits, 0, ""},
		{"nothing waits", 0, 8, waits, 0, "p0"},
		{"less than a quarter waits", 1, 7, waits, 0, "p0"},
		{"a quarter waits", 2, 6, waits, time.Hour - 1, "full"},
		{"a quarter waits for long", 2, 6, waits, time.Hour, "w0"},
		{"all waits", 8, 0, waits, time.Hour - 1, "full"},
		{"all waits, and one passes", 8, 0, known, time.Hour - 1, "full"},
		{"half waits, and one passes", 4, 4, known, time.Hour - 1, "p0"},
		{"half waits for long, and one passes", 4, 4, known, time.Hour, "w0"},
		{"all passed, and one more", 0, 8, known, time.Hour, "p0"},
		{"the last second", 4, 4, waits, day - 1, "w0"},
		{"some have expired", 4, 4, waits, day, "w0 w1"},
		{"all have expired", 4, 4, waits, 36 * day, "w0 w1 p0 p1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := fill(tt.waiting, tt.passed)
			err := table.put("new", tt.put, now.Add(tt.later))
			var gone []string
			for _, l := range []struct {
				letter string
				n      int
			}{{"w", tt.waiting}, {"p", tt.passed}} {
				for i := range l.n {
					if key := fmt.Sprint(l.letter, i); table.get(key).IsZero() {
						gone = append(gone, key)
					}
				}
			}
			got := strings.Join(gone, " ")
			if errors.Is(err, ErrGreylistFull) {
				got = strings.TrimSpace("full " + got)
			} else if table.get("new") != tt.put {
				t.Errorf("it was not put")
			}
			if got != tt.gone {
				t.Errorf("gone is %q, want %q", got, tt.gone)
			}
		})
	}
	t.Run("an entry that is there needs no room", func(t *testing.T) {
		table := fill(8, 0)
		if err := table.put("w3", known, now); err != nil || table.get("w3") != known {
			t.Error(err)
		}
	})
}

// TestGreylistConcurrent has many clients use a store at once, for the race detector.
func TestGreylistConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil, Greylist{Store: NewGreylistMemory(50)})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				p := w.dial(fmt.Sprintf("192.0.%d.7", i%5))
				p.ask("EHLO c.example", "250")
				for j := range 5 {
					p.ask("MAIL FROM:<a@b.example>", "250", fmt.Sprintf("RCPT TO:<j%d@d.example>", j), "451", "RSET", "250")
				}
				p.ask("QUIT", "221")
			})
		}
		wg.Wait()
	})
}
