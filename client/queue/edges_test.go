package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// TestHoldBeforeLastAttempt holds a message that has expired, after it was read for its last attempt. That is not made.
func TestHoldBeforeLastAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var held atomic.Int64
		w, _ = over(t, &queue.Options{Policy: queue.Policy{Expire: time.Hour, DelayReport: -1}}, func(h *hook) {
			h.take = func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
				jobs, err := h.Memory.Take(ctx, l, q)
				if q.AlarmsOnly && len(jobs) > 0 {
					n, err := w.q.Hold(ctx, queue.Filter{To: "b@y.example"}, "wait")
					if err != nil {
						t.Error(err)
					}
					held.Add(int64(n))
				}
				return jobs, err
			}
		})
		w.set(func(proto.Address) error { return later })
		w.add("", "", "b@y.example", "")
		time.Sleep(59 * time.Minute)
		before := len(w.at("b@y.example"))
		time.Sleep(24 * time.Hour)
		if n := len(w.at("b@y.example")); held.Load() != 1 || n != before || before == 0 || w.queued() != 1 {
			t.Errorf("%d were held; %d attempts before and %d afterwards; %d are left", held.Load(), before, n, w.queued())
		}
	})
}

// TestManyExpired has a queue begin after all of its mail has expired. It does not read all of that into memory, and
// everything is attempted once.
func TestManyExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 15000
		w := newWorld(t, nil)
		if err := w.q.Suspend(t.Context(), "y.example", time.Now().Add(time.Hour), ""); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
		}
		w.close()
		time.Sleep(10 * 24 * time.Hour)
		stuck := make(chan struct{})
		w.set(func(proto.Address) error { <-stuck; return nil })
		w.open(nil)
		time.Sleep(time.Minute)
		loaded := 0
		for _, s := range w.q.Sites() {
			loaded += s.Loaded
		}
		if loaded < 10 || loaded > 10100 { // a site has half of 20,000
			t.Errorf("%d jobs are in memory", loaded)
		}
		close(stuck)
		time.Sleep(time.Minute)
		if tried := len(w.tries()); tried != n || w.queued() != 0 {
			t.Errorf("%d attempts, want %d; %d are left", tried, n, w.queued())
		}
	})
}

// TestResumeWhileReading ends a suspension while the alarms of the destination are being read. Its mail does not wait
// for as long as for one that is suspended still.
func TestResumeWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var resume atomic.Bool
		w, _ = over(t, nil, func(h *hook) {
			h.take = func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
				if q.AlarmsOnly && resume.CompareAndSwap(true, false) {
					if err := w.q.Suspend(ctx, "y.example", time.Time{}, ""); err != nil {
						t.Error(err)
					}
				}
				return h.Memory.Take(ctx, l, q)
			}
		})
		if err := w.q.Suspend(t.Context(), "y.example", time.Now().Add(time.Hour), ""); err != nil {
			t.Fatal(err)
		}
		resume.Store(true)
		w.add("", "", "b@y.example", "")
		time.Sleep(2 * time.Second)
		if at := w.at("b@y.example"); len(at) != 1 {
			t.Errorf("tried at %v, want at once", at)
		}
	})
}

// TestContentPanics has the content of a large message panic while it is added. The destination goes on.
func TestContentPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{
			Route: func(*queue.Message, proto.Address) string { return "y" },
			Routes: map[string]client.Sender{"y": client.SenderFunc(
				func(context.Context, *client.Message) (*client.Result, error) { return nil, later })},
		})
		w.add("", "", "first@y.example", "")
		synctest.Wait() // it is leased
		func() {
			defer func() {
				if v := recover(); v != "mistake" {
					t.Errorf("recovered %v", v)
				}
			}()
			body := io.MultiReader(strings.NewReader(strings.Repeat("a line\r\n", 40000)), panics{})
			e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
			_, err := w.q.Add(t.Context(), e, body)
			t.Error(err)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if n, err := w.q.Fetch(ctx, []string{"y"}, client.SenderFunc(w.send)); n != 1 || err != nil {
			t.Errorf("%d fetched, %v", n, err)
		}
	})
}

