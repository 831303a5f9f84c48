package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// TestLimitsConcurrently has fifty clients add a message each at once to a store that takes a second for each. No more
// are taken than the limits permit, and as many.
func TestLimitsConcurrently(t *testing.T) {
	large := strings.Repeat("0123456789abcd\r\n", 20<<10) // 320 KiB, more than is kept in memory
	for _, tt := range []struct {
		name   string
		limits queue.Limits
		body   string
		want   int64 // of each sender of two
		all    int64
	}{
		{"messages", queue.Limits{Messages: 7}, text, 7, 7},
		{"octets", queue.Limits{Octets: 7*int64(len(text)) + 5}, text, 7, 7},
		{"share", queue.Limits{Messages: 16, Share: 0.25}, text, 4, 8},
		{"octets of large messages", queue.Limits{Octets: 7*int64(len(large)) + 5}, large, 7, 7},
		{"one large message too many", queue.Limits{Octets: int64(len(large)) - 1}, large, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, _ := over(t, &queue.Options{Limits: tt.limits}, func(h *hook) {
				h.add = func(ctx context.Context, e *queue.Entry) error {
					time.Sleep(time.Second)
					return h.Memory.Add(ctx, e)
				}
			})
			w.set(func(proto.Address) error { return later })
			var taken [2]atomic.Int64
			add := func(sender int) {
				e := &queue.Envelope{
					To: []proto.Recipient{{Address: address(t, "b@y.example")}}, Tag: fmt.Sprint("sender", sender),
				}
				_, err := w.q.Add(t.Context(), e, strings.NewReader(tt.body))
				var refused *proto.Error
				switch {
				case err == nil:
					taken[sender].Add(1)
				case !errors.As(err, &refused) || refused.Code != 452 || refused.Status != (proto.Status{4, 3, 1}):
					t.Errorf("%s: %v", tt.name, err)
				}
			}
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() { add(i % 2) })
			}
			all.Wait()
			for range 20 { // those that had room only while others were being added come again
				add(0)
				add(1)
			}
			a, b := taken[0].Load(), taken[1].Load()
			if n := w.queued(); a+b != tt.all || n != tt.all || a > tt.want || b > tt.want {
				t.Errorf("%s: %d and %d messages were taken, %d are queued, want %d", tt.name, a, b, n, tt.all)
			}
			if u, err := w.q.Usage(t.Context()); err != nil || tt.limits.Octets > 0 && u.Octets > tt.limits.Octets {
				t.Errorf("%s: %d octets are queued: %v", tt.name, u.Octets, err)
			}
		})
	}
}

// TestLimitsAfterFailures has additions fail in all ways. What they would have taken is free again.
func TestLimitsAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := true
		w, _ := over(t, &queue.Options{Limits: queue.Limits{Messages: 2, Octets: 700 << 10, Share: 0.5}}, func(h *hook) {
			h.add = func(ctx context.Context, e *queue.Entry) error {
				if !fails {
					return h.Memory.Add(ctx, e)
				}
				if _, err := io.Copy(io.Discard, e.Content); err != nil {
					return err
				}
				return errDisk
			}
		})
		w.set(func(proto.Address) error { return later })
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
		large := strings.Repeat("x", 300<<10)
		add := func(body io.Reader) error {
			time.Sleep(2 * time.Second) // so long does the queue take nothing after the store has failed
			_, err := w.q.Add(t.Context(), e, body)
			return err
		}
		for range 3 {
			if add(strings.NewReader(text)) == nil || add(strings.NewReader(large)) == nil ||
				add(io.MultiReader(strings.NewReader(large), errReader{})) == nil {
				t.Fatal("added")
			}
		}
		fails = false
		if err := add(strings.NewReader(large)); err != nil {
			t.Error(err)
		}
	})
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("the client has gone") }

// TestLimitsAfterRefusal refuses a message that is too large for what is left. It takes nothing from those that are
// not.
func TestLimitsAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Limits: queue.Limits{Octets: 1000}})
		for _, size := range []int{2000, 900} {
			e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
			_, err := w.q.Add(t.Context(), e, strings.NewReader(strings.Repeat("x", size)))
			if refused := err != nil; refused != (size > 1000) {
				t.Errorf("%d octets: %v", size, err)
			}
		}
	})
}
