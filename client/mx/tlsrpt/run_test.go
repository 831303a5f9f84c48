package tlsrpt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

const asked = `_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:reports@example.net"` + "\n"

// running runs c in the background until the test ends, or stop is called.
func running(t *testing.T, c *Collector) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() { stop() })
	return stop
}

// midnight is the end of the first day in a bubble.
var midnight = time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)

// TestX22X24_Run runs a day with two hundred domains that ask for reports and some that do not.
func TestX22X24_Run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{}
		zone := "_smtp._tls.two.example. TXT \"v=TLSRPTv1;rua=mailto:a@b.example\"\n" +
			"_smtp._tls.two.example. TXT \"v=TLSRPTv1;rua=mailto:c@b.example\"\n"
		for i := range 200 {
			zone += fmt.Sprintf("_smtp._tls.d%d.example. TXT \"v=TLSRPTv1; rua=https://r.example/%d\"\n", i, i)
		}
		var dropped []string
		c := collector(t, func(o *Options) {
			sends(v, zone)(o)
			o.Trace = &Trace{Dropped: func(_ context.Context, r *Report, err error) {
				dropped = append(dropped, fmt.Sprint(r.Domain, " ", err))
			}}
			o.Concurrency = 1
		})
		stop := running(t, c)
		for i := range 200 {
			c.Record(Event{Domain: fmt.Sprintf("d%d.example", i)})
		}
		for _, silent := range []string{"none.example", "two.example", "sub.d1.example", "example"} {
			c.Record(Event{Domain: silent})
		}
		synctestUntil(midnight.Add(24*time.Hour - time.Second))
		if err := stop(); err != nil {
			t.Error(err)
		}
		slices.Sort(v.posts)
		if len(v.posts) != 200 || len(slices.Compact(v.posts)) != 200 || len(v.mails) != 0 {
			t.Errorf("%d posts, %d mails", len(v.posts), len(v.mails))
		}
		slices.Sort(dropped)
		want := []string{"example <nil>", "none.example <nil>", "sub.d1.example <nil>", "two.example <nil>"}
		if !slices.Equal(dropped, want) {
			t.Errorf("dropped %q", dropped)
		}
		early, late := 0, 0
		for _, at := range v.at {
			switch d := at.Sub(midnight); {
			case d < 0 || d > 4*time.Hour+10*time.Minute:
				t.Errorf("a report at %v", at)
			case d < 2*time.Hour:
				early++
			default:
				late++
			}
		}
		if early < 50 || late < 50 { // of 200 by chance; the odds against are 1 to 10^12
			t.Errorf("%d reports in the first half of the time, %d in the second", early, late)
		}
		if s := c.Stats(); s.Domains != 0 || s.Waiting != 0 {
			t.Errorf("%+v is left", s)
		}
	})
}

// TestX24_DelayNone sends at once, five minutes after midnight.
func TestX24_DelayNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{}
		c := collector(t, func(o *Options) { sends(v, asked)(o); o.MaxDelay = -1 })
		running(t, c)
		c.Record(Event{Domain: "example.org"})
		synctestUntil(midnight.Add(4 * time.Minute))
		c.Record(Event{Domain: "example.org", Time: midnight.Add(-time.Second)}) // its session took long
		synctestUntil(midnight.Add(7 * time.Minute))
		if len(v.mails) != 1 || !strings.Contains(v.mails[0], "Succeeded: 2\r\n") {
			t.Fatalf("%q", v.mails)
		}
		c.Record(Event{Domain: "example.org", Time: midnight.Add(-time.Second)}) // too late, so it counts for today
		synctestUntil(midnight.Add(24*time.Hour + 7*time.Minute))
		if len(v.mails) != 2 || !strings.Contains(v.mails[1], "Succeeded: 1\r\n") ||
			!strings.Contains(v.mails[1], "!946771200!946857599!") {
			t.Errorf("%q", v.mails)
		}
	})
}

