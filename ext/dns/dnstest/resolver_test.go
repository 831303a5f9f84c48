package dnstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

const text = `
	; what a domain has
	example.org.       600 IN MX 10 MX.example.org.
	example.org.       MX 20 backup.example.net ; a comment
	mx.example.org.    60 A 192.0.2.1
	mx.example.org.    120 A 192.0.2.2
	mx.example.org.    aaaa 2001:db8::1
	_25._tcp.mx.example.org. TLSA 3 1 1 0a0b 0C
	example.org.       TXT "v=spf1 -all; \"quoted\" \\ \065" " more"
	example.org.       TXT "second"
	null.example.      MX 0 .
	www.example.org.   30 CNAME mx.example.org.
	out.example.org.   CNAME host.example.net.
	host.example.net.  A 192.0.2.3
	in.example.net.    CNAME mx.example.org.
	gone.example.org.  CNAME nowhere.example.org.
	loop.example.org.  CNAME pool.example.org.
	pool.example.org.  CNAME loop.example.org.
	*.wild.example.    A 192.0.2.4
	own.wild.example.  TXT "no address"
	bücher.example.    A 192.0.2.5
	1.2.0.192.in-addr.arpa. PTR mx.example.org.
	none.wild.example. A NODATA
	fail.example.org.  A SERVFAIL
	fail.example.org.  AAAA 2001:db8::2
	dead.example.org.  ANY TIMEOUT
	false.example.org. TLSA BOGUS
	not.example.org.   A NXDOMAIN
	away.example.org.  A REFUSED
`

func secured() *dnstest.Resolver {
	r := dnstest.New(text)
	r.Secure("Example.ORG.")
	r.Insecure("gone.example.org")
	return r
}

func TestAnswers(t *testing.T) {
	r := secured()
	for _, tt := range []struct {
		name string
		t    dns.Type
		want string
	}{
		{"EXAMPLE.org", dns.MX, "example.org secure 5m0s MX 10 mx.example.org, 20 backup.example.net"},
		{"mx.example.org.", dns.A, "mx.example.org secure 1m0s 192.0.2.1 192.0.2.2"},
		{"mx.example.org", dns.AAAA, "mx.example.org secure 5m0s 2001:db8::1"},
		{"mx.example.org", dns.TXT, "mx.example.org secure 5m0s"},
		{"_25._TCP.mx.example.org", dns.TLSA, "_25._tcp.mx.example.org secure 5m0s TLSA 3 1 1 0a0b0c"},
		{"example.org", dns.TXT, `example.org secure 5m0s "v=spf1 -all; \"quoted\" \\ A more" "second"`},
		{"null.example", dns.MX, "null.example 5m0s MX 0 ."},
		{"www.example.org", dns.A, "mx.example.org secure 30s 192.0.2.1 192.0.2.2"},
		{"www.example.org", dns.CNAME, "www.example.org secure 30s names mx.example.org"},
		{"www.example.org", dns.TXT, "mx.example.org secure 30s"},
		{"out.example.org", dns.A, "host.example.net 5m0s 192.0.2.3"},
		{"out.example.org", dns.CNAME, "out.example.org secure 5m0s names host.example.net"},
		{"in.example.net", dns.AAAA, "mx.example.org 5m0s 2001:db8::1"},
		{"gone.example.org", dns.A, "nowhere.example.org NXDOMAIN 5m0s"},
		{"_tcp.mx.example.org", dns.TXT, "_tcp.mx.example.org secure 5m0s"}, // exists, since a name below does
		{"nowhere.example.org", dns.A, "nowhere.example.org NXDOMAIN secure 5m0s"},
		{"a.wild.example", dns.A, "a.wild.example 5m0s 192.0.2.4"},
		{"a.b.wild.example", dns.A, "a.b.wild.example 5m0s 192.0.2.4"},
		{"own.wild.example", dns.A, "own.wild.example 5m0s"},
		{"a.own.wild.example", dns.A, "a.own.wild.example NXDOMAIN 5m0s"},
		{"none.wild.example", dns.A, "none.wild.example 5m0s"},
		{"wild.example", dns.A, "wild.example 5m0s"},
		{"BÜCHER.example", dns.A, "xn--bcher-kva.example 5m0s 192.0.2.5"},
		{"1.2.0.192.in-addr.arpa", dns.PTR, "1.2.0.192.in-addr.arpa 5m0s names mx.example.org"},
		{"fail.example.org", dns.AAAA, "fail.example.org secure 5m0s 2001:db8::2"},
		{"not.example.org", dns.A, "not.example.org NXDOMAIN secure 5m0s"},
	} {
		a, err := r.Lookup(t.Context(), tt.name, tt.t)
		if err != nil {
			t.Errorf("%s %s: %v", tt.name, tt.t, err)
		} else if got := describe(a); got != tt.want {
			t.Errorf("%s %s: got %s\nwant %s", tt.name, tt.t, got, tt.want)
		}
	}
}

