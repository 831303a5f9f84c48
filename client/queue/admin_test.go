package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext"
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
		if j.State != queue.Held || j.Why != "a look at it" || len(j.To) != 1 || j.To[0].Address.Local != "c" || j.Attempts != 1 {
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
			if len(sites) != 1 || sites[0].Suspension == nil || !sites[0].ByOperator || sites[0].Suspension.Why != "they asked for it" {
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
		if _, err := w.q.Add(t.Context(), &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}}, nil); !errors.Is(err, queue.ErrClosed) {
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

// TestLimits fills the queue up to each of its limits.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits queue.Limits
		want   int // how many of ten messages of one tag are taken
	}{
		{"none", queue.Limits{}, 10},
		{"messages", queue.Limits{Messages: 4}, 4},
		{"octets", queue.Limits{Octets: 2*int64(len(text)) + 1}, 3},
		{"share", queue.Limits{Messages: 8, Share: 0.25}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &queue.Options{Limits: tt.limits})
			w.set(func(proto.Address) error { return later })
			taken := 0
			for range 10 {
				e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}, Tag: "mallory"}
				_, err := w.q.Add(t.Context(), e, strings.NewReader(text))
				if err == nil {
					taken++
					continue
				}
				var refused *proto.Error
				if !errors.As(err, &refused) || refused.Code != 452 || refused.Status != (proto.Status{4, 3, 1}) {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
			if taken != tt.want {
				t.Errorf("%s: %d messages were taken, want %d", tt.name, taken, tt.want)
			}
			if tt.limits.Share > 0 {
				e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}, Tag: "alice"}
				if _, err := w.q.Add(t.Context(), e, strings.NewReader(text)); err != nil {
					t.Errorf("%s: another sender: %v", tt.name, err)
				}
			}
		})
	}
}

// A flaky is a store that fails on demand.
type flaky struct {
	*queue.Memory
	add, update atomic.Bool
}

var errDisk = errors.New("input/output error")

func (f *flaky) Add(ctx context.Context, e *queue.Entry) error {
	if f.add.Load() {
		return errDisk
	}
	return f.Memory.Add(ctx, e)
}

func (f *flaky) Update(ctx context.Context, l queue.Lease, c []queue.Change) error {
	if f.update.Load() {
		return errDisk
	}
	return f.Memory.Update(ctx, l, c)
}

// TestBroken has the store fail. Mail is refused with 452, outcomes are not forgotten, and nobody gets a message twice.
func TestBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Memory: queue.NewMemory()}
		w := &world{t: t, begin: time.Now()}
		var err error
		if w.q, err = queue.New(store, client.SenderFunc(w.send), &queue.Options{
			Hostname: "relay.example", MaxActive: 10, Logger: slog.New(slog.DiscardHandler),
		}); err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.add("", "", "b@y.example", "")
		time.Sleep(time.Second)
		store.update.Store(true)
		taken := make(chan bool)
		w.set(func(proto.Address) error {
			<-taken
			return nil
		})
		for i := range 50 {
			w.add("", "", fmt.Sprintf("c%d@y.example", i), "")
		}
		close(taken)
		time.Sleep(time.Hour)
		tried := len(w.tries())
		if tried > 1+10 { // one was written
			t.Errorf("%d attempts were made whose outcome cannot be written", tried)
		}
		store.add.Store(true)
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "d@y.example")}}}
		for range 3 {
			var refused *proto.Error
			if _, err := w.q.Add(t.Context(), e, nil); !errors.As(err, &refused) || refused.Code != 452 {
				t.Errorf("Add: %v", err)
			}
		}
		store.add.Store(false)
		store.update.Store(false)
		time.Sleep(time.Hour)
		for i := range 50 {
			if at := w.at(fmt.Sprintf("c%d@y.example", i)); len(at) != 1 {
				t.Errorf("c%d was tried at %v", i, at)
			}
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestAddErrors has Add fail for what the caller gives it. Nothing is kept.
func TestAddErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		to := []proto.Recipient{{Address: address(t, "b@y.example")}}
		cut := errors.New("the client hung up")
		long := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), iotest.ErrReader(cut))
		for _, tt := range []struct {
			e    *queue.Envelope
			body io.Reader
			want string
		}{
			{&queue.Envelope{}, nil, "554 5.5.1"},
			{&queue.Envelope{To: []proto.Recipient{{}}}, nil, "501 5.1.3"},
			{&queue.Envelope{To: to, ID: "../../etc/passwd"}, nil, "no ID"},
			{&queue.Envelope{To: []proto.Recipient{{Address: proto.Address{Local: "postmaster"}}}}, nil, "no domain"},
			{&queue.Envelope{To: to}, iotest.ErrReader(cut), cut.Error()},
			{&queue.Envelope{To: to}, long, cut.Error()},
		} {
			if _, err := w.q.Add(t.Context(), tt.e, tt.body); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Add returned %v, want %q", err, tt.want)
			}
		}
		w.add("", "", "b@y.example", "") // the queue is not broken
		time.Sleep(time.Second)
		if n := w.queued(); n != 0 || len(w.tries()) != 1 {
			t.Errorf("%d messages are left, %d were tried", n, len(w.tries()))
		}
	})
}

