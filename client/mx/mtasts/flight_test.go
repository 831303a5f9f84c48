package mtasts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// TestBackOff: a host whose policy could not be fetched is left alone for five minutes, then ten, up to an hour, by
// however many messages (RFC 8461 section 3.3).
func TestBackOff(t *testing.T) {
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprintf("cached=%v", cached), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				mode := "-"
				if cached {
					mode = "enforce"
					b.expect("example.org", "enforce - 1")
					b.record(`"v=STSv1; id=2"`)
				}
				b.web.remove(host)
				b.expect("example.org", mode+" sts-policy-fetch-error 1")
				for _, minutes := range []time.Duration{5, 10, 20, 40, 60, 60} {
					time.Sleep(minutes*time.Minute - time.Second)
					b.expect("example.org", mode+" sts-policy-fetch-error 0")
					b.refresh("example.org", mode+" sts-policy-fetch-error 0")
					time.Sleep(time.Second)
					b.expect("example.org", mode+" sts-policy-fetch-error 1")
				}
				// Another id is another policy, but no reason to ask more than each five minutes.
				b.record(`"v=STSv1; id=3"`)
				b.expect("example.org", mode+" sts-policy-fetch-error 0")
				time.Sleep(5 * time.Minute)
				b.expect("example.org", mode+" sts-policy-fetch-error 1")
				b.web.set(host, text("testing", 86400))
				time.Sleep(5 * time.Minute)
				b.expect("example.org", "testing - 1")
				b.expect("example.org", "testing - 0")
				b.web.remove(host)
				b.record(`"v=STSv1; id=4"`)
				b.expect("example.org", "testing sts-policy-fetch-error 1") // a success forgets the failures
			})
		})
	}
}

// TestFailureOfAnotherID: a failure counts for nothing once the domain is back at the policy that is known.
func TestFailureOfAnotherID(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.remove(host)
		b.record(`"v=STSv1; id=2"`)
		b.expect("example.org", "enforce sts-policy-fetch-error 1")
		b.record(`"v=STSv1; id=1"`)
		b.expect("example.org", "enforce - 0")
	})
}

// TestSilentDNS: where the DNS fails not every message waits for it, and the pause is short.
func TestSilentDNS(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.record("TIMEOUT")
		start := time.Now()
		for range 100 {
			b.expect("example.org", "- unreported 0")
		}
		if took := time.Since(start); took != 10*time.Second || b.dns.Asked("_mta-sts.example.org", dns.TXT) != 1 {
			t.Errorf("it took %v", took)
		}
		b.record(`"v=STSv1; id=1"`)
		time.Sleep(30 * time.Second)
		b.expect("example.org", "enforce - 1")
	})
	inBubble(t, nil, func(b *bench) {
		b.dns.Timeout = -1 // a resolver that has no time-out
		b.record("TIMEOUT")
		start := time.Now()
		b.expect("example.org", "- unreported 0")
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestWait: who has a policy waits for news five seconds, and all messages of a burst together no longer than that.
func TestWait(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.set(host, "hang")
		b.record(`"v=STSv1; id=2"`)
		start := time.Now()
		b.expect("example.org", "enforce - 1")
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the first waited for %v", took)
		}
		for range 10 {
			b.expect("example.org", "enforce - 0")
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("all waited for %v", took)
		}
	})
	inBubble(t, func(o *Options) { o.Wait = -1 }, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.set(host, text("testing", 86400))
		b.web.took = time.Second
		b.record(`"v=STSv1; id=2"`)
		start := time.Now()
		lookup(b.T, b.Cache, "example.org")
		if took := time.Since(start); took != 0 {
			t.Errorf("it waited for %v", took)
		}
		time.Sleep(2 * time.Second)
		if f := lookup(b.T, b.Cache, "example.org"); f.Policy.Mode != Testing {
			t.Error("the new policy was not fetched in the background")
		}
	})
}

