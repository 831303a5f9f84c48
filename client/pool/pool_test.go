package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

var features = [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}}

func newPool(t *testing.T, p *peer, with *Options) *Pool {
	t.Helper()
	pool, err := New(addr, p.options(), with)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// closePool closes a pool, and checks that nothing of it is left at the peer.
func closePool(t *testing.T, pool *Pool, p *peer) {
	t.Helper()
	if err := pool.Close(context.Background()); err != nil {
		t.Errorf("Close: %v", err)
	}
	p.all.Wait()
	if _, open, _ := p.figures(); open > 0 {
		t.Errorf("%d connections are left", open)
	}
}

func conns(p *peer) int {
	n, _, _ := p.figures()
	return n
}

// TestSharesFlights: 32 goroutines share 4 connections, so that messages do not wait for the round trips of others.
func TestSharesFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt, goroutines, each = 50 * time.Millisecond, 32, 50
		p := &peer{keywords: features[2], delay: rtt}
		pool := newPool(t, p, &Options{MaxMessages: -1})
		start := time.Now()
		var senders sync.WaitGroup
		for g := range goroutines {
			senders.Go(func() {
				for i := range each {
					if _, err := pool.Send(t.Context(), named(fmt.Sprintf("m%d-%d", g, i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		senders.Wait()
		// Each goroutine waits for its outcomes one after the other: no less than a round trip each. A connection that takes
		// one message at a time would take eight times as long.
		trips := int(time.Since(start) / rtt)
		if conns, _, most := p.figures(); conns != 4 || most != 4 || trips > 2*each+10 {
			t.Errorf("%d round trips for %d messages a goroutine; %d connections, %d at once", trips, each, conns, most)
		}
		closePool(t, pool, p)
	})
}

// TestGrowsAndShrinks: there are as many connections as there is use for.
func TestGrowsAndShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[1], delay: time.Millisecond}
		pool := newPool(t, p, &Options{IdleTimeout: time.Minute})
		send := func(n int) {
			var senders sync.WaitGroup
			for i := range n {
				senders.Go(func() {
					if _, err := pool.Send(t.Context(), named(fmt.Sprint("m", i))); err != nil {
						t.Error(err)
					}
				})
			}
			senders.Wait()
			synctest.Wait()
		}
		for range 10 {
			send(1)
		}
		if s := pool.Stats(); s.Conns != 1 || s.Idle != 1 || s.Opened != 1 || s.Sent != 10 {
			t.Errorf("one message at a time: %+v", s)
		}
		send(20)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if s := pool.Stats(); s.Conns != 4 || s.Idle != 4 || s.Waiting != 0 || s.Sending != 0 {
			t.Errorf("twenty at a time: %+v", s)
		}
		for range 5 { // which take the connection that was used last
			time.Sleep(20 * time.Second)
			send(1)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := pool.Stats(); s.Conns != 1 {
			t.Errorf("one at a time again: %+v", s)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := pool.Stats(); s != (Stats{Opened: 4, Sent: 35}) {
			t.Errorf("after a silence: %+v", s)
		}
		closePool(t, pool, p)
	})
}

// TestBoundsOfConnection: a connection gets so many messages, and for so long.
func TestBoundsOfConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[2], delay: time.Millisecond}
		pool := newPool(t, p, &Options{MaxMessages: 10, MaxConnsPerHost: 2})
		var senders sync.WaitGroup
		for i := range 100 {
			senders.Go(func() { _, _ = pool.Send(t.Context(), named(fmt.Sprint("m", i))) })
		}
		senders.Wait()
		closePool(t, pool, p)
		if slices.Max(p.perConn) != 10 || len(p.perConn) < 10 || p.most > 2 { // nobody uses p any longer
			t.Errorf("the connections got %v messages, %d at once", p.perConn, p.most)
		}

		p = &peer{keywords: []string{"PIPELINING", "CHUNKING", "LIMITS MAILMAX=5"}, delay: time.Millisecond}
		pool = newPool(t, p, &Options{MaxConnsPerHost: 2})
		for i := range 100 {
			senders.Go(func() {
				if _, err := pool.Send(t.Context(), named(fmt.Sprint("m", i))); err != nil {
					t.Errorf("a server that states a limit: %v", err)
				}
			})
		}
		senders.Wait()
		closePool(t, pool, p)
		if slices.Max(p.perConn) > 5 || p.most > 2 {
			t.Errorf("with MAILMAX=5 the connections got %v messages, %d at once", p.perConn, p.most)
		}

		p = &peer{keywords: features[2]}
		pool = newPool(t, p, &Options{MaxAge: time.Minute, IdleTimeout: -1})
		for range 7 {
			_, _ = pool.Send(t.Context(), named("x"))
			time.Sleep(25 * time.Second)
		}
		closePool(t, pool, p)
		if want := []int{4, 3}; !slices.Equal(p.perConn, want) && len(p.perConn) != 2 {
			t.Errorf("the connections got %v messages in their minute", p.perConn)
		}
	})
}