// TestPassing looks at the parameters that are sent on.
func TestPassing(t *testing.T) {
	for _, tt := range []struct {
		mail, rcpt, without string
		wantMail, wantRcpt  string
	}{
		{"BODY=8BITMIME SIZE=33 AUTH=<>", "", "", "", ""},
		{"RET=HDRS ENVID=x", "NOTIFY=FAILURE ORCPT=rfc822;b@c", "", "RET=HDRS ENVID=x", "NOTIFY=FAILURE ORCPT=rfc822;b@c"},
		{"RET=HDRS ENVID=x MT-PRIORITY=3", "NOTIFY=FAILURE ORCPT=rfc822;b@c", "DSN RET ENVID NOTIFY ORCPT", "MT-PRIORITY=3", ""},
		{"MT-PRIORITY=3 REQUIRETLS", "", "MT-PRIORITY MT-PRIORITY", "REQUIRETLS", ""},
		{"BY=100;N", "", "", "BY=90;N", ""},
		{"BY=100;N", "NOTIFY=FAILURE", "DELIVERBY BY", "", "NOTIFY=FAILURE,DELAY"},
		{"BY=5;N", "", "", "BY=-5;N", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.without = strings.Fields(tt.without)
			if err := w.q.Suspend(t.Context(), "y.example", time.Now().Add(10*time.Second), ""); err != nil {
				t.Fatal(err)
			}
			w.add("", tt.mail, "b@y.example", tt.rcpt)
			time.Sleep(10 * time.Second)
			if err := w.q.Suspend(t.Context(), "y.example", time.Time{}, ""); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			a := w.last("b@y.example")
			if got := words(a.mail); got != tt.wantMail {
				t.Errorf("%s: MAIL has %q, want %q", tt.mail, got, tt.wantMail)
			}
			if got := words(a.rcpt); got != tt.wantRcpt {
				t.Errorf("%s: RCPT has %q, want %q", tt.mail, got, tt.wantRcpt)
			}
		})
	}
}

func words(p proto.Params) string {
	var list []string
	for _, param := range p {
		if param.HasValue {
			list = append(list, param.Key+"="+param.Value)
		} else {
			list = append(list, param.Key)
		}
	}
	return strings.Join(list, " ")
}

// TestFutureRelease holds a message until its time (RFC 4865).
func TestFutureRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.add("a@x.example", "HOLDFOR=86400", "b@y.example", "")
		time.Sleep(48 * time.Hour)
		if at := w.at("b@y.example"); len(at) != 1 || at[0] < 24*time.Hour || at[0] > 24*time.Hour+time.Second {
			t.Errorf("tried at %v", at)
		}
	})
}

// TestSessionRefused has a smarthost refuse the session for good: the password has expired, or TLS does not work. That
// is no reason to give mail back.
func TestSessionRefused(t *testing.T) {
	for _, err := range []error{
		&ext.AuthError{Err: proto.Refuse(535, proto.Status{5, 7, 8}, "Authentication failed")},
		&ext.TLSError{Err: errors.New("x509: certificate has expired")},
		&proto.Error{Code: 554, Verb: "greeting", Text: "go away"},
		&proto.Error{Code: 550, Verb: "EHLO", Text: "who are you?"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
			w.set(only("y.example", err))
			for range 20 {
				w.add("a@x.example", "", "b@y.example", "")
			}
			time.Sleep(3 * time.Hour)
			if n := w.queued(); n != 20 {
				t.Errorf("%v: %d of 20 messages are left", err, n)
			}
			if n := len(w.at("b@y.example")); n > 40 {
				t.Errorf("%v: %d attempts in 3 hours", err, n)
			}
			w.set(nil)
			time.Sleep(5 * time.Hour)
			if n := w.queued(); n != 0 {
				t.Errorf("%v: %d messages are left", err, n)
			}
		})
	}
}
