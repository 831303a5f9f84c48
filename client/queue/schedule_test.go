package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// order returns the addresses in the order of their attempts.
func (w *world) order() (list []string) {
	for _, a := range w.tries() {
		list = append(list, a.to)
	}
	return list
}

// slow takes a second for each attempt at a domain.
func slow(domain string) func(proto.Address) error {
	return func(to proto.Address) error {
		if to.Domain.ASCII() == domain {
			time.Sleep(time.Second)
		}
		return nil
	}
}

// TestLanes has messages of all priorities wait for one site. They get their shares, and none starves.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Policy: queue.Policy{Window: 1, MaxWindow: 1}})
		if err := w.q.Suspend(t.Context(), "y.example", time.Now().Add(time.Minute), ""); err != nil {
			t.Fatal(err)
		}
		for i := range 60 {
			for _, priority := range []string{"-2", "0", "2", "5"} {
				w.add("", "MT-PRIORITY="+priority, fmt.Sprintf("p%s.%d@y.example", priority, i), "")
			}
		}
		w.set(slow("y.example"))
		if err := w.q.Suspend(t.Context(), "y.example", time.Time{}, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * time.Second)
		got := make(map[string]int)
		for _, to := range w.order()[:60] {
			p, _, _ := strings.Cut(to, ".")
			got[p]++
		}
		for p, want := range map[string]int{"p5": 32, "p2": 16, "p0": 8, "p-2": 4} { // 16 : 8 : 4 : 2
			if n := got[p]; n < want-1 || n > want+1 {
				t.Errorf("%s had %d of 60 attempts, want %d", p, n, want)
			}
		}
	})
}

// TestTurns has a thousand messages wait for one site. Those for others do not wait for them.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{MaxActive: 1})
		w.set(func(proto.Address) error { time.Sleep(time.Second); return nil })
		for i := range 1000 {
			w.add("", "", fmt.Sprintf("b%d@big.example", i), "")
		}
		time.Sleep(10500 * time.Millisecond)
		for i := range 5 {
			w.add("", "", fmt.Sprintf("c@small%d.example", i), "")
		}
		time.Sleep(13 * time.Second)
		for i := range 5 {
			if at := w.at(fmt.Sprintf("c@small%d.example", i)); len(at) != 1 {
				t.Errorf("small%d was tried at %v", i, at)
			}
		}
	})
}

// TestMailing has a message with many recipients at a site. Single messages pass it, and it does not starve.
func TestMailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{MaxRecipients: 10, Policy: queue.Policy{Window: 1, MaxWindow: 1}})
		var to []string
		for i := range 1000 {
			to = append(to, fmt.Sprintf("list%d@y.example", i))
		}
		w.set(func(to proto.Address) error {
			if !strings.HasPrefix(to.Local, "list") || strings.HasSuffix(to.Local, "0") {
				time.Sleep(time.Second) // for each job
			}
			return nil
		})
		w.add("", "", strings.Join(to, ","), "")
		time.Sleep(5500 * time.Millisecond)
		for i := range 10 {
			w.add("", "", fmt.Sprintf("single%d@y.example", i), "")
		}
		time.Sleep(17 * time.Second)
		order := w.order()
		for i := range 10 {
			if !slices.Contains(order, fmt.Sprintf("single%d@y.example", i)) {
				t.Errorf("single message %d has not passed the mailing", i)
			}
		}
		time.Sleep(100 * time.Second)
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestWindow counts how many attempts are made at once.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, first := 0, 0, 0
		w := newWorld(t, nil)
		w.set(func(proto.Address) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		})
		for i := range 500 {
			w.add("", "", fmt.Sprintf("b%d@y.example", i), "")
		}
		time.Sleep(900 * time.Millisecond)
		mu.Lock()
		first = most
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if first != 5 || most != 20 {
			t.Errorf("%d attempts at once at first, and %d at most: want 5 and 20", first, most)
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestRate has a site that permits two attempts in a second.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{PolicyFor: func(site string, p queue.Policy) queue.Policy {
			if site == "y.example" {
				p.Rate = 2
			}
			return p
		}})
		for i := range 20 {
			w.add("", "", fmt.Sprintf("b%d@y.example,b%d@z.example", i, i), "")
		}
		time.Sleep(5 * time.Second)
		y, z := 0, 0
		for _, to := range w.order() {
			if strings.HasSuffix(to, "@y.example") {
				y++
			} else {
				z++
			}
		}
		if y < 10 || y > 11 || z != 20 {
			t.Errorf("%d attempts at the slow site and %d at the other one after 5 seconds, want 10 and 20", y, z)
		}
	})
}

