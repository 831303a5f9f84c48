package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// TestUselessConnections: a server that hangs up behind its reply to EHLO is told of, and not dialled again and again.
func TestUselessConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{farewell: "421 4.7.0 not now", patience: time.Millisecond}
		pool := newPool(t, p, &Options{Trace: &Trace{
			Opened: func(string, *client.Client, error) { time.Sleep(2 * time.Millisecond) }, // who is slow to use what it has
		}})
		ctx, cancel := context.WithCancel(t.Context())
		p.dialed = func(n int) error {
			if n > 20 {
				cancel()
			}
			return nil
		}
		_, err := pool.Send(ctx, named("m"))
		var refused *proto.Error
		if !errors.As(err, &refused) || refused.Code != 421 || !client.SafeToRetry(err) || conns(p) > 4 {
			t.Errorf("%v after %d connections", err, conns(p))
		}
		cancel()
		closePool(t, pool, p)
	})
}

// TestSendAllLetsGo: what SendAll has not yet told the outcome of does not keep connections from others.
func TestSendAllLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[2], delay: time.Millisecond}
		pool := newPool(t, p, &Options{MaxConnsPerHost: 1, IdleTimeout: time.Minute})
		var batch sync.WaitGroup
		told := 0
		batch.Go(func() {
			_ = pool.SendAll(t.Context(), func(yield func(*client.Message) bool) {
				if yield(named("first")) {
					time.Sleep(time.Hour) // until there is another message
					yield(named("last"))
				}
			}, func(_ *client.Message, _ *client.Result, err error) bool {
				if err != nil {
					t.Error(err)
				}
				told++
				return true
			})
		})
		time.Sleep(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := pool.Send(ctx, named("other")); err != nil {
			t.Errorf("a message of another goroutine: %v", err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := pool.Stats(); s.Conns != 0 {
			t.Errorf("a connection with nothing to do is kept: %+v", s)
		}
		batch.Wait()
		if told != 2 || p.count("last") != 1 {
			t.Errorf("%d outcomes", told)
		}
		closePool(t, pool, p)
	})
}

// TestSendAllStalled: a connection that is stuck does not keep a batch from the others.
func TestSendAllStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var once atomic.Bool
		p := &peer{keywords: features[2], delay: 100 * time.Millisecond, harm: func(step string) harm {
			return harm{stall: step == "MAIL" && once.CompareAndSwap(false, true)}
		}}
		opt := p.options()
		opt.Timeouts = client.AllTimeouts(time.Hour)
		pool, err := New(addr, opt, &Options{MaxConnsPerHost: 2, MaxMessages: -1})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		taken := 0
		_ = pool.SendAll(t.Context(), func(yield func(*client.Message) bool) {
			for range 200 {
				if !yield(named(fmt.Sprint("m", taken))) {
					return
				}
				taken++
				time.Sleep(100 * time.Millisecond)
			}
			if d := time.Since(start); d > time.Minute {
				t.Errorf("the others took %v", d)
			}
		}, func(*client.Message, *client.Result, error) bool { return true })
		closePool(t, pool, p)
	})
}

// TestSendAllPanics: Close does not wait for messages of a SendAll that is no more.
func TestSendAllPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[2], delay: time.Millisecond}
		pool := newPool(t, p, nil)
		func() {
			defer func() {
				if r := recover(); r != "no more" {
					t.Errorf("recovered %v", r)
				}
			}()
			_ = pool.SendAll(t.Context(), func(yield func(*client.Message) bool) {
				for range 10 {
					yield(named("m"))
				}
				panic("no more")
			}, func(*client.Message, *client.Result, error) bool { return true })
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		p.all.Wait()
	})
}

// TestCloseWhileLeaving: Close keeps to its context if a server does not answer QUIT.
func TestCloseWhileLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[1], harm: func(step string) harm { return harm{stall: step == "QUIT"} }}
		opt := p.options()
		opt.Timeouts = client.AllTimeouts(time.Hour)
		pool, err := New(addr, opt, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Send(t.Context(), named("m")); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := pool.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
		p.all.Wait()
	})
}

