package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// over makes a world whose queue is over a store with hooks, which set fills in.
func over(t *testing.T, opt *queue.Options, set func(h *hook)) (*world, *hook) {
	w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
	h := &hook{Memory: w.store}
	if set != nil {
		set(h)
	}
	w.openOver(h, client.SenderFunc(w.send), opt)
	t.Cleanup(w.close)
	return w, h
}

// TestAddInDoubt has the caller of Add go away after the store has the message. Nobody knows that, but the message is
// delivered, also while its destination has always something to do.
func TestAddInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w, _ := over(t, nil, func(h *hook) {
			h.add = func(c context.Context, e *queue.Entry) error {
				err := h.Memory.Add(context.WithoutCancel(c), e)
				if c == ctx {
					cancel()
					return ctx.Err()
				}
				return err
			}
		})
		w.add("", "", "first@y.example", "")
		synctest.Wait()
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "doubt@y.example")}}}
		if _, err := w.q.Add(ctx, e, nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for i := range 20 {
			time.Sleep(500 * time.Millisecond)
			w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
		}
		if at := w.at("doubt@y.example"); len(at) != 1 || at[0] > 5*time.Second {
			t.Errorf("tried at %v", at)
		}
	})
}

// TestBrokenWithoutMail has the store fail to add a message. No more mail comes, but what is queued is attempted when
// the store can be written again: until then one attempt tries that, whose outcome is not forgotten.
func TestBrokenWithoutMail(t *testing.T) {
	for _, fails := range []bool{false, true} { // the store goes on to fail
		synctest.Test(t, func(t *testing.T) {
			var bad atomic.Bool
			w, _ := over(t, nil, func(h *hook) {
				h.add = func(ctx context.Context, e *queue.Entry) error {
					if e.Jobs[0].Destination == "bad.example" {
						return errDisk
					}
					return h.Memory.Add(ctx, e)
				}
				h.update = func(ctx context.Context, l queue.Lease, c []queue.Change) error {
					if bad.Load() {
						return errDisk
					}
					return h.Memory.Update(ctx, l, c)
				}
			})
			w.set(func(proto.Address) error { return later })
			for i := range 10 {
				w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
			}
			time.Sleep(time.Minute)
			w.set(nil)
			e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "c@bad.example")}}}
			if _, err := w.q.Add(t.Context(), e, nil); err == nil {
				t.Fatal("added")
			}
			began := time.Now()
			if since, err := w.q.Outage(); !since.Equal(began) || err != errDisk {
				t.Errorf("the outage is since %v for %v, want %v", since, err, began)
			}
			bad.Store(fails)
			time.Sleep(time.Hour)
			if since, err := w.q.Outage(); since.IsZero() == fails || fails && !since.Equal(began) {
				t.Errorf("fails %v: after an hour the outage is since %v for %v", fails, since, err)
			}
			want := 20
			if fails {
				want = 11
			}
			if n := len(w.tries()); n != want {
				t.Errorf("fails %v: %d attempts, want %d", fails, n, want)
			}
			bad.Store(false)
			time.Sleep(time.Hour)
			if n := len(w.tries()); n != 20 || w.queued() != 0 {
				t.Errorf("fails %v: %d attempts, %d messages are left", fails, n, w.queued())
			}
		})
	}
}

// TestFullDisk has no room on the disk for more mail. What is queued is delivered all the same.
func TestFullDisk(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		fullDisk(t, err)
	}
}

func fullDisk(t *testing.T, full error) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := over(t, nil, func(h *hook) {
			h.add = func(ctx context.Context, e *queue.Entry) error {
				if e.Jobs[0].Destination == "bad.example" {
					return &os.PathError{Op: "write", Path: "m", Err: full}
				}
				return h.Memory.Add(ctx, e)
			}
		})
		w.set(func(proto.Address) error { return later })
		w.add("", "", "b@y.example", "")
		time.Sleep(time.Minute)
		w.set(nil)
		for range 20 {
			e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "c@bad.example")}}}
			var refused *proto.Error
			if _, err := w.q.Add(t.Context(), e, nil); !errors.As(err, &refused) || refused.Code != 452 {
				t.Fatal(err)
			}
			if since, _ := w.q.Outage(); !since.IsZero() {
				t.Fatalf("%v stops attempts", full)
			}
			time.Sleep(time.Minute)
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%v: %d messages are left", full, n)
		}
	})
}

