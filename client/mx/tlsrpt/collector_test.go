package tlsrpt

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// totals adds up what reports say: successful and failed sessions by the summaries, and failed ones by the details.
func totals(reports []*Report) (good, bad, details int64) {
	for _, r := range reports {
		for _, p := range r.Policies {
			good += p.Summary.Successful
			bad += p.Summary.Failed
			for _, f := range p.Failures {
				details += f.Sessions
			}
		}
	}
	return good, bad, details
}

// TestX34_Bounds records a hundred thousand events of ten thousand domains, most of them different, and counts what is
// kept, and whether the totals are true.
func TestX34_Bounds(t *testing.T) {
	const domains, events = 10000, 100000
	now := time.Now()
	event := func(i int) Event {
		e := Event{Time: now, Domain: fmt.Sprintf("d%d.example", i%domains), Policy: stsPolicy}
		if i%10 != 0 {
			e.Result = CertificateExpired
			e.Code = fmt.Sprintf("different every time: %d", i)
		}
		return e
	}
	for _, tt := range []struct {
		name     string
		opt      Options
		domains  int
		failures int // most
	}{
		{"default", Options{}, domains, events},
		{"few domains", Options{MaxDomains: 100}, 100, 100 * 10},
		{"few failures", Options{MaxFailures: 2}, domains, domains * 3},
		{"little memory", Options{MaxMemory: 1 << 20}, 1 << 20 / 256, 1 << 20 / 256 * 2},
		{"zero is not none", Options{MaxDomains: -1, MaxFailures: -1, MaxMemory: -1}, domains, events},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := collector(t, func(o *Options) {
				o.MaxDomains, o.MaxFailures, o.MaxMemory = tt.opt.MaxDomains, tt.opt.MaxFailures, tt.opt.MaxMemory
			})
			for i := range events {
				c.Record(event(i))
			}
			s := c.Stats()
			if s.Domains > tt.domains || s.Failures > tt.failures || s.Policies != s.Domains || s.Days != 1 {
				t.Errorf("%+v", s)
			}
			if tt.domains == domains && (s.Domains != domains || s.Dropped != 0) {
				t.Errorf("%+v", s)
			}
			good, bad, details := totals(c.Reports(now))
			if good+bad+s.Dropped != events || bad != details {
				t.Errorf("%d events, %d successful, %d failed, %d by details, %d dropped", events, good, bad, details, s.Dropped)
			}
		})
	}
}

// TestX34_Rest checks what becomes of failures and policies that are too many.
func TestX34_Rest(t *testing.T) {
	c := collector(t, func(o *Options) { o.MaxFailures = 1 })
	now := time.Now()
	for i := range 5 {
		for _, r := range []string{CertificateExpired, ValidationFailure} {
			c.Record(Event{Domain: "example.org", Result: r, MXHost: fmt.Sprintf("mx%d.example.org", i)})
		}
	}
	want := []Failure{
		{Result: ValidationFailure, Sessions: 5, Code: beyond},
		{Result: CertificateExpired, Sessions: 4, Code: beyond},
		{Result: CertificateExpired, Sessions: 1, MXHost: "mx0.example.org"},
	}
	if got := c.Reports(now)[0].Policies[0].Failures; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for i := range 100 {
		c.Record(Event{Domain: "example.net", Policy: Policy{Type: TypeTLSA, Strings: []string{fmt.Sprint("3 1 1 ", i)}},
			MXHost: "mx.example.net"})
		c.Record(Event{Domain: "example.net", Policy: Policy{Type: TypeSTS, Strings: []string{fmt.Sprint(i)}}})
	}
	p := c.Reports(now)[0].Policies
	last := p[len(p)-2:]
	if len(p) != maxPolicies+2 || last[0].Summary.Successful+last[1].Summary.Successful != 200-maxPolicies ||
		last[0].Policy.Strings != nil || last[0].Policy.Domain != "example.net" ||
		last[0].Policy.Type == last[1].Policy.Type {
		t.Errorf("%d policies, and at the end %+v", len(p), last)
	}
}

// TestX33_PoliciesApart checks that policies are counted apart if they differ in anything.
func TestX33_PoliciesApart(t *testing.T) {
	c := collector(t, nil)
	for _, p := range []Policy{
		{}, {Type: TypeSTS}, {Type: TypeTLSA}, {Type: TypeSTS, Domain: "a.example"}, {Type: TypeSTS, Strings: []string{"a"}},
		{Type: TypeSTS, MXHosts: []string{"a"}}, {Type: TypeSTS, Strings: []string{"a", "b"}},
		{Type: TypeSTS, Strings: []string{"b", "a"}}, {Type: TypeSTS, Strings: []string{"a"}, MXHosts: []string{"b"}},
	} {
		c.Record(Event{Domain: "example.org", Policy: p})
	}
	c.Record(Event{Domain: "example.org", Policy: Policy{Type: TypeSTS, Domain: "Example.ORG."}}) // as the default is
	if p := c.Reports(time.Now())[0].Policies; len(p) != 9 || p[1].Summary.Successful != 2 {
		t.Errorf("%d policies: %+v", len(p), p)
	}
}

