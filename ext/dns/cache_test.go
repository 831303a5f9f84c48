package dns_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"smtpkit.example/smtp/ext/dns"
)

// TestCache says for how long answers are kept.
func TestCache(t *testing.T) {
	negative := func(rcode dnsmessage.RCode, ttl, minimum uint32) func(*query) {
		return func(q *query) {
			q.reply(q.answer(), func(m *dnsmessage.Message) {
				m.RCode = rcode
				m.Authorities = []dnsmessage.Resource{soa("example.", ttl, minimum)}
			})
		}
	}
	for _, tt := range []struct {
		name  string
		serve func(*query)
		opt   dns.Options
		want  time.Duration
	}{
		{"by TTL", func(q *query) { q.reply(q.answer(a("a.example.", 60, 1), a("a.example.", 50, 2))) }, dns.Options{},
			50 * time.Second},
		{"zero", func(q *query) { q.reply(q.answer(a("a.example.", 0, 1))) }, dns.Options{}, 0},
		{"an hour", func(q *query) { q.reply(q.answer(a("a.example.", 1e6, 1))) }, dns.Options{}, time.Hour},
		{"MaxTTL", func(q *query) { q.reply(q.answer(a("a.example.", 60, 1))) }, dns.Options{MaxTTL: time.Second},
			time.Second},
		{"no MaxTTL", func(q *query) { q.reply(q.answer(a("a.example.", 1e6, 1))) }, dns.Options{MaxTTL: -1},
			1e6 * time.Second},
		{"no such name, by the SOA", negative(dnsmessage.RCodeNameError, 90, 30), dns.Options{}, 30 * time.Second},
		{"no such records, by the TTL of the SOA", negative(0, 20, 30), dns.Options{}, 20 * time.Second},
		{"no such records, for an hour", negative(0, 1e6, 1e6), dns.Options{MaxTTL: 1e6 * time.Second}, time.Hour},
		{"no such records, without SOA", func(q *query) { q.reply(q.answer()) }, dns.Options{}, 0},
		{"too long to keep", func(q *query) { q.reply(q.answer(a("a.example.", 60, 1))) },
			dns.Options{CacheSize: 3000}, 0},
		{"no cache", func(q *query) { q.reply(q.answer(a("a.example.", 60, 1))) }, dns.Options{CacheSize: -1}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{serve: tt.serve}
				s := n.stub(t, tt.opt)
				first := lookup(t.Context(), s, "a.example", dns.A)
				if strings.HasPrefix(first, "error") {
					t.Fatal(first)
				}
				if tt.want > 0 {
					<-time.After(tt.want - time.Second/2)
					answer, err := s.Lookup(t.Context(), "A.example.", dns.A)
					if err != nil || answer.TTL != time.Second/2 {
						t.Errorf("from the cache: %+v, %v", answer, err)
					}
					if got := len(n.asked()); got != 1 {
						t.Errorf("%d queries before the answer is too old", got)
					}
					<-time.After(time.Second / 2)
				}
				n.asked()
				if again := lookup(t.Context(), s, "a.example", dns.A); again != first {
					t.Errorf("got %s, at first %s", again, first)
				}
				if got := len(n.asked()); got != 1 {
					t.Errorf("%d queries after the answer is too old", got)
				}
			})
		})
	}
}

