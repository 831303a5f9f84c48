package tlsrpt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// slowly has the Sender take a while for each report, whatever happens to the context.
func slowly(v *receiver, takes time.Duration) func(*Options) {
	return func(o *Options) {
		sends(v, asked)(o)
		o.MaxDelay = -1
		o.Sender = client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
			time.Sleep(takes)
			return v.Send(context.WithoutCancel(ctx), m)
		})
	}
}

// TestRunWaits checks that Run waits for the report that it is sending, and does not have it sent again by the next
// Run, nor after a restart.
func TestRunWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := FileStore(filepath.Join(t.TempDir(), "state"))
		v := &receiver{}
		c := collector(t, func(o *Options) { slowly(v, 2*time.Minute)(o); o.Store = file })
		stop := running(t, c)
		c.Record(Event{Domain: "example.org"})
		synctestUntil(midnight.Add(6*time.Minute + 30*time.Second)) // it is on its way
		began := time.Now()
		if err := stop(); err != nil || len(v.mails) != 1 {
			t.Errorf("%d mails at the end of Run after %v: %v", len(v.mails), time.Since(began), err)
		}
		again := collector(t, func(o *Options) { slowly(v, 0)(o); o.Store = file })
		for _, c := range []*Collector{c, again} {
			if s := c.Stats(); s.Domains != 0 {
				t.Errorf("%+v is left", s)
			}
			stop = running(t, c)
			synctestUntil(time.Now().Add(24 * time.Hour))
			stop()
		}
		if len(v.mails) != 1 {
			t.Errorf("%d mails", len(v.mails))
		}
	})
}

// TestRunAgain stops Run while one report is on its way and others wait for their turn. The next Run sends those.
func TestRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{}
		zone := ""
		for i := range 5 {
			zone += fmt.Sprintf("_smtp._tls.d%d.example. TXT \"v=TLSRPTv1; rua=mailto:d%d@example.net\"\n", i, i)
		}
		c := collector(t, func(o *Options) {
			slowly(v, 40*time.Second)(o)
			o.Resolver, o.Concurrency = dnstest.New(zone), 1
		})
		for i := range 5 {
			c.Record(Event{Domain: fmt.Sprintf("d%d.example", i)})
		}
		for from := midnight.Add(5 * time.Minute); len(v.mails) < 5 && from.Before(midnight.Add(time.Hour)); {
			stop := running(t, c)
			from = from.Add(70 * time.Second)
			synctestUntil(from)
			if err := stop(); err != nil {
				t.Error(err)
			}
			from = time.Now()
		}
		var to []string
		for _, m := range v.mails {
			_, line, _ := strings.Cut(m, "\r\nTo: ")
			line, _, _ = strings.Cut(line, "@")
			to = append(to, line)
		}
		slices.Sort(to)
		if got := strings.Join(to, " "); got != "d0 d1 d2 d3 d4" || c.Stats().Waiting != 0 {
			t.Errorf("sent for %s, and %+v", got, c.Stats())
		}
	})
}

// TestWaitFromEnd checks that the wait after an attempt begins when that has failed, and not when it began.
func TestWaitFromEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{answer: func(string) error { return refusal(451) }} // notes when an attempt ended
		c := collector(t, slowly(v, 4*time.Minute))
		running(t, c)
		c.Record(Event{Domain: "example.org"})
		synctestUntil(midnight.Add(2 * time.Hour))
		if len(v.at) < 3 {
			t.Fatalf("%d attempts", len(v.at))
		}
		for i, least := range []time.Duration{15 * time.Minute, 30 * time.Minute} {
			if pause := v.at[i+1].Sub(v.at[i]) - 4*time.Minute; pause < least || pause > least+2*time.Minute {
				t.Errorf("pause %d is %v", i, pause)
			}
		}
	})
}

// TestSilentRecord checks that a domain whose DNS says nothing has Timeout for it, and is asked again later. It holds
// up nobody for longer.
func TestSilentRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{}
		names := dnstest.New(asked + "_smtp._tls.silent.example. TXT TIMEOUT\n")
		names.Timeout = -1 // until the context ends
		c := collector(t, func(o *Options) {
			sends(v, "")(o)
			o.Resolver, o.MaxDelay, o.Concurrency, o.Timeout = names, -1, 1, time.Minute
		})
		running(t, c)
		c.Record(Event{Domain: "silent.example"})
		c.Record(Event{Domain: "example.org"})
		synctestUntil(midnight.Add(10 * time.Minute))
		if len(v.mails) != 1 || c.Stats().Waiting != 1 {
			t.Errorf("%d mails, %+v", len(v.mails), c.Stats())
		}
		synctestUntil(midnight.Add(30 * time.Minute))
		if n := names.Asked("_smtp._tls.silent.example", dns.TXT); n != 2 {
			t.Errorf("the domain was asked %d times", n)
		}
	})
}

// TestRestartsWhileRefused restarts while a report is refused for now, all the time: that is no reason to go on for
// longer than 24 hours after the first attempt, nor to begin anew with the waits.
func TestRestartsWhileRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := FileStore(filepath.Join(t.TempDir(), "state"))
		v := &receiver{answer: func(string) error { return refusal(451) }}
		dropped := 0
		for i := range 30 {
			c := collector(t, func(o *Options) {
				sends(v, asked)(o)
				o.Store = file
				o.Trace = &Trace{Dropped: func(context.Context, *Report, error) { dropped++ }}
			})
			if i == 0 {
				c.Record(Event{Domain: "example.org"})
			}
			stop := running(t, c)
			synctestUntil(midnight.Add(time.Duration(i) * time.Hour))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}
		checkWaits(t, v.at)
		if n := len(v.at); n < 8 || n > 10 || dropped != 1 {
			t.Errorf("%d attempts, given up %d times", n, dropped)
		}
	})
}

