package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
)

// TestGroupChaos: whatever servers and contexts do, each message of a group has a true outcome, with one connection for
// many servers or with several, and none is left waiting.
func TestGroupChaos(t *testing.T) {
	seeds := 30
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { groupChaos(t, rand.New(rand.NewPCG(uint64(seed), 5))) })
	}
}

func groupChaos(t *testing.T, rnd *rand.Rand) {
	p := &peer{keywords: features[rnd.IntN(3)], delay: time.Millisecond,
		harm: random(rand.New(rand.NewPCG(rnd.Uint64(), 6)), 10+rnd.IntN(40))}
	bounds := []int{-1, 1, 2, 5}
	most := bounds[rnd.IntN(4)]
	g := NewGroup(&Options{MaxConns: most, MaxConnsPerHost: bounds[rnd.IntN(4)], MaxMessages: []int{-1, 1, 3, 0}[rnd.IntN(4)],
		IdleTimeout: []time.Duration{-1, 0, time.Millisecond}[rnd.IntN(3)], MaxAge: []time.Duration{-1, 0, time.Second}[rnd.IntN(3)],
		Pause: []time.Duration{-1, 0, time.Second}[rnd.IntN(3)]})
	opt := p.options()
	var senders sync.WaitGroup
	check := func(name string, err error) {
		n := p.count(name)
		if n > 1 || err == nil && n != 1 || err != nil && client.SafeToRetry(err) && n != 0 {
			t.Errorf("%s was accepted %d times: %v", name, n, err)
		}
	}
	for s := range 20 {
		pool, err := g.Pool(fmt.Sprintf("host%d.example:25", s%7), opt)
		if err != nil {
			t.Fatal(err)
		}
		pause, batch := time.Duration(rnd.IntN(30))*time.Millisecond, s%5 == 4
		senders.Go(func() {
			if batch {
				n := 0
				_ = pool.SendAll(t.Context(), func(yield func(*client.Message) bool) {
					for i := 0; i < 10 && yield(named(fmt.Sprintf("m%d-%d", s, i))); i++ {
						time.Sleep(pause)
					}
				}, func(_ *client.Message, _ *client.Result, err error) bool {
					check(fmt.Sprintf("m%d-%d", s, n), err)
					n++
					return true
				})
				return
			}
			for i := range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%3 == 2 {
					ctx, cancel = context.WithTimeout(ctx, pause)
				}
				name := fmt.Sprintf("m%d-%d", s, i)
				_, err := pool.Send(ctx, named(name))
				cancel()
				check(name, err)
				time.Sleep(pause)
			}
		})
	}
	senders.Wait()
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	p.all.Wait()
	if most > 0 && p.most > most {
		t.Errorf("%d connections at once, and %d are permitted", p.most, most)
	}
	for _, h := range g.hosts { // nobody uses g any longer; a host may be kept for its limit
		if len(h.workers) > 0 || h.waiting.Len() > 0 {
			t.Errorf("left: %d connections, %d messages", len(h.workers), h.waiting.Len())
		}
	}
	if g.conns != 0 || g.pending != 0 {
		t.Errorf("counted: %d connections, %d messages", g.conns, g.pending)
	}
}