// TestFailures keeps failures for a while, and longer as they come again (RFC 9520 section 3.2).
func TestFailures(t *testing.T) {
	for _, size := range []int{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			fail := true
			n := &network{serve: func(q *query) {
				if fail {
					q.rcode(dnsmessage.RCodeServerFailure, dnsmessage.Option{Code: 15, Data: []byte{0, 6}})
				} else {
					q.reply(q.answer(a(q.name()+".", 60, 1)))
				}
			}}
			s := n.stub(t, dns.Options{CacheSize: size})
			for _, want := range []time.Duration{5, 10, 20, 40, 60, 60, 60, 60} {
				for range 5 {
					_, err := s.Lookup(t.Context(), "a.example", dns.TLSA)
					var e *dns.Error
					if !errors.As(err, &e) || !e.Bogus {
						t.Errorf("got %v", err)
					}
					<-time.After(want * time.Second / 5)
				}
				if got := len(n.asked()); got != 1 {
					t.Errorf("%d queries in %v s", got, int(want))
				}
			}
			fail = false
			if got := lookup(t.Context(), s, "a.example", dns.A); !strings.HasPrefix(got, "a.example secure 1m0s") {
				t.Errorf("another type: got %s", got)
			}
			lookup(t.Context(), s, "a.example", dns.TLSA) // mended: the next failure is the first one again
			<-time.After(2 * time.Minute)
			fail = true
			lookup(t.Context(), s, "a.example", dns.TLSA)
			<-time.After(5 * time.Second)
			n.asked()
			lookup(t.Context(), s, "a.example", dns.TLSA)
			if got := len(n.asked()); got != 1 && size == 0 {
				t.Errorf("%d queries 5 s after a new failure", got)
			}
		})
	}
}

// TestFlight has many that ask the same at once, and some that give up.
func TestFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{serve: func(q *query) {
			<-time.After(3 * time.Second)
			q.reply(q.answer(a(q.name()+".", 60, 1)))
		}}
		s := n.stub(t, dns.Options{})
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				ctx := t.Context()
				if i%2 == 0 { // the first one to ask too
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
					defer cancel()
				}
				_, err := s.Lookup(ctx, "a.example", dns.A)
				if i%2 == 0 && !errors.Is(err, context.DeadlineExceeded) || i%2 != 0 && err != nil {
					t.Errorf("%d: got %v", i, err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if got := n.asked(); len(got) != 1 {
			t.Errorf("asked %v", got)
		}

		// All give up, and the answer is there later.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got := lookup(ctx, s, "b.example", dns.A); !strings.Contains(got, "deadline") {
			t.Errorf("got %s", got)
		}
		if _, err := s.Lookup(ctx, "a.example", dns.A); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a context that has ended: got %v", err)
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		n.asked()
		if got := lookup(t.Context(), s, "b.example", dns.A); !strings.HasPrefix(got, "b.example secure") {
			t.Errorf("got %s", got)
		}
		if got := n.asked(); len(got) != 0 {
			t.Errorf("asked %v", got)
		}
	})
}

// TestFlights bounds how many questions are under way, those that nobody waits for included.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{serve: func(*query) {}}
		s := n.stub(t, dns.Options{Attempts: 1})
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second-1)
		defer cancel()
		var all sync.WaitGroup
		for i := range 2500 {
			all.Go(func() {
				_, err := s.Lookup(ctx, fmt.Sprintf("n%d.example", i), dns.A)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if got := len(n.asked()); got != 2048 {
			t.Errorf("%d questions under way", got)
		}
		_, err := s.Lookup(t.Context(), "later.example", dns.A) // takes the place of one of those
		if took := time.Since(start); took != 6*time.Second || strings.Contains(err.Error(), "needed") {
			t.Errorf("took %v: %v", took, err)
		}
		<-time.After(2 * time.Minute) // the failures are forgotten

		// Of those that wait for a place, all but the first find the question under way, and leave their places free.
		for range 2 {
			n.asked()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for i := range 3000 {
				if i == 2048 {
					synctest.Wait() // all places are taken
				}
				all.Go(func() { lookup(ctx, s, fmt.Sprintf("m%d.example", min(i, 2048)), dns.A) })
			}
			synctest.Wait()
			if got := len(n.asked()); got != 2048 {
				t.Errorf("%d questions under way", got)
			}
			all.Wait()
			if got := len(n.asked()); got != 1 {
				t.Errorf("%d questions for the place of one", got)
			}
			<-time.After(2 * time.Minute) // the failures are forgotten
		}
	})
}