// TestSingleFlight: one fetch serves all who wait, and goes on when they have left.
func TestSingleFlight(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.web.took = 20 * time.Second
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		if f, err := b.Lookup(ctx, "example.org"); f != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", f, err)
		}
		if f, err := b.Lookup(ctx, "example.org"); f != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", f, err)
		}
		start := time.Now()
		var all sync.WaitGroup
		for _, domain := range []string{"example.org", "EXAMPLE.ORG", "example.org."} {
			all.Go(func() {
				if f := lookup(b.T, b.Cache, domain); f.Policy == nil {
					t.Errorf("%s: %v", domain, f.Problem)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 19*time.Second || b.web.fetches() != 1 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestMaxFetches: so many hosts are asked at once, the others wait, and those with a policy do not.
func TestMaxFetches(t *testing.T) {
	inBubble(t, func(o *Options) { o.MaxFetches = 2 }, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.took = time.Second
		start := time.Now()
		var all sync.WaitGroup
		for _, domain := range []string{"a.example", "b.example", "c.example", "d.example", "e.example"} {
			b.dns.Set("_mta-sts." + domain + ` TXT "v=STSv1; id=1"`)
			b.web.set("mta-sts."+domain, text("testing", 86400))
			all.Go(func() {
				if f := lookup(b.T, b.Cache, domain); f.Policy == nil {
					t.Errorf("%s: %v", domain, f.Problem)
				}
			})
		}
		synctest.Wait()
		if f := lookup(b.T, b.Cache, "example.org"); f.Policy == nil || time.Since(start) != 0 {
			t.Errorf("%s after %v", describe(f.Policy), time.Since(start))
		}
		if f := lookup(b.T, b.Cache, "none.example"); f.Problem != nil || time.Since(start) != 0 {
			t.Errorf("a domain without a policy: %v after %v", f.Problem, time.Since(start))
		}
		b.dns.Set(`_mta-sts.f.example TXT "v=STSv1; id=1"`)
		ctx, cancel := context.WithTimeout(b.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Lookup(ctx, "f.example"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller waits for his turn with %v", err)
		}
		all.Wait()
		if took := time.Since(start); took != 3*time.Second || b.web.most != 2 {
			t.Errorf("it took %v, %d at once", took, b.web.most)
		}
	})
}

// TestHeldUp: domains whose DNS or whose hosts hang do not hold up others for long, however many they are.
func TestHeldUp(t *testing.T) {
	for _, tt := range []struct {
		name    string
		zones   int // without an answer
		hosts   int // that hang
		flights int // 0: as many as there are places
		fetches int // MaxFetches
		most    time.Duration
	}{
		{"zones", 2000, 0, 0, 0, 0},
		{"many zones", 900, 0, 400, 0, 2 * time.Second},
		{"hosts", 0, 1900, 0, 0, 0},
		{"many hosts", 0, 400, 400, 200, 10 * time.Second},
		{"many hosts, many fetches", 0, 500, 400, 600, 0},
		{"many hosts, few fetches", 0, 500, 400, 50, 55 * time.Second}, // and those without a policy do not wait for them
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(o *Options) { o.MaxFetches = tt.fetches }, func(b *bench) {
				if tt.flights > 0 {
					b.flights = newPlaces(tt.flights, patience)
				}
				var all sync.WaitGroup
				for i := range tt.zones + tt.hosts {
					domain := fmt.Sprintf("bad%d.example", i)
					record := `TXT "v=STSv1; id=1"`
					if i < tt.zones {
						record = "TXT TIMEOUT"
					}
					b.dns.Set("_mta-sts." + domain + " " + record)
					b.web.set("mta-sts."+domain, "hang")
					all.Go(func() {
						if f := lookup(b.T, b.Cache, domain); f.Policy != nil || f.Problem == nil {
							t.Errorf("%s: %s, %v", domain, describe(f.Policy), f.Problem)
						}
					})
				}
				synctest.Wait()
				start := time.Now()
				for i := range 100 {
					domain := fmt.Sprintf("good%d.example", i)
					b.dns.Set("_mta-sts." + domain + ` TXT "v=STSv1; id=1"`)
					b.web.set("mta-sts."+domain, text("enforce", 86400))
					all.Go(func() {
						if f := lookup(b.T, b.Cache, domain); f.Policy == nil || time.Since(start) > tt.most {
							t.Errorf("%s: %s, %v after %v", domain, describe(f.Policy), f.Problem, time.Since(start))
						}
					})
					all.Go(func() {
						f := lookup(b.T, b.Cache, fmt.Sprintf("none%d.example", i))
						if f.Problem != nil || time.Since(start) > min(tt.most, 2*time.Second) {
							t.Errorf("%s: %v after %v", f.Domain, f.Problem, time.Since(start))
						}
					})
				}
				all.Wait()
			})
		})
	}
}

// TestFreed: those who wait for a place take each that becomes free, at once. Two may want it for the same domain.
func TestFreed(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.dns.Timeout = 300 * time.Millisecond
		b.dns.Set("*.example TXT TIMEOUT")
		b.flights = newPlaces(100, patience)
		start := time.Now()
		var all sync.WaitGroup
		for i := range 6 * 100 {
			all.Go(func() {
				if f := lookup(b.T, b.Cache, fmt.Sprintf("d%d.example", i/2)); f.Problem == nil {
					t.Error(f)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestLostPlace: a fetch that gives way to another has failed, and a policy that is known applies on.
func TestLostPlace(t *testing.T) {
	inBubble(t, func(o *Options) { o.MaxFetches = 1 }, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.set(host, "hang")
		b.record(`"v=STSv1; id=2"`)
		b.dns.Set("_mta-sts.good.example TXT \"v=STSv1; id=1\"")
		b.web.set("mta-sts.good.example", text("testing", 86400))
		b.web.took = time.Second
		start := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			f, err := b.Refresh(b.Context(), "example.org")
			if err != nil || f.Policy == nil || !errors.Is(f.Problem, errCrowded) || f.Result() != ResultFetchError {
				t.Errorf("%+v, %v", f, err)
			}
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("it gave way after %v", took)
			}
		})
		synctest.Wait()
		b.expect("good.example", "testing - 2")
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("the next one had to wait for %v", took)
		}
		all.Wait()
	})
}

// TestMaxDomains: what is remembered is bounded.
func TestMaxDomains(t *testing.T) {
	inBubble(t, func(o *Options) { o.MaxDomains = 10 }, func(b *bench) {
		for i := range 100 {
			domain := fmt.Sprintf("d%d.example", i)
			b.dns.Set("_mta-sts." + domain + ` TXT "v=STSv1; id=1"`)
			b.expect(domain, "- sts-policy-fetch-error 1")
		}
		if n := len(b.memos); n != 10 || b.order.Len() != 10 {
			t.Errorf("%d domains are remembered", n)
		}
		b.expect("d99.example", "- sts-policy-fetch-error 0")
		b.expect("none.example", "- - 0")
		if b.memos["none.example"] != nil {
			t.Error("a domain without MTA-STS is remembered")
		}
	})
}