// TestDeadConnection: a connection that the server has closed while it was idle is replaced, and nobody is told.
func TestDeadConnection(t *testing.T) {
	for _, keywords := range features {
		synctest.Test(t, func(t *testing.T) {
			var dead atomic.Bool
			p := &peer{keywords: keywords, harm: func(step string) harm {
				if step == "MAIL" && dead.CompareAndSwap(true, false) {
					return harm{close: true}
				}
				return harm{}
			}}
			var told []error
			pool := newPool(t, p, &Options{Trace: &Trace{
				Replaced: func(_ string, _ *client.Message, err error) { told = append(told, err) },
			}})
			if _, err := pool.Send(t.Context(), named("first")); err != nil {
				t.Error(err)
			}
			time.Sleep(20 * time.Second)
			dead.Store(true)
			if _, err := pool.Send(t.Context(), named("second")); err != nil {
				t.Errorf("%v: %v", keywords, err)
			}
			if p.count("second") != 1 || len(told) != 1 || pool.Stats().Replaced != 1 {
				t.Errorf("%v: accepted %d times, replaced by %v", keywords, p.count("second"), told)
			}
			dead.Store(true)
			m := named("third") // whose content cannot be read again
			m.Body = iotest.DataErrReader(strings.NewReader("third\r\n"))
			time.Sleep(20 * time.Second)
			if _, err := pool.Send(t.Context(), m); err == nil || isUsed(err) {
				t.Errorf("%v: a message that cannot be sent again: %v", keywords, err)
			}
			closePool(t, pool, p)
		})
	}
}

// TestFreshConnection: what happens on a connection that was made for a message is told as it is.
func TestFreshConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{harm: func(step string) harm { return harm{close: step == "MAIL"} }}
		pool := newPool(t, p, nil)
		_, err := pool.Send(t.Context(), named("m"))
		var lost *client.LostError
		if !errors.As(err, &lost) || conns(p) != 1 {
			t.Errorf("%v after %d connections", err, conns(p))
		}
		closePool(t, pool, p)
	})
}

// TestTooManyConnections: if the server refuses a connection, the pool keeps to those that it has, and says why. It
// tries again later.
func TestTooManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *peer
		var open atomic.Int32
		p = &peer{keywords: features[2], delay: time.Millisecond, harm: func(step string) harm {
			if step == "greeting" && open.Add(1) > 2 {
				return harm{reply: "421 4.7.0 too many connections", close: true}
			}
			return harm{}
		}}
		limits := make(chan int, 100)
		pool := newPool(t, p, &Options{Pause: time.Minute, IdleTimeout: time.Hour, Trace: &Trace{
			Limited: func(_ string, n int, _ error) { limits <- n },
		}})
		burst := func() {
			var senders sync.WaitGroup
			for i := range 20 {
				senders.Go(func() {
					if _, err := pool.Send(t.Context(), named(fmt.Sprint("m", i))); err != nil {
						t.Error(err)
					}
				})
			}
			senders.Wait()
		}
		burst()
		time.Sleep(time.Second)
		s := pool.Stats()
		var refused *proto.Error
		if s.Conns != 2 || s.Limit == 0 || !errors.As(s.Refusal, &refused) || refused.Code != 421 || len(limits) == 0 {
			t.Errorf("%+v, and %d limits were told", s, len(limits))
		}
		before := conns(p)
		burst()
		if n := conns(p); n != before {
			t.Errorf("%d more connections within the pause", n-before)
		}
		open.Store(-100)
		time.Sleep(2 * time.Minute)
		if s := pool.Stats(); s.Limit != 0 || s.Refusal != nil {
			t.Errorf("after the pause: %+v", s)
		}
		burst()
		if conns(p) == before {
			t.Error("no more connections after the pause")
		}
		closePool(t, pool, p)
	})
}

// TestNoConnection: if no connection can be made, all that waits is told why, and later messages try again.
func TestNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("connection refused")
		var down atomic.Bool
		down.Store(true)
		p := &peer{dialed: func(int) error {
			if down.Load() {
				time.Sleep(time.Second)
				return refused
			}
			return nil
		}}
		pool := newPool(t, p, nil)
		var senders sync.WaitGroup
		for range 50 {
			senders.Go(func() {
				_, err := pool.Send(t.Context(), named("m"))
				if !errors.Is(err, refused) || !client.SafeToRetry(err) || !client.Temporary(err) {
					t.Errorf("%v", err)
				}
			})
		}
		senders.Wait()
		if n := conns(p); n > 4 {
			t.Errorf("%d attempts", n)
		}
		down.Store(false)
		if _, err := pool.Send(t.Context(), named("m")); err != nil {
			t.Error(err)
		}
		closePool(t, pool, p)
	})
}