func TestFaults(t *testing.T) {
	r := secured()
	r.Timeout = time.Nanosecond
	for _, tt := range []struct {
		name           string
		t              dns.Type
		want           string
		bogus, timeout bool
	}{
		{"fail.example.org", dns.A, "SERVFAIL", false, false},
		{"away.example.org", dns.A, "REFUSED", false, false},
		{"false.example.org", dns.TLSA, "bogus", true, false},
		{"dead.example.org", dns.MX, "too long", false, true},
		{"loop.example.org", dns.A, "aliases", false, false},
		{"a..b", dns.A, "not a domain name", false, false},
	} {
		a, err := r.Lookup(t.Context(), tt.name, tt.t)
		var e *dns.Error
		if a != nil || !errors.As(err, &e) {
			t.Errorf("%s: got %v, %v", tt.name, a, err)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || e.Bogus != tt.bogus || e.Timeout() != tt.timeout {
			t.Errorf("%s: got %v, bogus %t, timeout %t", tt.name, err, e.Bogus, e.Timeout())
		}
		if e.Name != tt.name || e.Type != tt.t {
			t.Errorf("%s: the error is about %s of %s", tt.name, e.Type, e.Name)
		}
	}
}

func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := secured()
		start := time.Now()
		_, err := r.Lookup(t.Context(), "dead.example.org", dns.A)
		if err == nil || time.Since(start) != 10*time.Second {
			t.Errorf("TIMEOUT by default: %v after %v", err, time.Since(start))
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = r.Lookup(ctx, "dead.example.org", dns.A)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("TIMEOUT with a deadline: %v after %v", err, time.Since(start))
		}

		r.Timeout, r.Latency, r.TTL = -1, 50*time.Millisecond, -1
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start = time.Now()
		_, err = r.Lookup(ctx, "dead.example.org", dns.A)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("TIMEOUT without an end: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		a, err := r.Lookup(t.Context(), "mx.example.org", dns.AAAA)
		if err != nil || time.Since(start) != 50*time.Millisecond || a.TTL != 0 {
			t.Errorf("latency: %v, %v after %v", a, err, time.Since(start))
		}
		if _, err := r.Lookup(ctx, "mx.example.org", dns.A); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the end of the context: %v", err)
		}
	})
}

