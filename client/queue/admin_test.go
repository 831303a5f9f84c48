package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

var later = proto.Refuse(450, proto.Status{4, 7, 1}, "later")

// TestOperators has each operation act on a job that waits, and looks at what becomes of it.
func TestOperators(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		do   func(w *world) (int, error)
		// what has happened an hour later, when the recipient would be taken
		delivered, elsewhere, reported bool
		left                           int64
	}{
		{name: "nothing", do: func(*world) (int, error) { return 1, nil }, delivered: true},
		{name: "retry", do: func(w *world) (int, error) { return w.q.Retry(ctx, queue.Filter{}) }, delivered: true},
		{name: "hold", do: func(w *world) (int, error) { return w.q.Hold(ctx, queue.Filter{}, "why not") }, left: 1},
		{name: "release", do: func(w *world) (int, error) {
			if n, err := w.q.Hold(ctx, queue.Filter{}, ""); n != 1 || err != nil {
				return n, err
			}
			time.Sleep(10 * 24 * time.Hour) // a held message does not expire
			return w.q.Release(ctx, queue.Filter{})
		}, delivered: true},
		{name: "drop", do: func(w *world) (int, error) { return w.q.Drop(ctx, queue.Filter{To: "B@Y.example"}) }},
		{name: "expire", do: func(w *world) (int, error) { return w.q.Expire(ctx, queue.Filter{}) }, reported: true},
		{name: "expire what is held", do: func(w *world) (int, error) {
			if n, err := w.q.Hold(ctx, queue.Filter{}, ""); n != 1 || err != nil {
				return n, err
			}
			return w.q.Expire(ctx, queue.Filter{From: "a@x.example"})
		}, reported: true},
		{name: "reroute", do: func(w *world) (int, error) {
			return w.q.Reroute(ctx, queue.Filter{Destination: "y.example"}, "elsewhere", proto.Domain{})
		}, elsewhere: true},
		{name: "another filter", do: func(w *world) (int, error) {
			n, err := w.q.Drop(ctx, queue.Filter{To: "c@y.example"})
			return n + 1, err
		}, delivered: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var elsewhere atomic.Int32
				w := newWorld(t, &queue.Options{Routes: map[string]client.Sender{
					"elsewhere": client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
						elsewhere.Add(1)
						return &client.Result{Recipients: []proto.Outcome{{Recipient: m.To[0]}}}, nil
					}),
				}})
				w.set(only("y.example", later))
				w.add("a@x.example", "", "b@y.example", "")
				time.Sleep(time.Minute)
				begun := len(w.at("b@y.example"))
				w.set(nil)
				n, err := tt.do(w)
				if n != 1 || err != nil {
					t.Fatal(n, err)
				}
				if tt.name == "retry" || tt.name == "expire" {
					time.Sleep(time.Second)
				} else {
					time.Sleep(time.Hour)
				}
				if got := len(w.at("b@y.example")) > begun; got != tt.delivered {
					t.Errorf("delivered: %v", got)
				}
				if got := elsewhere.Load() > 0; got != tt.elsewhere {
					t.Errorf("delivered elsewhere: %v", got)
				}
				if got := len(w.at("a@x.example")) > 0; got != tt.reported {
					t.Errorf("reported: %v", got)
				}
				if got := w.queued(); got != tt.left {
					t.Errorf("%d messages are left, want %d", got, tt.left)
				}
			})
		})
	}
}

// TestHoldWhileTrying holds a job whose attempt is under way. Who has the message does not get it again.
func TestHoldWhileTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		began, end := make(chan bool, 10), make(chan bool)
		w.set(func(to proto.Address) error {
			if to.Local == "b" {
				began <- true
				<-end
				return nil
			}
			return later
		})
		w.add("a@x.example", "", "b@y.example,c@y.example", "")
		<-began
		if n, err := w.q.Hold(t.Context(), queue.Filter{}, "a look at it"); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		close(end)
		time.Sleep(24 * time.Hour)
		list, _, err := w.q.List(t.Context(), queue.Filter{}, queue.JobID{}, 10)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		j := list[0].Job
		if j.State != queue.Held || j.Why != "a look at it" || len(j.To) != 1 || j.To[0].Address.Local != "c" ||
			j.Attempts != 1 {
			t.Errorf("the job is %+v", j)
		}
		w.set(nil)
		if n, err := w.q.Release(t.Context(), queue.Filter{}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(time.Second)
		if b, c := w.at("b@y.example"), w.at("c@y.example"); len(b) != 1 || len(c) != 2 {
			t.Errorf("b was tried at %v, c at %v", b, c)
		}
	})
}

// TestSuspend suspends a site. Its mail waits, also over a restart, and goes when the suspension ends.
func TestSuspend(t *testing.T) {
	for _, early := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			until := time.Now().Add(10 * time.Hour)
			if err := w.q.Suspend(t.Context(), "y.example", until, "they asked for it"); err != nil {
				t.Fatal(err)
			}
			w.add("a@x.example", "", "b@y.example", "NOTIFY=NEVER")
			time.Sleep(time.Hour)
			if n, err := w.q.Retry(t.Context(), queue.Filter{}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			w.close()
			w.open(nil)
			time.Sleep(time.Hour)
			if at := w.at("b@y.example"); len(at) != 0 {
				t.Fatalf("there were attempts at %v", at)
			}
			sites := w.q.Sites()
			if len(sites) != 1 || sites[0].Suspension == nil || !sites[0].ByOperator ||
				sites[0].Suspension.Why != "they asked for it" {
				t.Errorf("the sites are %+v", sites)
			}
			if early {
				if err := w.q.Suspend(t.Context(), "y.example", time.Time{}, ""); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			} else {
				time.Sleep(8*time.Hour + time.Minute)
			}
			if at := w.at("b@y.example"); len(at) != 1 {
				t.Errorf("early %v: there were attempts at %v", early, at)
			}
		})
	}
}

