package dns_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// TestFromNet asks a server by package net. What that knows is as the server has it.
func TestFromNet(t *testing.T) {
	fake := dnstest.New(zone + `
		2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.example.org.
		odd.example.   MX 10 mx!.example.org.
		mixed.example. MX 10 mx!.example.org.
		mixed.example. MX 20 mx.example.org.
	`)
	fake.Secure(".")
	addr := fake.Serve(t)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	r := dns.FromNet(&net.Resolver{PreferGo: true, Dial: dial})
	for _, q := range []struct {
		name string
		t    dns.Type
	}{
		{"Example.ORG.", dns.MX}, {"mx.example.org", dns.A}, {"mx.example.org", dns.AAAA}, {"mx.example.org", dns.TXT},
		{"example.org", dns.TXT}, {"null.example", dns.MX}, {"www.example.org", dns.A}, {"www.example.org", dns.CNAME},
		{"mx.example.org", dns.CNAME}, {"BÜCHER.example", dns.A}, {"1.2.0.192.in-addr.arpa", dns.PTR},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", dns.PTR},
		{"nowhere.example.org", dns.A}, {"nowhere.example.org", dns.MX}, {"fail.example.org", dns.A},
	} {
		want, wantErr := fake.Lookup(t.Context(), q.name, q.t)
		got, err := r.Lookup(t.Context(), q.name, q.t)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s %s: got %v, want %v", q.name, q.t, err, wantErr)
		}
		if err != nil {
			continue
		}
		if got.Authentic || got.NoName || got.TTL != 0 {
			t.Errorf("%s %s: got %+v, which package net does not know", q.name, q.t, got)
		}
		normal, _ := dns.Normal(q.name)
		expect := *want
		expect.Name, expect.Authentic, expect.NoName, expect.TTL = normal, false, false, 0
		byAddr := func(a, b dns.MailExchange) int { return strings.Compare(a.Host, b.Host) }
		slices.SortFunc(got.MX, byAddr)
		slices.SortFunc(expect.MX, byAddr)
		if !reflect.DeepEqual(got, &expect) {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", q.name, q.t, got, expect)
		}
	}
	for _, q := range []struct {
		name string
		t    dns.Type
		want string
	}{
		{"_25._tcp.mx.example.org", dns.TLSA, "use dns.New"},
		{"a..b", dns.A, "not a domain name"},
		{"example.org", dns.PTR, "in-addr.arpa"},
		{"1.2.0.192.256.in-addr.arpa", dns.PTR, "in-addr.arpa"},
		{"2.0.192.in-addr.arpa", dns.PTR, "in-addr.arpa"},
		{"1.2.ip6.arpa", dns.PTR, "in-addr.arpa"},
		{"x.2.0.192.in-addr.arpa", dns.PTR, "in-addr.arpa"},
		{strings.Repeat("1.", 31) + "ip6.arpa", dns.PTR, "in-addr.arpa"},
		{strings.Repeat("1.", 33) + "ip6.arpa", dns.PTR, "in-addr.arpa"},
		{"odd.example", dns.MX, "contain invalid names"},
		{strings.Repeat("11.", 31) + "1.ip6.arpa", dns.PTR, "in-addr.arpa"},
		{strings.Repeat("1.", 7) + "1.ip6.arpa", dns.PTR, "in-addr.arpa"},
	} {
		a, err := r.Lookup(t.Context(), q.name, q.t)
		var e *dns.Error
		if a != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), q.want) {
			t.Errorf("%s %s: got %+v, %v", q.name, q.t, a, err)
		}
	}
	got := lookup(t.Context(), r, "mixed.example", dns.MX)
	if got != "mixed.example 0s [] [{20 mx.example.org}] [] [] []" {
		t.Errorf("records of which one is malformed: %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	fake.Set("mx.example.org. A TIMEOUT")
	if _, err := r.Lookup(ctx, "mx.example.org", dns.A); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at the end of the context: %v", err)
	}
}