// TestX32_Retry makes destinations fail in many ways.
func TestX32_Retry(t *testing.T) {
	const mail, post = "reports@example.net", "https://r.example/x"
	const both = `_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:reports@example.net,https://r.example/x"` + "\n"
	always := func(err error) func(int) error { return func(int) error { return err } }
	after := func(n int, err error) func(int) error {
		return func(i int) error {
			if i < n {
				return err
			}
			return nil
		}
	}
	hang := &dns.Error{Name: "r.example", Type: dns.A, Err: context.DeadlineExceeded}
	for _, tt := range []struct {
		name, zone string
		mail, post func(attempt int) error
		mails      int // attempts
		posts      int
		accepted   int
	}{
		{"X32 both accept", both, always(nil), always(nil), 1, 1, 2},
		{"X32 one accepts", both, always(nil), always(statusCode(503)), 1, 1, 1},
		{"X32 the other accepts", both, always(refusal(451)), always(nil), 1, 1, 1},
		{"X32 later", both, after(2, refusal(451)), after(3, statusCode(503)), 3, 3, 1},
		{"X32 never", both, always(refusal(451)), always(errors.New("no route")), 10, 10, 0},
		{"X32 one refused for good", both, always(refusal(550)), after(2, statusCode(429)), 3, 3, 1},
		{"X32 the other refused for good", both, after(2, refusal(451)), always(statusCode(404)), 3, 3, 1},
		{"X32 both refused for good", both, always(refusal(550)), always(statusCode(404)), 1, 1, 0},
		{"X31 redirect", both, always(refusal(550)), always(statusCode(307)), 1, 1, 0},
		{"X31 200", both, always(refusal(550)), always(statusCode(200)), 1, 1, 1},
		{"X31 408", both, always(refusal(550)), after(1, statusCode(408)), 2, 2, 1},
		{"address not found", both, always(refusal(550)), after(1, hang), 2, 2, 1},
		{"record not found", "_smtp._tls.example.org. TXT SERVFAIL\n", nil, nil, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := map[string]int{}
				v := &receiver{}
				v.answer = func(to string) error {
					n[to]++
					if to == mail {
						return tt.mail(n[to] - 1)
					}
					err := tt.post(n[to] - 1)
					if err == statusCode(200) {
						return nil
					}
					return err
				}
				dropped, sent := 0, 0
				resolver := dnstest.New(tt.zone)
				c := collector(t, func(o *Options) {
					sends(v, "")(o)
					o.Resolver = resolver
					o.Trace = &Trace{
						Sent: func(_ context.Context, r *Report, to string, err error) {
							sent++
							if to != "mailto:"+mail && to != post || r.Domain != "example.org" {
								t.Errorf("%s to %s", r.Domain, to)
							}
						},
						Dropped: func(_ context.Context, _ *Report, err error) {
							dropped++
							if err == nil {
								t.Error("no reason")
							}
						},
					}
				})
				running(t, c)
				c.Record(Event{Domain: "example.org"})
				synctestUntil(midnight.Add(48 * time.Hour))
				if n[mail] != tt.mails || n[post] != tt.posts || sent != tt.mails+tt.posts {
					t.Errorf("%v attempts, %d of them told, want %d and %d", n, sent, tt.mails, tt.posts)
				}
				if got := len(v.mails) + len(v.posts); got != tt.accepted {
					t.Errorf("%d accepted, want %d", got, tt.accepted)
				}
				if (dropped > 0) != (tt.accepted == 0) || dropped > 1 || c.Stats().Waiting > 0 {
					t.Errorf("given up %d times, %+v", dropped, c.Stats())
				}
				if tt.mails == 0 && resolver.Asked("_smtp._tls.example.org", dns.TXT) != 10 {
					t.Errorf("asked %d times", resolver.Asked("_smtp._tls.example.org", dns.TXT))
				}
				checkWaits(t, v.at)
			})
		})
	}
}

// checkWaits checks that the waits between attempts grow, and that all are made within 24 hours.
func checkWaits(t *testing.T, at []time.Time) {
	t.Helper()
	at = slices.Compact(slices.Clone(at))
	last := time.Duration(0)
	for i := 1; i < len(at); i++ {
		wait := at[i].Sub(at[i-1])
		if wait < 15*time.Minute || wait < min(2*last, 4*time.Hour)-2*time.Minute || wait > 4*time.Hour+2*time.Minute {
			t.Errorf("attempt %d after %v, which was after %v", i, wait, last)
		}
		last = wait
	}
	if n := len(at); n > 1 && (at[n-1].Sub(at[0]) > 24*time.Hour || n == 10 && at[n-1].Sub(at[0]) < 23*time.Hour) {
		t.Errorf("the last attempt is %v after the first", at[n-1].Sub(at[0]))
	}
}

// TestSlowDestination checks that a destination which does not answer holds up nobody for longer than the time it has.
func TestSlowDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{}
		zone := asked + `_smtp._tls.slow.example. TXT "v=TLSRPTv1; rua=https://10.1.2.3/,https://slow.example/"` + "\n" +
			"slow.example. A TIMEOUT\n"
		c := collector(t, func(o *Options) {
			sends(v, zone)(o)
			o.RoundTripper = nil
			o.Resolver.(*dnstest.Resolver).Timeout = -1 // until the context ends
			o.MaxDelay, o.Concurrency, o.Timeout = -1, 1, time.Minute
			o.Trace = &Trace{Sent: func(_ context.Context, r *Report, to string, err error) {
				if strings.Contains(to, "slow") && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", to, err)
				}
			}}
		})
		stop := running(t, c)
		c.Record(Event{Domain: "slow.example"})
		c.Record(Event{Domain: "example.org"})
		synctestUntil(midnight.Add(10 * time.Minute))
		if len(v.mails) != 1 || c.Stats().Waiting != 1 {
			t.Errorf("%d mails, %+v", len(v.mails), c.Stats())
		}
		// Stopped in the middle of an attempt, the report waits for the next start.
		synctestUntil(midnight.Add(21*time.Minute + 30*time.Second))
		if err := stop(); err != nil || c.Stats().Waiting != 1 {
			t.Errorf("%v, %+v", err, c.Stats())
		}
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collector(t, sends(&receiver{}, ""))
		stop := running(t, c)
		synctest.Wait()
		if err := c.Run(context.Background()); err != errRunning {
			t.Error(err)
		}
		stop()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}