// TestEditWhileReading changes jobs while the scheduler reads them, or while they are added. What the operator has
// said holds from when his call returns.
func TestEditWhileReading(t *testing.T) {
	ctx := context.Background()
	for name, edit := range map[string]func(q *queue.Queue) (int, error){
		"hold":   func(q *queue.Queue) (int, error) { return q.Hold(ctx, queue.Filter{To: "b@y.example"}, "") },
		"drop":   func(q *queue.Queue) (int, error) { return q.Drop(ctx, queue.Filter{To: "b@y.example"}) },
		"expire": func(q *queue.Queue) (int, error) { return q.Expire(ctx, queue.Filter{To: "b@y.example"}) },
	} {
		for _, adding := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				read, edited := make(chan bool, 1), make(chan bool)
				stop := func(to proto.Address) {
					if to.Local == "b" {
						read <- true
						<-edited
					}
				}
				w, _ := over(t, nil, func(h *hook) {
					h.take = func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
						jobs, err := h.Memory.Take(ctx, l, q)
						if len(jobs) > 0 && !adding && !q.AlarmsOnly {
							stop(jobs[0].To[0].Address)
						}
						return jobs, err
					}
					h.add = func(ctx context.Context, e *queue.Entry) error {
						err := h.Memory.Add(ctx, e)
						if adding {
							stop(e.Jobs[0].To[0].Address)
						}
						return err
					}
				})
				if adding {
					w.add("", "", "first@y.example", "") // so that there is a lease
					synctest.Wait()
				}
				added := make(chan bool)
				go func() {
					defer close(added)
					w.add("", "", "b@y.example", "")
				}()
				<-read
				if n, err := edit(w.q); n != 1 || err != nil {
					t.Errorf("%s: %d, %v", name, n, err)
				}
				close(edited)
				<-added
				time.Sleep(24 * time.Hour)
				if at := w.at("b@y.example"); len(at) != 0 {
					t.Errorf("%s, adding %v: tried at %v", name, adding, at)
				}
				if n := w.queued(); (n == 1) != (name == "hold") {
					t.Errorf("%s, adding %v: %d messages are left", name, adding, n)
				}
			})
		}
	}
}

// TestEditElsewhere changes one job of many, while an attempt at another destination takes an hour. What waits there
// does not wait for that attempt.
func TestEditElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Policy: queue.Policy{Rate: 1}})
		w.set(func(to proto.Address) error {
			if to.Local == "slow" {
				time.Sleep(time.Hour)
			}
			return nil
		})
		w.add("", "", "slow@y.example", "")
		time.Sleep(time.Second)
		for i := range 50 {
			w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
		}
		id := w.add("", "HOLDFOR=86400", "c@z.example", "")
		for _, f := range []queue.Filter{{IDs: []queue.ID{id}}, {To: "c@z.example"}, {Destination: "z.example"}} {
			if n, err := w.q.Hold(t.Context(), f, ""); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		time.Sleep(time.Minute)
		if n := len(w.tries()); n != 50 {
			t.Errorf("%d of 50 have been tried", n)
		}
	})
}

