package main

import (
	"strings"
	"testing"
	"time"
)

// TestCountTrips counts the round trips of net/smtp, whose documentation tells them: MAIL, RCPT, DATA and the content.
func TestCountTrips(t *testing.T) {
	for _, load := range []workload{{1 << 10, 1, 1}, {1 << 10, 1, 3}} {
		trips, err := plan{}.countTrips(clientLibrary{"net/smtp", dialNet}, load)
		if err != nil || trips != 4 {
			t.Errorf("batch of %d: %v round trips for a message, %v; want 4", load.batch, trips, err)
		}
	}
}

// TestSummary has a machine that is slow in one round, for both libraries.
func TestSummary(t *testing.T) {
	base := []figure{{time: 10}, {time: 100}, {time: 20}}
	f := summary([]figure{{time: 20, allocs: 1}, {time: 200, allocs: 3}, {time: 30, allocs: 2}}, base)
	if want := (figure{time: 30, ratio: 2, allocs: 2}); f != want {
		t.Errorf("%+v, want %+v", f, want)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("the median of 1 to 4 is %v", got)
	}
}

func TestRows(t *testing.T) {
	var b strings.Builder
	head(&b, "It sends", []string{"a", "b"})
	rows(&b, "1 KiB", []figure{
		{time: 1234 * time.Microsecond, ratio: 1, allocs: 0.2, bytes: 12, trips: 0.01},
		{time: time.Second, ratio: 8.25, allocs: 7, bytes: 3 << 19, trips: 4},
	})
	want := `| It sends | per message | a | b |
|---|---|--:|--:|
| 1 KiB | time, 1.0 = 1.23 ms | 1.0 | 8.2 |
|  | allocations | 0 (12 B) | 7 (1.5 MiB) |
|  | round trips | 0.01 | 4 |
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}
