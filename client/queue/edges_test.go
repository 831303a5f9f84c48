package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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

// TestSlowClient has a client send a large message for an hour. What is queued for the same destination, and has to be
// read again since an operator has changed it, does not wait for him.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Policy: queue.Policy{Rate: 1}})
		for i := range 5 {
			w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
		}
		synctest.Wait() // it is leased
		added := make(chan error)
		r, body := io.Pipe()
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "large@y.example")}}}
		go func() {
			_, err := w.q.Add(context.Background(), e, r)
			added <- err
		}()
		if _, err := io.WriteString(body, strings.Repeat("a line\r\n", 40000)); err != nil {
			t.Fatal(err)
		}
		if n, err := w.q.Retry(t.Context(), queue.Filter{Destination: "y.example"}); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(time.Hour)
		if n := len(w.tries()); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
		body.Close()
		if err := <-added; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if n := len(w.at("large@y.example")); n != 1 || w.queued() != 0 {
			t.Errorf("%d attempts of the large message, %d are left", n, w.queued())
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

// TestReportWhileReading has a report come for a lane while that, or the last one, is being read, and an attempt at the
// destination takes an hour. The report does not wait for that, nor for the next look.
func TestReportWhileReading(t *testing.T) {
	for _, lane := range []queue.Lane{4, 7} {
		reportWhileReading(t, lane)
	}
}

func reportWhileReading(t *testing.T, lane queue.Lane) {
	synctest.Test(t, func(t *testing.T) {
		var stop atomic.Bool
		read, added := make(chan bool), make(chan bool)
		w, _ := over(t, nil, func(h *hook) {
			h.take = func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
				jobs, err := h.Memory.Take(ctx, l, q)
				if q.Lane == lane && !q.AlarmsOnly && l.Destination == "y.example" && stop.CompareAndSwap(true, false) {
					read <- true
					<-added
				}
				return jobs, err
			}
		})
		w.set(func(to proto.Address) error {
			switch to.Local {
			case "slow":
				time.Sleep(time.Hour)
			case "nobody":
				return proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
			}
			return nil
		})
		w.add("", "", "slow@y.example", "")
		time.Sleep(time.Second)
		stop.Store(true)
		<-read // within 15 s
		w.add("a@y.example", "", "nobody@z.example", "")
		synctest.Wait()
		close(added)
		time.Sleep(time.Second)
		if at := w.at("a@y.example"); len(at) != 1 {
			t.Errorf("lane %d: the report was tried at %v", lane, at)
		}
		time.Sleep(time.Hour)
	})
}

// TestManyAlarms has the senders of many messages be told of a delay, while an attempt takes an hour. They need not
// wait for that, nor for one look at the destination after the other.
func TestManyAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Policy: queue.Policy{MaxWindow: 1000, Window: 1000}, MaxActive: 1000})
		w.set(func(to proto.Address) error {
			if to.Local == "slow" {
				time.Sleep(time.Hour)
			}
			return only("y.example", later)(to)
		})
		w.add("", "", "slow@y.example", "")
		const n = 200
		for i := range n {
			w.add("a@x.example", "BY=600;N", fmt.Sprintf("b%d@y.example", i), "")
		}
		w.set(only("y.example", later))
		time.Sleep(10*time.Minute - time.Second)
		if told := len(w.at("a@x.example")); told != 0 {
			t.Fatalf("%d were told at once", told)
		}
		time.Sleep(17 * time.Second) // it is looked at within 15 s
		if told := len(w.at("a@x.example")); told != n {
			t.Errorf("%d were told, want %d", told, n)
		}
		time.Sleep(time.Hour)
	})
}

// TestOrder has more messages wait for a destination than are kept in memory for one lane. A new one does not pass
// those that are in the store.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Policy: queue.Policy{Window: 1, MaxWindow: 1}})
		w.set(slow("y.example"))
		const n = 700
		for i := range n {
			w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
			time.Sleep(time.Millisecond)
		}
		if s := w.q.Sites()[0]; s.Loaded > 512 {
			t.Errorf("%d jobs are in memory, want 512 at most", s.Loaded)
		}
		time.Sleep(300 * time.Second)
		w.add("", "", "new@y.example", "")
		time.Sleep(n * time.Second)
		if order := w.order(); len(order) != n+1 || order[n] != "new@y.example" {
			t.Errorf("%d attempts, the new message was number %d", len(order), slices.Index(order, "new@y.example"))
		}
	})
}

// TestEditOfOthers changes mail for one destination, while a message for another one is added, and an attempt there
// takes an hour. The message does not wait for that.
func TestEditOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		for _, adding := range []bool{true, false} {
			edit := func(to string) {
				if to == "b@y.example" {
					if n, err := w.q.Hold(t.Context(), queue.Filter{Destination: "z.example"}, ""); n != 1 || err != nil {
						t.Error(n, err)
					}
				}
			}
			w, _ = over(t, nil, func(h *hook) {
				h.add = func(ctx context.Context, e *queue.Entry) error {
					err := h.Memory.Add(ctx, e)
					if adding {
						edit(e.Jobs[0].To[0].Address.String())
					}
					return err
				}
				h.take = func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
					jobs, err := h.Memory.Take(ctx, l, q)
					if len(jobs) > 0 && !adding {
						edit(jobs[0].To[0].Address.String())
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
			w.add("", "HOLDFOR=86400", "c@z.example", "")
			synctest.Wait()
			if adding {
				w.add("", "", "b@y.example", "")
			} else {
				w.add("", "HOLDFOR=1", "b@y.example", "") // it is read from the store
			}
			time.Sleep(time.Minute)
			if at := w.at("b@y.example"); len(at) != 1 {
				t.Errorf("adding %v: tried at %v, want at once", adding, at)
			}
			time.Sleep(time.Hour)
		}
	})
}