// TestResumeAtOnce suspends a site whose attempt is under way, and resumes it. Its mail goes when the attempt is over,
// or at once.
func TestResumeAtOnce(t *testing.T) {
	for _, busy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			released, resumed := make(chan bool, 10), make(chan bool)
			w, _ := over(t, nil, func(h *hook) {
				h.release = func(ctx context.Context, l queue.Lease, notBefore time.Time) error {
					if !notBefore.IsZero() && !busy {
						released <- true
						<-resumed
					}
					return h.Memory.Release(ctx, l, notBefore)
				}
			})
			w.set(func(to proto.Address) error {
				if to.Local == "slow" {
					time.Sleep(10 * time.Second)
				}
				return nil
			})
			local := "fast"
			if busy {
				local = "slow"
			}
			w.add("", "", local+"@y.example", "")
			time.Sleep(500 * time.Millisecond)
			if err := w.q.Suspend(t.Context(), "y.example", time.Now().Add(time.Hour), ""); err != nil {
				t.Fatal(err)
			}
			w.add("", "", "b@y.example", "")
			if !busy {
				<-released
			}
			if err := w.q.Suspend(t.Context(), "y.example", time.Time{}, ""); err != nil {
				t.Fatal(err)
			}
			close(resumed)
			time.Sleep(11 * time.Second)
			if at := w.at("b@y.example"); len(at) != 1 {
				t.Errorf("busy %v: tried at %v", busy, at)
			}
		})
	}
}

// TestFetchAndClose closes the queue while mail is fetched. The attempt under way ends, or is cancelled, and no other
// one begins.
func TestFetchAndClose(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &queue.Options{
				Route:  func(*queue.Message, proto.Address) string { return "customer" },
				Routes: map[string]client.Sender{"customer": nil},
			})
			for i := range 10 {
				w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
			}
			attempts := 0
			fetched := make(chan error)
			go func() {
				_, err := w.q.Fetch(t.Context(), []string{"customer"}, client.SenderFunc(
					func(ctx context.Context, m *client.Message) (*client.Result, error) {
						attempts++
						if hangs {
							<-ctx.Done()
							return nil, ctx.Err()
						}
						time.Sleep(10 * time.Second)
						return &client.Result{Recipients: make([]proto.Outcome, len(m.To))}, nil
					}))
				fetched <- err
			}()
			time.Sleep(time.Second)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := w.q.Close(ctx); (err != nil) != hangs {
					t.Errorf("hangs %v: Close: %v", hangs, err)
				}
			}()
			if err := <-fetched; !errors.Is(err, queue.ErrClosed) && !errors.Is(err, context.Canceled) {
				t.Errorf("hangs %v: Fetch: %v", hangs, err)
			}
			if attempts != 1 {
				t.Errorf("hangs %v: %d attempts", hangs, attempts)
			}
			synctest.Wait()
			u, err := w.store.Usage(t.Context(), "", true)
			if want := map[bool]int64{true: 10, false: 9}[hangs]; err != nil || u.Messages != want {
				t.Errorf("hangs %v: %d messages are left, want %d, %v", hangs, u.Messages, want, err)
			}
			w.openOver(w.store, client.SenderFunc(w.send), nil) // for close
		})
	}
}

// TestFetchCounts fetches mail of which some is refused for good. That is not counted.
func TestFetchCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{
			Route:  func(*queue.Message, proto.Address) string { return "customer" },
			Routes: map[string]client.Sender{"customer": nil},
		})
		w.add("", "", "b@y.example,c@y.example,d@y.example", "")
		n, err := w.q.Fetch(t.Context(), []string{"customer"}, client.SenderFunc(
			func(_ context.Context, m *client.Message) (*client.Result, error) {
				r := &client.Result{Recipients: make([]proto.Outcome, len(m.To))}
				r.Recipients[0].Err = proto.Refuse(550, proto.Status{5, 1, 1}, "no")
				r.Recipients[1].Err = later
				return r, nil
			}))
		if n != 1 || err != nil {
			t.Errorf("fetched %d, %v", n, err)
		}
	})
}