func TestSet(t *testing.T) {
	r := secured()
	ask := func(name string, of dns.Type) string {
		a, err := r.Lookup(t.Context(), name, of)
		if err != nil {
			return "error"
		}
		return describe(a)
	}
	r.Set("fail.example.org. A 192.0.2.6\n mx.example.org. A SERVFAIL\n example.org. MX 5 other.example.")
	r.Delete("WWW.example.org")
	r.Delete("example.org", dns.TXT)
	r.Delete("host.example.net", dns.A)
	r.Delete("dead.example.org", dnstest.Any)
	r.Delete("unknown.example")
	r.Set("a.only.example. A 192.0.2.7")
	r.Delete("a.only.example")
	r.Insecure("fail.example.org")
	for _, tt := range []struct {
		name string
		of   dns.Type
		want string
	}{
		{"fail.example.org", dns.A, "fail.example.org 5m0s 192.0.2.6"},
		{"fail.example.org", dns.AAAA, "fail.example.org 5m0s 2001:db8::2"},
		{"mx.example.org", dns.A, "error"},
		{"example.org", dns.MX, "example.org secure 5m0s MX 5 other.example"},
		{"www.example.org", dns.A, "www.example.org NXDOMAIN secure 5m0s"},
		{"example.org", dns.TXT, "example.org secure 5m0s"},
		{"host.example.net", dns.A, "host.example.net NXDOMAIN 5m0s"},
		{"example.net", dns.A, "example.net 5m0s"}, // in.example.net is left
		{"dead.example.org", dns.A, "dead.example.org NXDOMAIN secure 5m0s"},
		{"only.example", dns.A, "only.example NXDOMAIN 5m0s"},
	} {
		if got := ask(tt.name, tt.of); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.name, tt.of, got, tt.want)
		}
	}
	if got := r.Asked("Example.org.", dns.MX); got != 1 {
		t.Errorf("MX of example.org asked %d times", got)
	}
	if got := r.Asked("fail.example.org", dnstest.Any); got != 2 {
		t.Errorf("fail.example.org asked %d times", got)
	}
	if got := r.Asked("in.example.net", dnstest.Any); got != 0 {
		t.Errorf("in.example.net asked %d times", got)
	}
	if got := r.Total(); got != 10 {
		t.Errorf("%d questions in all", got)
	}
}

func TestConcurrency(t *testing.T) {
	r := secured()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				a, err := r.Lookup(t.Context(), "mx.example.org", dns.A)
				if err != nil || len(a.Addrs) != 2 {
					t.Errorf("%v, %v", a, err)
				}
				a.Addrs[0] = a.Addrs[1] // an answer of its own
				r.Set("other.example.org. A 192.0.2.9")
				r.Secure("other.example.org")
				r.Asked("mx.example.org", dns.A)
				r.Delete("other.example.org")
			}
		})
	}
	all.Wait()
	if a, _ := r.Lookup(t.Context(), "mx.example.org", dns.A); a.Addrs[0].String() != "192.0.2.1" || r.Total() != 801 {
		t.Errorf("got %v after %d questions", a, r.Total())
	}
}