// TestDeadZones has zones without an answer, more than there are places, before some whose answers take half a second.
func TestDeadZones(t *testing.T) {
	for _, tt := range []struct {
		places, dead int
		most         time.Duration // for how long they hold up others
	}{{2048, 2000, time.Second}, {500, 1200, 2 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{serve: func(q *query) {
				if strings.HasPrefix(q.name(), "good") {
					<-time.After(500 * time.Millisecond)
					q.reply(q.answer(a(q.name()+".", 60, 1)))
				}
			}}
			s := n.stub(t, dns.Options{})
			if tt.places != 2048 {
				s.SetPlaces(tt.places)
			}
			var (
				all  sync.WaitGroup
				gave atomic.Int32 // their place to another
			)
			for i := range tt.dead {
				all.Go(func() {
					_, err := s.Lookup(t.Context(), fmt.Sprintf("dead.n%d.example", i), dns.A)
					var e *dns.Error
					if !errors.As(err, &e) || !e.Timeout() {
						t.Errorf("got %v", err)
					}
					if strings.Contains(err.Error(), "the place was needed") {
						gave.Add(1)
					}
				})
			}
			synctest.Wait()
			start := time.Now()
			for i := range 100 {
				all.Go(func() {
					_, err := s.Lookup(t.Context(), fmt.Sprintf("good.n%d.example", i), dns.A)
					if took := time.Since(start); err != nil || took > tt.most+500*time.Millisecond {
						t.Errorf("behind %d zones: %v after %v", tt.dead, err, took)
					}
				})
			}
			all.Wait()
			if got, least := int(gave.Load()), tt.dead-tt.places; got < least || got > max(least+100, 0) {
				t.Errorf("%d of %d gave their places to others, want %d at least", got, tt.dead, least)
			}
		})
	}
}

// TestFreed has those who wait for a place take each that becomes free, at once.
func TestFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{serve: func(q *query) {
			<-time.After(300 * time.Millisecond)
			q.reply(q.answer(a(q.name()+".", 60, 1)))
		}}
		s := n.stub(t, dns.Options{})
		s.SetPlaces(100)
		start := time.Now()
		var all sync.WaitGroup
		for i := range 6 * 100 { // two for each question
			all.Go(func() {
				if _, err := s.Lookup(t.Context(), fmt.Sprintf("n%d.example", i/2), dns.A); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// TestCacheSize forgets what was used longest ago.
func TestCacheSize(t *testing.T) {
	n := &network{serve: func(q *query) { q.reply(q.answer(a(q.name()+".", 60, 1))) }}
	s := n.stub(t, dns.Options{CacheSize: 50000})
	for i := range 1000 {
		lookup(t.Context(), s, "first.example", dns.A)
		lookup(t.Context(), s, fmt.Sprintf("n%d.example", i), dns.A)
	}
	if got := len(n.asked()); got != 1001 {
		t.Errorf("%d queries, want 1001: what is used again is kept", got)
	}
	kept := 0
	for i := range 1000 {
		lookup(t.Context(), s, fmt.Sprintf("n%d.example", 999-i), dns.A)
		if len(n.asked()) > 0 {
			break
		}
		kept++
	}
	if kept < 50 || kept > 200 {
		t.Errorf("%d answers are kept in 50000 octets", kept)
	}
}

// TestAnswerOfOne changes the answer of one caller, which another one has too: only the TTL is its own.
func TestAnswerOfOne(t *testing.T) {
	n := &network{serve: func(q *query) { q.reply(q.answer(a(q.name()+".", 60, 1))) }}
	s := n.stub(t, dns.Options{})
	first, err := s.Lookup(t.Context(), "a.example", dns.A)
	if err != nil {
		t.Fatal(err)
	}
	first.TTL, first.Authentic = 0, false
	if got := lookup(t.Context(), s, "a.example", dns.A); !strings.HasPrefix(got, "a.example secure") {
		t.Errorf("got %s", got)
	}
}
