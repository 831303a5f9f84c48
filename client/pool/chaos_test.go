package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
)

// TestChaos: whatever the server does, each message has one outcome, and it is true.
func TestChaos(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(seed), 9))
			p := &peer{keywords: features[rnd.IntN(3)], delay: time.Millisecond, harm: random(rnd, 6+rnd.IntN(40))}
			chaos(t, p, 32, 10)
		})
	}
}

// TestChaosLoopback is TestChaos over TCP. No descriptor is left.
func TestChaosLoopback(t *testing.T) {
	before := descriptors(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	any := random(rnd, 20)
	p := &peer{keywords: features[2], loopback: true, harm: func(step string) harm {
		h := any(step)
		h.stall = false // which would take its time
		return h
	}}
	chaos(t, p, 32, 20)
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, and %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // a system that has none
	}
	return len(list)
}

// chaos sends messages by goroutines, and compares what the pool says of them with what p has accepted.
func chaos(t *testing.T, p *peer, goroutines, each int) {
	t.Helper()
	pool := newPool(t, p, &Options{MaxMessages: 7, Pause: time.Second})
	var senders sync.WaitGroup
	var sent, lost, doubt, left atomic.Int32
	for g := range goroutines {
		senders.Go(func() {
			for i := range each {
				name := fmt.Sprintf("m%d-%d", g, i)
				ctx, cancel := context.WithCancel(context.Background())
				if i%5 == 4 { // whose sender has no patience
					ctx, cancel = context.WithTimeout(ctx, time.Duration(1+g)*time.Millisecond/4)
				}
				res, err := pool.Send(ctx, named(name))
				cancel()
				if res == nil || len(res.Recipients) != 1 || (err == nil) != (res.Sent() == 1) {
					t.Errorf("%s: result %v, error %v", name, res, err)
				}
				switch n := p.count(name); {
				case n > 1:
					t.Errorf("%s was accepted %d times", name, n)
				case err == nil && n != 1:
					t.Errorf("%s was reported as sent, and not accepted", name)
				case err != nil && client.SafeToRetry(err) && n != 0:
					t.Errorf("%s was accepted, and reported as not: %v", name, err)
				case err == nil:
					sent.Add(1)
				case client.SafeToRetry(err):
					lost.Add(1)
				default:
					doubt.Add(1)
				}
				if ctx.Err() != nil && err != nil {
					left.Add(1)
				}
			}
		})
	}
	senders.Wait()
	closePool(t, pool, p)
	if sent.Load() == 0 {
		t.Error("nothing was sent")
	}
	for g := range goroutines { // once nothing can come any more
		for i := range each {
			if name := fmt.Sprintf("m%d-%d", g, i); p.count(name) > 1 {
				t.Errorf("%s was accepted %d times", name, p.count(name))
			}
		}
	}
	t.Logf("%d sent, %d refused or lost, %d in doubt, %d given up", sent.Load(), lost.Load(), doubt.Load(), left.Load())
}
