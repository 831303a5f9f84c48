package mtasts

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

func ahead(o *Options) { o.MaxRefreshes = 2 }

// TestRefreshAhead: a policy is fetched anew when half of its life is over, and each day, also if the DNS hides that
// there is one (RFC 8461 section 10.2).
func TestRefreshAhead(t *testing.T) {
	tests := []struct {
		name    string
		maxAge  int
		dns     string
		each    time.Duration
		problem string
	}{
		{"each day", 604800, `"v=STSv1; id=1"`, day, "-"},
		{"at half of the life", 7200, `"v=STSv1; id=1"`, time.Hour, "-"},
		{"another id", 604800, `"v=STSv1; id=2"`, day, "-"},
		{"without a record", 604800, `"v=spf1 -all"`, day, "sts-policy-fetch-error"},
		{"without a DNS", 604800, `SERVFAIL`, day, "sts-policy-fetch-error"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, ahead, func(b *bench) {
				b.web.set(host, text("enforce", test.maxAge))
				b.expect("example.org", "enforce - 1")
				b.record(test.dns)
				time.Sleep(test.each - time.Second)
				if n := b.web.fetches(); n != 0 {
					t.Errorf("%d fetches too early", n)
				}
				time.Sleep(time.Minute)
				if n := b.web.fetches(); n != 1 {
					t.Errorf("%d fetches", n)
				}
				time.Sleep(10*test.each - time.Hour/2)
				if n := b.web.fetches(); n < 9 || n > 10 {
					t.Errorf("%d fetches in ten times", n)
				}
				b.expect("example.org", "enforce "+test.problem+" 0") // its first life is over
				if test.problem != "-" {
					b.record(`"v=STSv1; id=1"`)
					time.Sleep(time.Minute)
					b.expect("example.org", "enforce - 0") // the id that is known, though it was hidden
				}
			})
		})
	}
}

// TestRefreshFails: the operator learns of it long before the policy expires.
func TestRefreshFails(t *testing.T) {
	inBubble(t, ahead, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.remove(host)
		time.Sleep(day + time.Minute)
		b.expect("example.org", "enforce sts-policy-fetch-error 1")
		line := b.logged()
		if strings.Count(line, "\n") != 1 || !strings.Contains(line, "level=WARN") || !strings.Contains(line, "domain=example.org") ||
			!strings.Contains(line, "expires=2000-01-08") || !strings.Contains(line, "connection refused") {
			t.Errorf("the log has %q", line)
		}
		asked := b.dns.Total()
		time.Sleep(day)
		if n := b.dns.Total() - asked; n > 28 {
			t.Errorf("%d questions in a day", n)
		}
		if n := b.web.fetches(); n < 24 || n > 28 { // 5, 15, 35, 75 minutes, then each hour
			t.Errorf("%d fetches in a day", n)
		}
		time.Sleep(6 * day) // the policy has expired
		b.web.fetches()
		time.Sleep(day)
		if n := b.web.fetches(); n != 0 {
			t.Errorf("%d fetches of a policy that has expired", n)
		}
	})
}

// TestRefreshNone: nobody hears of a domain that has given up MTA-STS.
func TestRefreshNone(t *testing.T) {
	inBubble(t, ahead, func(b *bench) {
		b.web.set(host, text("none", 604800))
		b.expect("example.org", "- - 1")
		b.web.remove(host)
		time.Sleep(6 * day)
		if n := b.web.fetches(); n != 0 || b.logged() != "" {
			t.Errorf("%d fetches, log %q", n, b.logged())
		}
	})
}

// TestRefreshUnused: a policy is refreshed for as long as somebody asks for it.
func TestRefreshUnused(t *testing.T) {
	inBubble(t, ahead, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		time.Sleep(30*day + time.Hour)
		if n := b.web.fetches(); n < 28 || n > 30 {
			t.Errorf("%d fetches in 30 days", n)
		}
		time.Sleep(30 * day)
		synctest.Wait()
		if n := b.web.fetches(); n != 0 || len(b.memos) != 0 {
			t.Errorf("%d fetches in the 30 days after, %d domains remembered", n, len(b.memos))
		}
	})
}

// TestRefreshMany: hosts that hang do not take more than their part of the refreshes, and all others get theirs.
func TestRefreshMany(t *testing.T) {
	inBubble(t, ahead, func(b *bench) {
		for i := range 40 {
			domain := fmt.Sprintf("d%d.example", i)
			b.dns.Set("_mta-sts." + domain + ` TXT "v=STSv1; id=1"`)
			b.web.set("mta-sts."+domain, text("enforce", 604800))
			b.expect(domain, "enforce - 1")
		}
		for i := range 20 {
			b.web.set(fmt.Sprintf("mta-sts.d%d.example", i), "hang")
		}
		b.web.mu.Lock()
		b.web.most = 0
		b.web.mu.Unlock()
		time.Sleep(day + 2*time.Hour)
		seen := make(map[string]bool)
		b.web.mu.Lock()
		for _, asked := range b.web.asked {
			seen[asked] = true
		}
		b.web.mu.Unlock()
		if len(seen) != 40 || b.web.most != 2 {
			t.Errorf("%d hosts were asked, %d at once", len(seen), b.web.most)
		}
	})
}