// TestSharedSite has many domains with the same servers, which do not answer. They are one site: a few attempts show
// that it is dead for all of them. When it is back all mail goes.
func TestSharedSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{
			Logger: slog.New(slog.DiscardHandler),
			Site: func(_ context.Context, domain proto.Domain) (string, error) {
				if strings.HasPrefix(domain.ASCII(), "hosted") {
					return "mx.host.example", nil
				}
				return "", errors.New("the DNS does not answer")
			},
		})
		w.set(func(to proto.Address) error {
			if strings.HasPrefix(to.Domain.ASCII(), "hosted") {
				return &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			}
			return nil
		})
		for i := range 1000 {
			w.add("", "", fmt.Sprintf("b@hosted%d.example", i), "")
		}
		w.add("", "", "c@other.example", "")
		time.Sleep(time.Hour)
		if n := len(w.order()); n > 20 {
			t.Errorf("%d attempts were made at the dead site", n)
		}
		if at := w.at("c@other.example"); len(at) != 1 || at[0] > time.Second {
			t.Errorf("the other site was tried at %v", at)
		}
		w.set(nil)
		time.Sleep(time.Hour)
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left an hour after the site is back", n)
		}
	})
}

// TestMemoryIsFull has more jobs due than there is room for in memory, and a site whose last job in memory ends
// meanwhile. When there is room again its other jobs are attempted at once.
func TestMemoryIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{MaxActive: 8, Policy: queue.Policy{Retry: []time.Duration{time.Hour}}})
		first, others := make(chan struct{}), make(chan struct{})
		w.set(func(to proto.Address) error {
			switch to.Local {
			case "first":
				<-first
			case "other":
				<-others
			case "late":
				return later
			}
			return nil
		})
		w.add("a@x.example", "BY=600;N", "late@z.example", "")
		w.add("", "", "first@y.example", "")
		synctest.Wait()
		for i := range 45 * 500 {
			w.add("", "", fmt.Sprintf("other@large%d.example", i%45), "")
		}
		synctest.Wait()
		for i := range 600 { // what is leased for the first time has a look at its jobs in any case
			w.add("", "", fmt.Sprintf("other@small%d.example", i), "")
		}
		time.Sleep(time.Second)
		loaded := 0
		for _, s := range w.q.Sites() {
			loaded += s.Loaded
		}
		if loaded < 20000 {
			t.Errorf("%d jobs are in memory, want it to be full", loaded)
		}
		time.Sleep(10 * time.Minute)
		jobs, _, err := w.q.List(t.Context(), queue.Filter{To: "late@z.example"}, queue.JobID{}, 1)
		if err != nil || len(jobs) != 1 || !jobs[0].Job.Told {
			t.Errorf("%v, %v: the sender is not told of a delay while memory is full", jobs, err)
		}
		w.add("", "", "last@y.example", "")
		close(first)
		time.Sleep(time.Second)
		if n := len(w.at("last@y.example")); n != 0 {
			t.Error("there was room in memory")
		}
		close(others)
		time.Sleep(time.Second)
		if n := len(w.at("last@y.example")); n != 1 {
			t.Errorf("%d attempts when there was room in memory again, want 1", n)
		}
	})
}

// TestLastAttemptBeforeDeadline has a message whose sender wants it back if it is not delivered in time (RFC 2852). It
// is attempted once more when there is just enough time for that, and not afterwards.
func TestLastAttemptBeforeDeadline(t *testing.T) {
	for by, last := range map[time.Duration]time.Duration{
		40 * time.Minute:  39 * time.Minute,
		100 * time.Second: 90 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.set(func(to proto.Address) error {
				if to.Local == "b" {
					return later
				}
				return nil
			})
			w.add("a@x.example", fmt.Sprintf("BY=%d;R", int(by.Seconds())), "b@y.example", "")
			time.Sleep(by - time.Second)
			at := w.at("b@y.example")
			if d := at[len(at)-1] - last; d < 0 || d > time.Second {
				t.Errorf("BY of %v: attempts at %v, want the last one at %v", by, at, last)
			}
			time.Sleep(3 * time.Hour)
			if n := len(w.at("b@y.example")); n != len(at) {
				t.Errorf("BY of %v: %d attempts after its time", by, n-len(at))
			}
			if r := w.report("a@x.example"); r.Recipients[0].Status != (proto.Status{5, 4, 7}) {
				t.Errorf("BY of %v: the report is %+v", by, r)
			}
		})
	}
}

// TestManyDestinations has a message for each of more destinations than are leased at once. They need not wait for
// those that have nothing more to do.
func TestManyDestinations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		const n = 20000
		for i := range n {
			w.add("", "", fmt.Sprintf("a@d%d.example", i), "")
		}
		time.Sleep(500 * time.Millisecond)
		if tries := len(w.tries()); tries != n {
			t.Errorf("%d of %d messages were attempted in half a second", tries, n)
		}
	})
}