// TestRecordAllocates holds the usual event to no allocations.
func TestRecordAllocates(t *testing.T) {
	c := collector(t, nil)
	good := Event{Domain: "company-y.example", Policy: stsPolicy}
	bad := Event{Domain: "company-y.example", Policy: stsPolicy, Result: CertificateExpired,
		MXHost:    "mx.company-y.example",
		SendingIP: ip("192.0.2.1"), Code: "x"}
	if n := testing.AllocsPerRun(100, func() { c.Record(good); c.Record(bad) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWhatIsReported records one event, and looks at what a report says of it.
func TestWhatIsReported(t *testing.T) {
	sharp := strings.Repeat("ß", 200)
	for _, tt := range []struct {
		name    string
		event   Event
		policy  ReportedPolicy
		failure Failure // zero for a success
	}{
		{"X33 no policy", Event{}, ReportedPolicy{Type: TypeNone, Domain: "example.org"}, Failure{}},
		{"X33 unknown type", Event{Policy: Policy{Type: "x"}},
			ReportedPolicy{Type: TypeNone, Domain: "example.org"}, Failure{}},
		{"X33 STS", Event{Policy: Policy{Type: TypeSTS}, MXHost: "mx.example.net"},
			ReportedPolicy{Type: TypeSTS, Domain: "example.org"}, Failure{}},
		{"X33 DANE",
			Event{Policy: Policy{Type: TypeTLSA, Strings: []string{"3 1 1 AB", "2 0 1 CD"}}, MXHost: "mx.example.net"},
			ReportedPolicy{Type: TypeTLSA, Domain: "mx.example.net", Strings: []string{"3 1 1 AB", "2 0 1 CD"}}, Failure{}},
		{"X33 DANE with a base domain",
			Event{Policy: Policy{Type: TypeTLSA, Domain: "Base.example."}, MXHost: "mx.example.net"},
			ReportedPolicy{Type: TypeTLSA, Domain: "base.example"}, Failure{}},
		{"X33 a domain that is none", Event{Policy: Policy{Type: TypeSTS, Domain: "a\r\nb"}},
			ReportedPolicy{Type: TypeSTS, Domain: "example.org"}, Failure{}},
		{"X35 A-labels", Event{Domain: "Bücher.example.",
			Policy: Policy{Type: TypeSTS, MXHosts: []string{"*.bücher.example", "mx.例え.example"}},
			Result: CertificateExpired, MXHost: "MX.Bücher.example"},
			ReportedPolicy{Type: TypeSTS, Domain: "xn--bcher-kva.example",
				MXHosts: []string{"*.xn--bcher-kva.example", "mx.xn--r8jz45g.example"}},
			Failure{Result: CertificateExpired, MXHost: "mx.xn--bcher-kva.example", Sessions: 1}},
		{"X25 unknown result", Event{Result: "what", Code: "why"}, ReportedPolicy{Type: TypeNone, Domain: "example.org"},
			Failure{Result: ValidationFailure, Code: "what: why", Sessions: 1}},
		{"X26 everything", Event{Result: DANERequired, MXHost: "mx.example.org", MXHello: "hello\x00\xff", Code: sharp,
			SendingIP: ip("fe80::1%eth0"), ReceivingIP: ip("::ffff:192.0.2.1"), Info: "https://a.example/?b&c"},
			ReportedPolicy{Type: TypeNone, Domain: "example.org"},
			Failure{Result: DANERequired, MXHost: "mx.example.org", MXHello: "hello\uFFFD\uFFFD", Code: sharp[:256], Sessions: 1,
				SendingIP: "fe80::1", ReceivingIP: "192.0.2.1", Info: "https://a.example/?b&c"}},
		{"a name of control characters", Event{Result: DANERequired, MXHello: strings.Repeat("\x00", 300)},
			ReportedPolicy{Type: TypeNone, Domain: "example.org"},
			Failure{Result: DANERequired, MXHello: strings.Repeat("\uFFFD", 85), Sessions: 1}},
		{"a policy too long",
			Event{Policy: Policy{Type: TypeSTS, Strings: []string{"mode: enforce", strings.Repeat("x", 1<<16)}}},
			ReportedPolicy{Type: TypeSTS, Domain: "example.org", Strings: []string{"mode: enforce"}}, Failure{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := collector(t, nil)
			if tt.event.Domain == "" {
				tt.event.Domain = "EXAMPLE.org"
			}
			c.Record(tt.event)
			c.Record(tt.event)
			p := c.Reports(time.Now())[0].Policies
			if len(p) != 1 || !reflect.DeepEqual(p[0].Policy, tt.policy) {
				t.Fatalf("%+v, want %+v", p, tt.policy)
			}
			want := PolicyReport{Policy: tt.policy, Summary: Summary{Successful: 2}}
			if tt.failure.Sessions > 0 {
				tt.failure.Sessions = 2
				want.Summary, want.Failures = Summary{Failed: 2}, []Failure{tt.failure}
			}
			if !reflect.DeepEqual(p[0], want) {
				t.Errorf("%+v, want %+v", p[0], want)
			}
		})
	}
}

// TestX35_Contact checks that the address to ask has A-labels too.
func TestX35_Contact(t *testing.T) {
	c := collector(t, func(o *Options) { o.Contact = "tls@Bücher.example" })
	c.Record(Event{Domain: "example.org"})
	r := c.Reports(time.Now())[0]
	if r.Contact != "tls@xn--bcher-kva.example" || !strings.HasSuffix(r.ID, "@xn--bcher-kva.example") {
		t.Errorf("%q, %q", r.Contact, r.ID)
	}
}

// TestX22_NoDomains checks that what cannot ask for reports is not counted.
func TestX22_NoDomains(t *testing.T) {
	c := collector(t, nil)
	for _, d := range []string{"", ".", "[192.0.2.1]", "a b", "a\r\nX: y", `"x".example`,
		"a..b", strings.Repeat("a", 64)} {
		c.Record(Event{Domain: d})
	}
	if s := c.Stats(); s.Domains != 0 || s.Dropped != 8 {
		t.Errorf("%+v", s)
	}
}

// TestX24_Days checks to which day an event belongs.
func TestX24_Days(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collector(t, nil)
		day := func(n int) time.Time { return time.Date(2000, 1, 5+n, 0, 0, 0, 0, time.UTC) }
		synctestUntil(day(0).Add(time.Hour))
		zone := time.FixedZone("", -10*3600)
		for name, at := range map[string]time.Time{
			"yesterday.example": day(0).Add(-time.Second), "zone.example": day(0).Add(-time.Second).In(zone),
			"today.example": day(0), "now.example": {}, "future.example": day(1), "old.example": day(-2).Add(23 * time.Hour),
		} {
			c.Record(Event{Domain: name, Time: at})
		}
		names := func(at time.Time) (s string) {
			for _, r := range c.Reports(at) {
				s += " " + strings.TrimSuffix(r.Domain, ".example")
			}
			return s
		}
		if got := names(day(-1)); got != " yesterday zone" {
			t.Errorf("yesterday has%s", got)
		}
		if got := names(day(0)); got != " future now old today" {
			t.Errorf("today has%s", got)
		}
		r := c.Reports(day(-1))[0]
		if !r.DateRange.Start.Equal(day(-1)) || !r.DateRange.End.Equal(day(0).Add(-time.Second)) {
			t.Errorf("%v", r.DateRange)
		}
		c.Forget(day(-1))
		c.Record(Event{Domain: "late.example", Time: day(-1)})
		if got := names(day(-1)) + ";" + names(day(0)); got != "; future late now old today" {
			t.Errorf("after Forget: %s", got)
		}
		for i := range 5 { // a day is forgotten after two more
			synctestUntil(day(i).Add(2 * time.Hour))
			c.Record(Event{Domain: "x.example"})
		}
		if s := c.Stats(); s.Days != 3 || names(day(1)) != "" || names(day(2)) != " x" {
			t.Errorf("%+v", s)
		}
	})
}

// synctestUntil lets time pass in a bubble. What has happened by then can be read.
func synctestUntil(t time.Time) {
	<-time.After(time.Until(t))
	synctest.Wait()
}

func TestConcurrency(t *testing.T) {
	c := collector(t, func(o *Options) { o.Store = &brokenStore{text: header, limit: 1 << 30} })
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for k := range 500 {
				c.Record(Event{Domain: fmt.Sprintf("d%d.example", k%7), Result: CertificateExpired,
					ReceivingIP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})})
				if k%100 == 0 {
					c.Stats()
					c.Reports(time.Now())
					if err := c.Save(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if _, bad, details := totals(c.Reports(time.Now())); bad != 2000 || details != 2000 {
		t.Errorf("%d, %d", bad, details)
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		opt   *Options
		field string
	}{
		{nil, "Organization"},
		{&Options{Organization: " "}, "Organization"},
		{&Options{Organization: "x"}, "Contact"},
		{&Options{Organization: "x", Contact: "a"}, "Contact"},
		{&Options{Organization: "x", Contact: "postmaster"}, "Contact"},
		{&Options{Organization: "x", Contact: "a@[192.0.2.1]"}, "Contact"},
		{&Options{Organization: "x", Contact: "ä@b.example"}, "Contact"},
		{&Options{Organization: "x", Contact: "a@b.example", From: "c"}, "From"},
		{&Options{Organization: "x", Contact: "a@b.example", From: "c@bücher.example"}, ""},
	} {
		_, err := New(tt.opt)
		var e *OptionError
		if errors.As(err, &e) != (tt.field != "") || e != nil && e.Field != tt.field {
			t.Errorf("%+v: %v, want %q", tt.opt, err, tt.field)
		}
	}
	c := collector(t, nil)
	var e *OptionError
	if err := c.Run(t.Context()); !errors.As(err, &e) || e.Field != "Resolver" {
		t.Errorf("Run without a resolver: %v", err)
	}
}