type panics struct{}

func (panics) Read([]byte) (int, error) { panic("mistake") }

// TestReleaseFails has the store fail to end a lease. The destination is not lost to the queue.
func TestReleaseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Int32
		w, _ := over(t, nil, func(h *hook) {
			h.release = func(ctx context.Context, l queue.Lease, notBefore time.Time) error {
				if bad.Add(-1) >= 0 {
					return errDisk
				}
				return h.Memory.Release(ctx, l, notBefore)
			}
		})
		bad.Store(3)
		w.add("", "", "first@y.example", "")
		time.Sleep(time.Minute)
		w.add("", "", "second@y.example", "")
		time.Sleep(time.Minute)
		if at := w.at("second@y.example"); len(at) != 1 {
			t.Errorf("tried at %v, want once", at)
		}
	})
}

// TestRerouteWhileTrying sends a message another way during an attempt that fails. It goes there at once, also while
// its old destination always has something to do.
func TestRerouteWhileTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.set(func(to proto.Address) error {
			switch to.Local {
			case "busy":
				time.Sleep(10 * time.Hour)
			case "b":
				if len(w.at("b@y.example")) == 0 {
					time.Sleep(time.Minute)
					return later
				}
			}
			return nil
		})
		w.add("", "", "busy@y.example", "")
		w.add("", "", "b@y.example", "")
		time.Sleep(30 * time.Second)
		f := queue.Filter{To: "b@y.example"}
		if n, err := w.q.Reroute(t.Context(), f, "", proto.Domain{}); err == nil {
			t.Fatal(n)
		}
		if n, err := w.q.Reroute(t.Context(), f, "", address(t, "b@z.example").Domain); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(35 * time.Second)
		if at := w.at("b@y.example"); len(at) != 2 {
			t.Errorf("tried at %v, want twice", at)
		}
		time.Sleep(11 * time.Hour)
	})
}

// TestPolicyForWaits has PolicyFor not return for a site until mail for another one is delivered. That does not wait.
func TestPolicyForWaits(t *testing.T) {
	var used atomic.Bool
	asked, delivered := make(chan bool), make(chan bool)
	w := newWorld(t, &queue.Options{PolicyFor: func(site string, p queue.Policy) queue.Policy {
		if site == "slow.example" && used.Swap(true) { // not by Add
			close(asked)
			select {
			case <-delivered:
			case <-time.After(10 * time.Second):
				t.Error("others have waited")
			}
		}
		return p
	}})
	w.set(func(to proto.Address) error {
		if to.Domain.ASCII() == "y.example" {
			close(delivered)
		}
		return nil
	})
	w.add("", "", "b@slow.example", "")
	<-asked
	w.add("", "", "b@y.example", "")
	<-delivered
}

// TestFetchDuringOutage has nobody fetch mail while the store cannot be written: it would be delivered twice.
func TestFetchDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Bool
		w, _ := over(t, &queue.Options{
			Route:  func(*queue.Message, proto.Address) string { return "y" },
			Routes: map[string]client.Sender{"y": nil},
		}, func(h *hook) {
			h.add = func(ctx context.Context, e *queue.Entry) error {
				if bad.Load() {
					return errDisk
				}
				return h.Memory.Add(ctx, e)
			}
		})
		w.add("", "", "b@y.example", "")
		time.Sleep(time.Second)
		bad.Store(true)
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "c@y.example")}}}
		if _, err := w.q.Add(t.Context(), e, nil); !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		n, err := w.q.Fetch(t.Context(), []string{"y"}, client.SenderFunc(w.send))
		if n != 0 || !errors.Is(err, errDisk) || len(w.at("b@y.example")) != 0 {
			t.Errorf("%d, %v; tried at %v", n, err, w.at("b@y.example"))
		}
	})
}