// TestRestart: a new process goes on with the policies that the last one left, and with its refreshing.
func TestRestart(t *testing.T) {
	store := MemoryStore(0)
	inBubble(t, func(o *Options) { o.Store = store }, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.Close()
		unused := entry("unused.example", "1")
		unused.Fetched, unused.Used = time.Now(), time.Now().Add(-31*day)
		save(b.T, store, unused)
		again, err := New(&Options{Resolver: b.dns, RoundTripper: b.web, Store: store})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		time.Sleep(day + time.Minute)
		if n := b.web.fetches(); n != 1 {
			t.Errorf("%d fetches for a policy of the process before", n)
		}
		e, err := store.Load(b.Context(), "example.org")
		if err != nil || !e.Fetched.After(time.Now().Add(-2*time.Minute)) || !e.Used.Equal(time.Now().Add(-day-time.Minute)) {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// TestTwoProcesses: what one process has refreshed, another one with the same Store does not.
func TestTwoProcesses(t *testing.T) {
	store := MemoryStore(0)
	inBubble(t, func(o *Options) { o.Store = store; o.MaxRefreshes = 1 }, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		time.Sleep(time.Second)
		other, err := New(&Options{Resolver: b.dns, RoundTripper: b.web, Store: store})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if f := lookup(b.T, other, "example.org"); f.Policy == nil {
			t.Error(f.Problem)
		}
		b.web.set(host, text("testing", 604800))
		time.Sleep(10*day + 10*time.Minute)
		if n := b.web.fetches(); n != 10 {
			t.Errorf("%d fetches in ten days", n)
		}
		for _, c := range []*Cache{b.Cache, other} {
			if f := lookup(b.T, c, "example.org"); f.Policy.Mode != Testing {
				t.Errorf("%s", describe(f.Policy))
			}
		}
	})
}

// TestClockSet: a policy that was fetched in the future applies, is fetched anew, and then expires in its time.
func TestClockSet(t *testing.T) {
	store := MemoryStore(0)
	inBubble(t, func(o *Options) { o.Store = store; ahead(o) }, func(b *bench) {
		future := &Entry{Domain: "example.org", ID: "1", Policy: &Policy{Mode: Testing, MX: []string{"mx.example.org"}, MaxAge: day}}
		future.Fetched = time.Now().Add(1000 * day)
		if err := store.Save(context.Background(), future); err != nil {
			t.Fatal(err)
		}
		b.expect("example.org", "testing - 0")
		time.Sleep(time.Minute)
		synctest.Wait()
		b.expect("example.org", "enforce - 1")
	})
}

// TestAsksTheDNS: the resolver has the cache, so that its TTL says how soon a new id is seen.
func TestAsksTheDNS(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for range 5 {
			lookup(b.T, b.Cache, "example.org")
		}
		if n := b.dns.Asked("_mta-sts.example.org", dns.TXT); n != 5 {
			t.Errorf("%d questions", n)
		}
	})
}

// TestX09_SameID: a policy whose TXT record has the same id is not fetched again by those who ask, and its life goes on
// from the fetch, not from the question: max_age counts from there (RFC 8461 sections 3.1, 3.2).
func TestX09_SameID(t *testing.T) {
	store := MemoryStore(0)
	inBubble(t, func(o *Options) { o.Store = store }, func(b *bench) {
		first := b.expect("example.org", "enforce - 1")
		began := time.Now()
		if !first.Fetched.Equal(began) {
			t.Errorf("fetched at %v", first.Fetched)
		}
		for range 6 {
			time.Sleep(day)
			asked := b.dns.Asked("_mta-sts.example.org", dns.TXT)
			b.refresh("example.org", "enforce - 0")
			if f := b.expect("example.org", "enforce - 0"); !f.Fetched.Equal(began) || f.ID != first.ID {
				t.Errorf("fetched at %v, id %s", f.Fetched, f.ID)
			}
			if n := b.dns.Asked("_mta-sts.example.org", dns.TXT) - asked; n != 2 {
				t.Errorf("%d questions", n)
			}
			e, err := store.Load(b.Context(), "example.org")
			if err != nil || !e.Fetched.Equal(began) {
				t.Errorf("the Store has %+v: %v", e, err)
			}
		}
		b.web.remove(host)
		time.Sleep(time.Until(began.Add(7*day - time.Second)))
		b.refresh("example.org", "enforce - 0")
		time.Sleep(2 * time.Second)
		b.refresh("example.org", "- sts-policy-fetch-error 1") // its max_age is over
	})
}

// TestX09_SameIDAfterFailure: who asks again for a policy with the id that is known learns that another one could not
// be fetched only as long as the TXT record announces that one.
func TestX09_SameIDAfterFailure(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.remove(host)
		b.record(`"v=STSv1; id=2"`)
		b.refresh("example.org", "enforce sts-policy-fetch-error 1")
		b.record(`"v=STSv1; id=1"`)
		b.refresh("example.org", "enforce - 0")
	})
	inBubble(t, ahead, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.web.remove(host)
		time.Sleep(day + time.Minute)
		b.refresh("example.org", "enforce sts-policy-fetch-error 1") // that of the fetch ahead, with the same id
	})
}