// TestCloseDuringDial: that Close cuts off the making of a connection is no refusal of the server's.
func TestCloseDuringDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{keywords: features[2], delay: time.Millisecond}
		limited := 0
		opt := p.options()
		dial := opt.DialContext
		opt.DialContext = func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			if conns(p) == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, addr)
		}
		pool, err := New(addr, opt, &Options{MaxConnsPerHost: 2, Trace: &Trace{
			Limited: func(string, int, error) { limited++ },
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Send(t.Context(), named("m")); err != nil {
			t.Error(err)
		}
		var senders sync.WaitGroup
		for range 2 {
			senders.Go(func() { _, _ = pool.Send(t.Context(), named("m")) })
		}
		senders.Wait()
		closePool(t, pool, p)
		if limited > 0 {
			t.Error("Close counts as a refusal")
		}
	})
}

// TestHalfReplaced: if a message is sent over another connection, and some recipients get it and its Body then fails,
// the outcome says so.
func TestHalfReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		p := &peer{keywords: []string{"PIPELINING", "LIMITS RCPTMAX=1"}, harm: func(step string) harm {
			return harm{close: step == "MAIL" && dead.CompareAndSwap(true, false)}
		}}
		pool := newPool(t, p, nil)
		if _, err := pool.Send(t.Context(), named("first")); err != nil {
			t.Error(err)
		}
		dead.Store(true)
		m := named("second")
		m.To = append(m.To, m.To[0])
		opened := 0
		m.Body = client.OpenBody(func() (io.ReadCloser, error) {
			if opened++; opened > 2 {
				return nil, errors.New("gone")
			}
			return io.NopCloser(strings.NewReader("second\r\n")), nil
		})
		res, err := pool.Send(t.Context(), m)
		if p.count("second") != 1 || res.Sent() != 1 || client.SafeToRetry(err) {
			t.Errorf("accepted %d times, %d recipients reported; %v", p.count("second"), res.Sent(), err)
		}
		closePool(t, pool, p)
	})
}

// TestBodyPanics: a panic of a Body reaches the caller of Send, and nobody else.
func TestBodyPanics(t *testing.T) {
	for _, keywords := range features {
		synctest.Test(t, func(t *testing.T) {
			p := &peer{keywords: keywords, delay: time.Millisecond}
			pool := newPool(t, p, nil)
			for _, size := range []int{0, 200_000} {
				m := named("m")
				m.Body = io.MultiReader(strings.NewReader(strings.Repeat("x\r\n", size)), panicking{})
				func() {
					defer func() {
						if r := recover(); r != "unreadable" {
							t.Errorf("recovered %v", r)
						}
					}()
					_, err := pool.Send(t.Context(), m)
					t.Errorf("Send: %v", err)
				}()
				if _, err := pool.Send(t.Context(), named("another")); err != nil {
					t.Error(err)
				}
			}
			if n := p.count("x"); n > 0 {
				t.Error("half a message was accepted")
			}
			closePool(t, pool, p)
		})
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("unreadable") }

// TestIdleDropped: a server that says 421 to a connection that has nothing to do wants no fewer connections, even if a
// message comes in at the same time.
func TestIdleDropped(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			p := &peer{keywords: features[2], farewell: "421 4.4.2 idle for too long", patience: 20 * time.Second}
			limited := 0
			pool := newPool(t, p, &Options{Trace: &Trace{Limited: func(string, int, error) { limited++ }}})
			for range 2 {
				if _, err := pool.Send(t.Context(), named("m")); err != nil {
					t.Error(err)
				}
				time.Sleep(20 * time.Second) // the farewell comes at the same time as the next message
			}
			closePool(t, pool, p)
			if limited > 0 {
				t.Error("an idle connection that was dropped counts as a refusal")
			}
		})
	}
}