// TestLateAfterRestart records an event of yesterday after a restart, when the report on yesterday is on its way: it
// counts for today. There is one report on each day, and it has what was counted before.
func TestLateAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := FileStore(filepath.Join(t.TempDir(), "state"))
		v := &receiver{}
		refuses := true
		v.answer = func(string) error {
			if refuses {
				return refusal(451)
			}
			return nil
		}
		start := func() (*Collector, func() error) {
			c := collector(t, func(o *Options) { sends(v, asked)(o); o.Store, o.MaxDelay = file, -1 })
			return c, running(t, c)
		}
		c, stop := start()
		for range 3 {
			c.Record(Event{Domain: "example.org"})
		}
		synctestUntil(midnight.Add(10 * time.Minute))
		stop()
		c, stop = start()
		c.Record(Event{Domain: "example.org", Time: midnight.Add(-time.Second)})
		synctestUntil(midnight.Add(12 * time.Minute))
		v.mu.Lock()
		refuses = false
		v.mu.Unlock()
		synctestUntil(midnight.Add(25 * time.Hour))
		stop()
		if len(v.mails) != 2 || !strings.Contains(v.mails[0], "Succeeded: 3\r\n") ||
			!strings.Contains(v.mails[1], "Succeeded: 1\r\n") {
			t.Errorf("%d mails: %q", len(v.mails), v.mails)
		}
	})
}

// TestForget forgets a day whose reports are on their way: what is on its way then is not sent again, what waits is not
// sent at all, and neither comes back with the Store.
func TestForget(t *testing.T) {
	for _, tt := range []struct {
		name   string
		takes  time.Duration // each attempt
		forget time.Duration // after midnight
		answer error
		sent   int
		stop   bool // Run, in the middle of the attempt
	}{
		{"one that waits", 0, 10 * time.Minute, refusal(451), 1, false},
		{"one on its way, refused for now", 4 * time.Minute, 7 * time.Minute, refusal(451), 1, false},
		{"one on its way, taken", 4 * time.Minute, 7 * time.Minute, nil, 1, false},
		{"one on its way, given up", 4 * time.Minute, 7 * time.Minute, context.Canceled, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := FileStore(filepath.Join(t.TempDir(), "state"))
				v := &receiver{answer: func(string) error { return tt.answer }}
				c := collector(t, func(o *Options) { slowly(v, tt.takes)(o); o.Store = file })
				stop := running(t, c)
				c.Record(Event{Domain: "example.org"})
				synctestUntil(midnight.Add(tt.forget))
				if r := c.Reports(midnight.Add(-time.Hour)); len(r) != 1 || r[0].Policies[0].Summary.Successful != 1 {
					t.Errorf("on its way: %+v", r)
				}
				c.Forget(midnight.Add(-time.Hour))
				if r := c.Reports(midnight.Add(-time.Hour)); len(r) != 0 {
					t.Errorf("after Forget: %+v", r)
				}
				if tt.stop {
					stop()
					stop = running(t, c)
				}
				synctestUntil(midnight.Add(tt.forget + 6*time.Minute)) // it is saved
				again := collector(t, func(o *Options) { o.Store = file })
				if s := again.Stats(); s.Domains != 0 {
					t.Errorf("the Store has %+v", s)
				}
				synctestUntil(midnight.Add(20 * time.Hour))
				stop()
				if len(v.at) != tt.sent || c.Stats().Domains != 0 {
					t.Errorf("%d attempts, %+v", len(v.at), c.Stats())
				}
			})
		})
	}
}

// TestForgetKeepsOrder forgets some of many reports: the others are taken in the order in which they are due.
func TestForgetKeepsOrder(t *testing.T) {
	o := newOutbox()
	now := time.Now()
	var due []time.Time
	for i := range 200 {
		p := &pending{key: key{int64(i % 2), fmt.Sprint(i)}, due: now.Add(rand.N(time.Hour))}
		if i%2 == 0 {
			due = append(due, p.due)
		}
		o.put(p)
	}
	o.forget(1)
	slices.SortFunc(due, time.Time.Compare)
	for i, want := range due {
		p := o.take(now.Add(time.Hour))
		if p == nil || !p.due.Equal(want) {
			t.Fatalf("%d: %+v, want one that is due at %v", i, p, want)
		}
	}
	if p := o.take(now.Add(time.Hour)); p != nil {
		t.Errorf("%+v is left", p)
	}
}

// TestOldReports checks that reports which were held up for days, since Run was not called, are not sent any more.
func TestOldReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{answer: func(string) error { return refusal(451) }}
		c := collector(t, func(o *Options) { sends(v, asked)(o); o.MaxDelay = -1 })
		c.Record(Event{Domain: "example.org"})
		stop := running(t, c)
		synctestUntil(midnight.Add(10 * time.Minute))
		stop()
		before := len(v.at)
		synctestUntil(midnight.Add(72*time.Hour + 10*time.Minute))
		stop = running(t, c)
		synctestUntil(midnight.Add(96 * time.Hour))
		stop()
		if len(v.at) != before || before == 0 || c.Stats().Waiting != 0 {
			t.Errorf("%d attempts, and %d days later; %+v", before, len(v.at)-before, c.Stats())
		}
	})
}