func TestMalformed(t *testing.T) {
	r := dnstest.New("")
	for _, tt := range []struct{ text, want string }{
		{"example.org.", "want a name, a type and data"},
		{"example.org. MX", "want a name, a type and data"},
		{"a..b A 192.0.2.1", "not a domain name"},
		{`"a" A 192.0.2.1`, "not a domain name"},
		{"\n\nexample.org. HINFO x", "line 3"},
		{"example.org. HINFO x", "not a type"},
		{"example.org. 5 5 A x", "not a type"},
		{"example.org. A 2001:db8::1", "not what the type needs"},
		{"example.org. AAAA 192.0.2.1", "not what the type needs"},
		{"example.org. AAAA fe80::1%eth0", "not what the type needs"},
		{"example.org. A x", "unable to parse"},
		{"example.org. A 192.0.2.1 192.0.2.2", "want 1 words"},
		{"example.org. MX 70000 a", "out of range"},
		{"example.org. MX 10 a..b", "not what the type needs"},
		{"example.org. MX mx.example.org", "want 2 words"},
		{"example.org. TLSA 3 1 1", "want 4 words"},
		{"example.org. TLSA 3 256 1 00", "out of range"},
		{"example.org. TLSA 3 1 1 0", "odd length"},
		{"example.org. TXT v=spf1", "in quotes"},
		{`example.org. TXT "v=spf1`, "no end"},
		{`example.org. TXT "\`, "no end"},
		{"example.org. ANY 192.0.2.1", "ANY is for a fault"},
		{"example.org. A 192.0.2.1\nexample.org. A TIMEOUT", "records and a fault"},
		{"example.org. CNAME a\nexample.org. CNAME b", "more than one CNAME"},
	} {
		func() {
			defer func() {
				if got, _ := recover().(string); !strings.Contains(got, tt.want) {
					t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
				}
			}()
			r.Set("good.example. A 192.0.2.1\n" + strings.TrimPrefix(tt.text, "\n"))
		}()
	}
	if a, err := r.Lookup(t.Context(), "good.example", dns.A); err != nil || !a.NoName {
		t.Errorf("a text with a malformed line has changed something: %v, %v", a, err)
	}
}

func TestLookupAddrs(t *testing.T) {
	r := secured()
	r.Timeout = time.Nanosecond
	r.Set(`
		six.example.org.   CNAME six.example.net.
		six.example.net.   20 AAAA 2001:db8::6
		both.example.org.  A SERVFAIL
		both.example.org.  AAAA BOGUS
		half.example.org.  A SERVFAIL
		half.example.org.  TXT "no AAAA"
		other.example.org. AAAA SERVFAIL
		other.example.org. A NODATA
		fifth.example.org. A 192.0.2.5
		fifth.example.org. AAAA NXDOMAIN
	`)
	for _, tt := range []struct{ host, want string }{
		{"mx.example.org", "mx.example.org secure 1m0s [192.0.2.1 192.0.2.2] [2001:db8::1]"},
		{"www.example.org", "mx.example.org secure 30s [192.0.2.1 192.0.2.2] [2001:db8::1]"},
		{"six.example.org", "six.example.net 20s [] [2001:db8::6]"},
		{"nowhere.example.org", "nowhere.example.org NXDOMAIN secure 5m0s [] []"},
		{"example.org", "example.org secure 5m0s [] []"},
		{"fail.example.org", "fail.example.org secure 5m0s [] [2001:db8::2] but A"},
		{"fifth.example.org", "fifth.example.org secure 5m0s [192.0.2.5] []"},
		{"both.example.org", "error A"},
		{"half.example.org", "error A"},
		{"other.example.org", "error AAAA"},
	} {
		got := ""
		a, err := dns.LookupAddrs(t.Context(), r, tt.host)
		var e *dns.Error
		if errors.As(err, &e) {
			got = "error " + e.Type.String()
		} else {
			got = describe(&dns.Answer{Name: a.Name, NoName: a.NoName, Authentic: a.Authentic, TTL: a.TTL})
			got += " " + fmt.Sprint(a.IPv4, a.IPv6)
			if errors.As(a.Err, &e) {
				got += " but " + e.Type.String()
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.host, got, tt.want)
		}
		if a != nil && a.Empty() != (strings.HasSuffix(tt.want, "[] []")) {
			t.Errorf("%s: Empty is %t", tt.host, a.Empty())
		}
	}
	if r.Asked("mx.example.org", dns.A) != 1 || r.Asked("mx.example.org", dns.AAAA) != 1 {
		t.Error("a question was asked twice, or not at all")
	}
	for _, authentic := range []dns.Type{dns.A, dns.AAAA} {
		if a, err := dns.LookupAddrs(t.Context(), half{r, authentic}, "mx.example.org"); err != nil || a.Authentic {
			t.Errorf("only %v is authentic: got %+v, %v", authentic, a, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dns.LookupAddrs(ctx, r, "mx.example.org"); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancellation: %v", err)
	}
}

// half has authentic answers of one type only.
type half struct {
	dns.Resolver
	authentic dns.Type
}

func (h half) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	a, err := h.Resolver.Lookup(ctx, name, t)
	if err == nil {
		a.Authentic = t == h.authentic
	}
	return a, err
}