// TestExpireWhileSuspended has mail for a suspended site expire and be reported.
func TestExpireWhileSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		if err := w.q.Suspend(t.Context(), "y.example", time.Now().Add(100*24*time.Hour), "gone"); err != nil {
			t.Fatal(err)
		}
		w.add("a@x.example", "", "b@y.example", "")
		time.Sleep(6 * 24 * time.Hour)
		if at := w.at("b@y.example"); len(at) != 0 {
			t.Errorf("there were attempts at %v", at)
		}
		if at := w.at("a@x.example"); len(at) != 2 {
			t.Fatalf("the sender was told at %v, want a delay and a failure", at)
		}
		r := w.report("a@x.example").Recipients[0]
		if r.Action != ehlo.Failed || r.Status != (proto.Status{4, 4, 7}) {
			t.Errorf("the report says %+v", r)
		}
	})
}

// TestFetch keeps mail of a route for a customer, who fetches it (RFC 2645). What his server refuses for now stays.
func TestFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := &queue.Options{
			Route: func(_ *queue.Message, to proto.Address) string {
				if to.Domain.ASCII() == "y.example" {
					return "customer"
				}
				return ""
			},
			Routes: map[string]client.Sender{"customer": nil},
		}
		w := newWorld(t, opt)
		for i := range 5 {
			w.add("a@x.example", "", fmt.Sprintf("b%d@y.example,c@z.example", i), "NOTIFY=NEVER")
		}
		time.Sleep(24 * time.Hour)
		if n := w.queued(); n != 5 || len(w.at("b0@y.example")) != 0 {
			t.Fatalf("%d messages wait", n)
		}
		var got []string
		customer := client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
			o := proto.Outcome{Recipient: m.To[0], Reply: proto.Reply{Code: 250}}
			if m.To[0].Address.Local == "b3" {
				o.Err = later
			} else {
				got = append(got, m.To[0].Address.Local)
			}
			return &client.Result{Recipients: []proto.Outcome{o}}, o.Err
		})
		n, err := w.q.Fetch(t.Context(), []string{"customer"}, customer)
		slices.Sort(got) // they have come within one millisecond
		if n != 4 || err != nil || strings.Join(got, " ") != "b0 b1 b2 b4" {
			t.Errorf("fetched %d: %q, %v", n, got, err)
		}
		if n := w.queued(); n != 1 {
			t.Errorf("%d messages are left", n)
		}
		broken := client.SenderFunc(func(context.Context, *client.Message) (*client.Result, error) {
			return nil, &net.OpError{Op: "write", Err: errors.New("broken pipe")}
		})
		if n, err := w.q.Fetch(t.Context(), []string{"customer"}, broken); n != 0 || err == nil {
			t.Errorf("fetched %d over a broken connection: %v", n, err)
		}
		if _, err := w.q.Fetch(t.Context(), []string{"nobody"}, customer); err == nil {
			t.Error("an unknown route was fetched")
		}
		time.Sleep(5 * 24 * time.Hour)
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages have not expired", n)
		}
	})
}

// TestRestart closes the queue at many moments, opens another one over the same store, and counts what is delivered.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.set(only("slow.example", later))
		for i := range 20 {
			w.add("a@x.example", "", fmt.Sprintf("b%d@y.example,b%d@slow.example", i, i), "NOTIFY=NEVER")
			if i%3 == 0 {
				w.close()
				w.open(nil)
			}
		}
		w.set(nil)
		time.Sleep(24 * time.Hour)
		for i := range 20 {
			if at := w.at(fmt.Sprintf("b%d@y.example", i)); len(at) != 1 {
				t.Errorf("b%d was tried at %v", i, at)
			}
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
		w.close()
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
		if _, err := w.q.Add(t.Context(), e, nil); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("Add after Close: %v", err)
		}
		w.open(nil)
	})
}

// TestClose cancels an attempt that does not end. The job is attempted again, and the attempt does not count.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queue.NewMemory()
		stuck := client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		q, err := queue.New(store, stuck, &queue.Options{Hostname: "relay.example"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.NewMessage("a@x.example", []string{"b@y.example"}, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := q.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		list, _, err := store.List(t.Context(), queue.Filter{}, queue.JobID{}, 10)
		if err != nil || len(list) != 1 || list[0].Job.Attempts != 0 || list[0].Job.Due.After(time.Now()) {
			t.Errorf("the store has %+v, %v", list, err)
		}
	})
}

// TestSuspendDestination suspends one of two domains that have the same servers, in another case.
func TestSuspendDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Site: func(context.Context, proto.Domain) (string, error) {
			return "mx.example", nil
		}})
		if err := w.q.Suspend(t.Context(), "Y.example", time.Now().Add(time.Hour), ""); err != nil {
			t.Fatal(err)
		}
		w.add("", "", "b@y.example,c@z.example", "")
		time.Sleep(59 * time.Minute)
		w.add("", "", "b@y.example", "")
		if y, z := w.at("b@y.example"), w.at("c@z.example"); len(y) != 0 || len(z) != 1 {
			t.Errorf("y was tried at %v, z at %v", y, z)
		}
		if err := w.q.Suspend(t.Context(), "y.example", time.Time{}, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if y := w.at("b@y.example"); len(y) != 2 {
			t.Errorf("y was tried at %v", y)
		}
	})
}