// TestOrder: those who wait are served in their order, and who gives up is out of it.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{delay: time.Second} // which takes one message at a time
		pool := newPool(t, p, &Options{MaxConnsPerHost: 1})
		var mu sync.Mutex
		var order []int
		var senders sync.WaitGroup
		for i := range 6 {
			senders.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				if i == 3 {
					ctx, cancel = context.WithTimeout(ctx, time.Second)
				}
				defer cancel()
				_, err := pool.Send(ctx, named(fmt.Sprint("m", i)))
				if i == 3 {
					if !errors.Is(err, context.DeadlineExceeded) || !client.SafeToRetry(err) || p.count("m3") > 0 {
						t.Errorf("who gave up: %v", err)
					}
					return
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
		}
		senders.Wait()
		if want := []int{0, 1, 2, 4, 5}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v", order)
		}
		closePool(t, pool, p)
	})
}

// TestStalled: a connection that is stuck gets no more messages than it has, and those that come later take another.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var once atomic.Bool
		p := &peer{keywords: features[2], delay: time.Millisecond, harm: func(step string) harm {
			return harm{stall: step == "MAIL" && once.CompareAndSwap(false, true)}
		}}
		pool := newPool(t, p, nil)
		var stuck sync.WaitGroup
		stuck.Go(func() {
			if _, err := pool.Send(t.Context(), named("stuck")); err == nil || client.SafeToRetry(err) {
				t.Errorf("stuck: %v", err)
			}
		})
		time.Sleep(2 * time.Second)
		start := time.Now()
		for i := range 10 {
			if _, err := pool.Send(t.Context(), named(fmt.Sprint("m", i))); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("the others took %v", d)
		}
		stuck.Wait()
		closePool(t, pool, p)
	})
}

// TestClose: Close waits for what is on its way, refuses what is new, and keeps to its context.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{delay: time.Second}
		pool := newPool(t, p, &Options{MaxConnsPerHost: 1})
		var senders sync.WaitGroup
		for i := range 3 {
			senders.Go(func() {
				if _, err := pool.Send(t.Context(), named(fmt.Sprint("m", i))); err != nil {
					t.Errorf("a message before Close: %v", err)
				}
			})
		}
		synctest.Wait()
		closePool(t, pool, p)
		senders.Wait()
		if _, err := pool.Send(t.Context(), named("late")); !errors.Is(err, ErrClosed) || !client.SafeToRetry(err) {
			t.Errorf("a message after Close: %v", err)
		}
		if err := pool.Close(t.Context()); err != nil {
			t.Errorf("Close once more: %v", err)
		}
		if _, err := (client.Retry{}).Send(t.Context(), pool, named("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("another attempt by a closed pool: %v", err)
		}

		p = &peer{harm: func(step string) harm { return harm{stall: step == "DATA"} }}
		pool = newPool(t, p, &Options{MaxConnsPerHost: 1})
		for i := range 3 {
			senders.Go(func() {
				if _, err := pool.Send(t.Context(), named(fmt.Sprint("m", i))); !client.SafeToRetry(err) {
					t.Errorf("a message that Close cut off: %v", err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := pool.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
		senders.Wait()
		p.all.Wait()
	})
}

// TestSendAll: a batch goes over all connections. Outcomes are told in the order of the messages.
func TestSendAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[2], delay: 50 * time.Millisecond, harm: func(step string) harm { return harm{} }}
		pool := newPool(t, p, &Options{MaxMessages: -1})
		const messages = 4000
		start, n := time.Now(), 0
		err := pool.SendAll(t.Context(), func(yield func(*client.Message) bool) {
			for i := range messages {
				if !yield(named(fmt.Sprint("m", i))) {
					return
				}
			}
		}, func(m *client.Message, res *client.Result, err error) bool {
			if err != nil || p.count(fmt.Sprint("m", n)) != 1 {
				t.Errorf("message %d: %v", n, err)
			}
			n++
			return true
		})
		conns, _, _ := p.figures()
		if trips := time.Since(start) / p.delay; err != nil || n != messages || conns != 4 || trips > 100 {
			t.Errorf("%d outcomes after %d round trips over %d connections; %v", n, trips, conns, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		taken, told := 0, 0
		err = pool.SendAll(ctx, func(yield func(*client.Message) bool) {
			for taken < 1000 && yield(named("x")) {
				taken++
				if taken == 100 {
					cancel()
				}
			}
		}, func(*client.Message, *client.Result, error) bool { told++; return true })
		if !errors.Is(err, context.Canceled) || told < taken || taken > 101 {
			t.Errorf("%d taken, %d told; %v", taken, told, err)
		}
		closePool(t, pool, p)
	})
}

// TestGroup: the connections of a group have one bound. An idle one makes place for another server.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[1], delay: time.Millisecond}
		g := NewGroup(&Options{MaxConns: 3, IdleTimeout: time.Hour})
		opt := p.options()
		var senders sync.WaitGroup
		for i := range 60 {
			pool, err := g.Pool(fmt.Sprintf("host%d.example:25", i%10), opt)
			if err != nil {
				t.Fatal(err)
			}
			senders.Go(func() {
				if _, err := pool.Send(t.Context(), named(fmt.Sprint("m", i))); err != nil {
					t.Error(err)
				}
			})
		}
		senders.Wait()
		if _, _, most := p.figures(); most != 3 {
			t.Errorf("%d connections at once", most)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		p.all.Wait()
	})
}
