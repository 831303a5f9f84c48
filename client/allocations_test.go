//go:build !race

package client

import (
	"runtime/debug"
	"testing"
)

// The race detector empties pools at random, so that allocations cannot be counted with it.

// TestAllocations checks that a message costs no more allocations with many recipients than with a few: the result and
// its recipients, the parameter SIZE in two parts, and what a buffer that grows once costs.
func TestAllocations(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools
	for _, tt := range []struct {
		size, rcpts int
		most        float64
	}{{1 << 10, 1, 4}, {1 << 10, 50, 6}, {1 << 10, 1000, 7}, {100 << 10, 1, 5}, {10 << 20, 1, 5}} {
		for _, keyword := range []string{"", "CHUNKING"} {
			c, s := sinkClient(t, 0, keyword)
			m := sized(tt.size, tt.rcpts)
			n := max(10, min(2*maxMessagesAhead, 20_000/tt.rcpts, (64<<20)/tt.size))
			perSend := testing.AllocsPerRun(n, func() {
				if _, err := c.Send(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			})
			// What a call and its buffers cost is not what a message costs: the difference of two calls is.
			taken := 0
			batch := func(n int) float64 {
				return testing.AllocsPerRun(1, func() {
					err := c.SendAll(t.Context(), repeated(m, n, &taken), func(_ *Message, _ *Result, err error) bool {
						return err == nil
					})
					if err != nil || taken != n {
						t.Fatal(err, taken)
					}
				})
			}
			perMessage := (batch(2*n) - batch(n)) / float64(n)
			if perSend > tt.most || perMessage > tt.most {
				t.Errorf("%d octets to %d recipients without %q: %.1f allocations by Send, %.1f by SendAll; at most %.0f",
					tt.size, tt.rcpts, keyword, perSend, perMessage, tt.most)
			}
			c.Close()
			if got := s.counts(); got.messages == 0 {
				t.Error("nothing was sent")
			}
		}
	}
}
