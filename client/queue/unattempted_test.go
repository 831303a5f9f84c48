package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// TestExpireMany gives up more messages that are due than are read at once. None of them is attempted afterwards.
func TestExpireMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Policy: queue.Policy{Window: 1, MaxWindow: 1}})
		w.set(slow("y.example"))
		for i := range 700 {
			w.add("a@x.example", "", fmt.Sprintf("b%d@y.example", i), "")
		}
		time.Sleep(1500 * time.Millisecond) // the second one is under way
		if n, err := w.q.Expire(t.Context(), queue.Filter{Destination: "y.example"}); err != nil || n != 699 {
			t.Fatal(n, err)
		}
		time.Sleep(time.Hour)
		var tried, told int
		for _, a := range w.tries() {
			switch {
			case strings.HasSuffix(a.to, "@y.example"):
				tried++
			case strings.Contains(a.body, "Status: 5.4.7"):
				told++
			}
		}
		if tried != 2 || told != 698 || w.queued() != 0 {
			t.Errorf("%d messages were attempted, want 2; %d reports, want 698; %d are left", tried, told, w.queued())
		}
	})
}

// TestFetchGivenUp has an operator give up mail while somebody fetches it.
func TestFetchGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{
			Route: func(m *queue.Message, to proto.Address) string {
				return strings.TrimPrefix(to.Domain.ASCII(), "x.example")
			},
			Routes: map[string]client.Sender{"y.example": nil},
		})
		for i := range 3 {
			w.add("a@x.example", "", fmt.Sprintf("b%d@y.example", i), "")
		}
		var to []string
		n, err := w.q.Fetch(t.Context(), []string{"y.example"}, client.SenderFunc(
			func(_ context.Context, m *client.Message) (*client.Result, error) {
				to = append(to, m.To[0].Address.Local)
				if _, err := w.q.Expire(t.Context(), queue.Filter{Destination: "=y.example"}); err != nil {
					t.Error(err)
				}
				return &client.Result{Recipients: []proto.Outcome{{Recipient: m.To[0], Reply: proto.Reply{Code: 250}}}}, nil
			}))
		time.Sleep(time.Minute)
		if err != nil || n != 1 || len(to) != 1 || len(w.at("a@x.example")) != 2 || w.queued() != 0 {
			t.Errorf("%d fetched, %v, of %v; reports at %v; %d are left", n, err, to, w.at("a@x.example"), w.queued())
		}
	})
}

// TestCloseBeforeAlarm closes the queue while the message is read of a job that has expired. The job is as it was.
func TestCloseBeforeAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var closing atomic.Bool
		closed := make(chan struct{})
		w = &world{t: t, store: queue.NewMemory(), begin: time.Now()}
		h := &hook{Memory: w.store}
		h.message = func(ctx context.Context, id queue.ID) (*queue.Message, error) {
			if closing.CompareAndSwap(true, false) {
				go func() { defer close(closed); w.close() }()
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return h.Memory.Message(ctx, id)
		}
		w.openOver(h, client.SenderFunc(w.send), &queue.Options{Policy: queue.Policy{DelayReport: 4 * time.Minute}})
		w.set(only("y.example", later))
		w.add("a@x.example", "", "b@y.example", "")
		time.Sleep(3 * time.Minute)
		list := func() *queue.Job {
			jobs, _, err := w.store.List(t.Context(), queue.Filter{}, queue.JobID{}, 2)
			if err != nil || len(jobs) != 1 {
				t.Fatal(jobs, err)
			}
			return jobs[0].Job
		}
		before := list()
		closing.Store(true)
		<-closed
		if j := list(); !j.Alarm.Equal(before.Alarm) || !j.Due.Equal(before.Due) || j.Attempts != before.Attempts {
			t.Errorf("%+v, was %+v", j, before)
		}
	})
}

// TestFetchCancelled has the one who fetches mail go away before a message is read. The message is as it was.
func TestFetchCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w, _ := over(t, &queue.Options{
			Route:  func(*queue.Message, proto.Address) string { return "y" },
			Routes: map[string]client.Sender{"y": nil},
		}, func(h *hook) {
			h.message = func(c context.Context, id queue.ID) (*queue.Message, error) {
				if c == ctx {
					cancel()
					return nil, c.Err()
				}
				return h.Memory.Message(c, id)
			}
		})
		w.add("", "", "b@y.example", "")
		time.Sleep(time.Second)
		n, err := w.q.Fetch(ctx, []string{"y"}, client.SenderFunc(w.send))
		jobs, _, err2 := w.q.List(t.Context(), queue.Filter{}, queue.JobID{}, 2)
		if n != 0 || err == nil || err2 != nil || len(jobs) != 1 || jobs[0].Job.Attempts != 0 {
			t.Errorf("%d, %v; %+v, %v", n, err, jobs[0].Job, err2)
		}
	})
}

// TestReleaseFailsAfterFetch has the store fail to end the lease of a Fetch. More mail can be fetched all the same.
func TestReleaseFailsAfterFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Int32
		w, _ := over(t, &queue.Options{
			Route:  func(*queue.Message, proto.Address) string { return "y" },
			Routes: map[string]client.Sender{"y": nil},
		}, func(h *hook) {
			h.release = func(ctx context.Context, l queue.Lease, notBefore time.Time) error {
				if bad.Add(-1) >= 0 {
					return errDisk
				}
				return h.Memory.Release(ctx, l, notBefore)
			}
		})
		for _, failing := range []int32{2, 0} {
			w.add("", "", "b@y.example", "")
			time.Sleep(time.Minute)
			bad.Store(failing)
			n, err := w.q.Fetch(t.Context(), []string{"y"}, client.SenderFunc(w.send))
			if n != 1 || errors.Is(err, errDisk) != (failing > 0) {
				t.Errorf("%d fetched, %v", n, err)
			}
		}
	})
}

// TestCloseDuringLastAttempt breaks off the last attempt of a message that has expired. It is not given up: the attempt
// was not made to its end, and is made again.
func TestCloseDuringLastAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
		opt := &queue.Options{Policy: queue.Policy{Expire: time.Hour, DelayReport: -1}}
		begun := make(chan bool)
		w.openOver(w.store, client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
			if time.Since(w.begin) < time.Hour {
				return nil, later
			}
			begun <- true
			<-ctx.Done()
			return nil, ctx.Err()
		}), opt)
		w.add("a@x.example", "", "b@y.example", "")
		<-begun
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.q.Close(ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		w.open(opt)
		time.Sleep(time.Minute)
		if order := w.order(); len(order) != 1 || order[0] != "b@y.example" {
			t.Errorf("attempts for %q, want one for b@y.example", order)
		}
		w.close()
	})
}
