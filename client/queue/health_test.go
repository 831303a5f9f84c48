package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestHealth has attempts succeed and fail one after the other, and looks at the window of the site.
func TestHealth(t *testing.T) {
	for _, tt := range []struct {
		name      string
		round     string // "+" is an attempt that finds a server, "-" one that does not
		times     int
		low, high float64
		dead      bool
	}{
		{"what is not used does not grow", "+", 100, 5, 6, false},
		{"failures that are not in a row", "----+++++", 20, 4, 6, false},
		{"most fail", "--+", 3, 4, 4, false},
		{"all fail", "-", 5, 1, 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &queue.Options{Policy: queue.Policy{Retry: []time.Duration{time.Hour}}})
			w.set(func(to proto.Address) error {
				if to.Local[0] == '-' {
					return errors.New("connection refused")
				}
				return nil
			})
			for i := range tt.times {
				for n, c := range tt.round {
					w.add("", "", fmt.Sprintf("%c%d.%d@y.example", c, i, n), "")
					time.Sleep(time.Second)
				}
			}
			s := w.q.Sites()[0]
			if s.Window < tt.low || s.Window > tt.high || (s.Suspension != nil) != tt.dead {
				t.Errorf("%s: %+v", tt.name, s)
			}
			if tt.dead {
				w.set(nil)
				time.Sleep(2 * time.Hour)
				if s := w.q.Sites()[0]; s.Window < 5 || s.Suspension != nil {
					t.Errorf("%s: %+v after it is back", tt.name, s)
				}
			}
		})
	}
}

// TestComesWhileReading adds a message while the scheduler reads from the store, and an attempt at the destination
// takes an hour. The message does not wait for either.
func TestComesWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stop atomic.Bool
		read, added := make(chan bool), make(chan bool)
		w, _ := over(t, nil, func(h *hook) {
			h.take = func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
				jobs, err := h.Memory.Take(ctx, l, q)
				if q.Lane == 4 && !q.AlarmsOnly && stop.CompareAndSwap(true, false) {
					read <- true
					<-added
				}
				return jobs, err
			}
		})
		w.set(func(to proto.Address) error {
			if to.Local == "slow" {
				time.Sleep(time.Hour)
			}
			return nil
		})
		w.add("", "", "slow@y.example", "")
		time.Sleep(time.Second)
		stop.Store(true)
		<-read // within 15 s
		w.add("", "", "b@y.example", "HOLDFOR=0")
		close(added)
		time.Sleep(time.Second)
		if at := w.at("b@y.example"); len(at) != 1 {
			t.Errorf("tried at %v", at)
		}
	})
}

// TestStoreFails has calls of the store fail for an hour, or return what makes no sense. They are not made all the
// time.
func TestStoreFails(t *testing.T) {
	for name, set := range map[string]func(h *hook, bad *atomic.Bool){
		"Claim": func(h *hook, bad *atomic.Bool) {
			h.claim = func(ctx context.Context, now time.Time, max int) ([]queue.Lease, time.Time, error) {
				if bad.Load() {
					return nil, time.Time{}, errDisk
				}
				return h.Memory.Claim(ctx, now, max)
			}
		},
		"Claim without result": func(h *hook, bad *atomic.Bool) {
			h.claim = func(ctx context.Context, now time.Time, max int) ([]queue.Lease, time.Time, error) {
				if bad.Load() {
					return nil, now, nil
				}
				return h.Memory.Claim(ctx, now, max)
			}
		},
		"Take": func(h *hook, bad *atomic.Bool) {
			h.take = func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
				if bad.Load() {
					return nil, errDisk
				}
				return h.Memory.Take(ctx, l, q)
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var bad atomic.Bool
			w, h := over(t, nil, func(h *hook) { set(h, &bad) })
			w.set(func(proto.Address) error { return later })
			w.add("a@x.example", "BY=60;N", "b@y.example", "") // its alarm is due at once
			time.Sleep(10 * time.Second)
			bad.Store(true)
			w.set(nil)
			calls := h.calls.Load()
			time.Sleep(time.Hour)
			if n := h.calls.Load() - calls; n > 4000 || len(w.at("b@y.example")) != 1 {
				t.Errorf("%s: %d calls in an hour, tried at %v", name, n, w.at("b@y.example"))
			}
			bad.Store(false)
			time.Sleep(2 * time.Minute)
			if n := len(w.at("b@y.example")); n != 2 {
				t.Errorf("%s: tried %d times", name, n)
			}
		})
	}
}

// TestManyParked resumes a site with more domains than are woken at once. All have their mail soon.
func TestManyParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{
			Site: func(context.Context, proto.Domain) (string, error) { return "mx.example", nil },
		})
		if err := w.q.Suspend(t.Context(), "mx.example", time.Now().Add(24*time.Hour), ""); err != nil {
			t.Fatal(err)
		}
		for i := range 1500 {
			w.add("", "", fmt.Sprintf("b@d%d.example", i), "")
		}
		time.Sleep(time.Hour)
		if err := w.q.Suspend(t.Context(), "mx.example", time.Time{}, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestHeldForLong has a message that is held by its sender for longer than the queue tries (RFC 4865). Delay and end
// count from its release, and what was tried once lets others pass.
func TestHeldForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.set(only("y.example", later))
		hold, day := 240*time.Hour, 24*time.Hour
		w.add("a@x.example", fmt.Sprintf("HOLDFOR=%d", int(hold/time.Second)), "b@y.example", "")
		time.Sleep(hold + 5*time.Hour)
		list, _, err := w.q.List(t.Context(), queue.Filter{To: "b@y.example"}, queue.JobID{}, 1)
		if err != nil || len(list) != 1 || list[0].Job.Lane != 5 || !list[0].Job.Told {
			t.Fatalf("%+v, %v", list, err)
		}
		r := w.report("a@x.example").Recipients[0]
		if got := r.WillRetryUntil.Sub(w.begin); r.Action != ehlo.Delayed || got < hold+5*day-time.Minute ||
			got > hold+5*day+time.Minute {
			t.Errorf("the sender was told %+v", r)
		}
		time.Sleep(6 * day)
		told := w.at("a@x.example")
		if len(told) != 2 || told[0] < hold+4*time.Hour || told[1] < hold+5*day || told[1] > hold+5*day+time.Minute {
			t.Errorf("the sender was told at %v", told)
		}
	})
}