// TestCloseWhileAdding closes the queue while a client that adds a message is silent. That does not keep it.
func TestCloseWhileAdding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		r, hangs := io.Pipe()
		added := make(chan error)
		go func() {
			e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
			_, err := w.q.Add(t.Context(), e, r)
			added <- err
		}()
		synctest.Wait()
		w.close()
		hangs.Close()
		if err := <-added; !errors.Is(err, queue.ErrClosed) {
			t.Errorf("Add: %v", err)
		}
		w.open(nil)
	})
}

// TestIdleCalls counts how often the queue asks the store while there is little to do.
func TestIdleCalls(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  queue.Options
		jobs int
		do   func(w *world)
		most int64 // in an hour
	}{
		{name: "nothing is queued", do: func(*world) {}, most: 0},
		{name: "all is late", jobs: 100, opt: queue.Options{Policy: queue.Policy{Retry: []time.Duration{5 * time.Hour}}},
			do: func(w *world) { w.set(func(proto.Address) error { return later }) }, most: 0},
		{name: "an operator has suspended", jobs: 100, do: func(w *world) {
			if err := w.q.Suspend(w.t.Context(), "y.example", time.Now().Add(10*time.Hour), ""); err != nil {
				w.t.Error(err)
			}
		}, most: 60},
		{name: "nobody answers", jobs: 100, do: func(w *world) {
			w.set(func(proto.Address) error { return errors.New("connection refused") })
		}, most: 300},
		{name: "an attempt takes long", jobs: 1, do: func(w *world) {
			w.set(func(proto.Address) error { time.Sleep(10 * time.Hour); return nil })
		}, most: 250 * (1 + queue.Lanes)},
		{name: "the rate is low", jobs: 100, opt: queue.Options{Policy: queue.Policy{Rate: 0.001}}, do: func(*world) {},
			most: 250 * (1 + queue.Lanes)},
		{name: "it is fetched on demand", jobs: 100, do: func(*world) {}, most: 0, opt: queue.Options{
			Route:  func(*queue.Message, proto.Address) string { return "customer" },
			Routes: map[string]client.Sender{"customer": nil},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, h := over(t, &tt.opt, nil)
				tt.do(w)
				for i := range tt.jobs {
					w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
				}
				time.Sleep(time.Minute)
				calls := h.calls.Load()
				time.Sleep(time.Hour)
				if n := h.calls.Load() - calls; n > tt.most {
					t.Errorf("%d calls in an hour, want %d at most", n, tt.most)
				} else {
					t.Logf("%d calls in an hour", n)
				}
			})
		})
	}
}

// TestSlowSites has many sites whose attempts take very long. Mail for another one has an attempt at once.
func TestSlowSites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(func(domain string) error {
			if domain != "good.example" {
				time.Sleep(5 * time.Minute)
			}
			return nil
		})
		q := c.open(t, queue.Options{})
		for n := range 200 {
			for i := range 15 {
				put(t, q, "", fmt.Sprintf("r%d@s%d.example", n, i))
			}
		}
		for i := range 5 {
			time.Sleep(17 * time.Minute)
			put(t, q, "", fmt.Sprintf("b%d@good.example", i))
			before := time.Since(c.begin)
			time.Sleep(10 * time.Second)
			c.mu.Lock()
			if at, ok := c.first[fmt.Sprintf("b%d@good.example", i)]; !ok || at > before+time.Second {
				t.Errorf("b%d had the message after %v, %v", i, at-before, ok)
			}
			c.mu.Unlock()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.first); n < 1600 { // a hundred attempts in five minutes are 1700 in this time
			t.Errorf("%d messages were delivered", n)
		}
	})
}

// TestBadPolicyFor has PolicyFor return a pause of nothing. That does not make attempts without an end.
func TestBadPolicyFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{PolicyFor: func(_ string, p queue.Policy) queue.Policy {
			p.Retry = []time.Duration{0}
			return p
		}})
		w.set(func(proto.Address) error { return later })
		w.add("", "", "b@y.example", "")
		time.Sleep(time.Hour)
		if n := len(w.at("b@y.example")); n < 2 || n > 10 {
			t.Errorf("%d attempts in an hour", n)
		}
	})
}
