package dane

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
)

const (
	digest  = "8cb0fc6c527506a053f4f14c8464bebbd6dede2738d11468dd953d7d6a3021f1"
	digest2 = "1f850a337e6db9c609c522d136a475638cc43e1ed424f8eec8513d747d1d085d"
)

// lookupTests are rows of a table: a zone, what of it is signed, and what Lookup makes of a host.
var lookupTests = []struct {
	name             string
	zone             string
	secure, insecure []string
	target           Target // the host is mx.example.org, of the authentic MX records of example.org, if it is zero
	base             string // "": DANE does not apply
	names            []string
	fails            dns.Type // the question whose error Lookup returns
	tlsa             []string // base domains below which TLSA records are asked for
}{
	{
		name:   "a host with records",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org"},
		base:   "mx.example.org", names: []string{"mx.example.org", "example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name:   "a host without records",
		zone:   "mx.example.org A 192.0.2.1",
		secure: []string{"example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name:   "MX records that are not proved",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org"},
		target: Target{Domain: "example.net", Host: "mx.example.org"},
	}, {
		name:   "MX records that are not proved, and a caller who elects DANE",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org"},
		target: Target{Authentic: true, Host: "mx.example.org"},
		base:   "mx.example.org", names: []string{"mx.example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name: "X10 addresses that are not proved: no question for TLSA, which would fail",
		zone: "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA SERVFAIL",
	}, {
		name:   "X10 TLSA records that are not proved",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org"}, insecure: []string{"_tcp.mx.example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name:   "X10 TLSA by way of an alias that is not proved",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org CNAME t.example.net\nt.example.net TLSA 3 1 1 " + digest,
		secure: []string{"example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name: "TLSA by way of an alias",
		zone: "mx.example.org AAAA 2001:db8::1\n_25._tcp.mx.example.org CNAME t._dane.example.net\n" +
			"t._dane.example.net TLSA 2 0 1 " + digest,
		secure: []string{"example.org", "example.net"},
		base:   "mx.example.org", names: []string{"mx.example.org", "example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name:   "TLSA by a wildcard",
		zone:   "mx.example.org A 192.0.2.1\n*.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org"},
		base:   "mx.example.org", names: []string{"mx.example.org", "example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name:   "TLSA NXDOMAIN",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA NXDOMAIN",
		secure: []string{"example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name:   "X10 TLSA SERVFAIL",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA SERVFAIL",
		secure: []string{"example.org"}, fails: dns.TLSA, tlsa: []string{"mx.example.org"},
	}, {
		name:   "X10 TLSA bogus",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA BOGUS",
		secure: []string{"example.org"}, fails: dns.TLSA, tlsa: []string{"mx.example.org"},
	}, {
		name:   "X10 TLSA refused",
		zone:   "mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA REFUSED",
		secure: []string{"example.org"}, fails: dns.TLSA, tlsa: []string{"mx.example.org"},
	}, {
		name:  "X10 addresses SERVFAIL",
		zone:  "mx.example.org A SERVFAIL\nmx.example.org AAAA SERVFAIL",
		fails: dns.A,
	}, {
		name:   "the addresses of one family fail",
		zone:   "mx.example.org A 192.0.2.1\nmx.example.org AAAA SERVFAIL\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org"},
		base:   "mx.example.org", names: []string{"mx.example.org", "example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name:   "another port",
		zone:   "mx.example.org A 192.0.2.1\n_26._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org"},
		target: Target{Domain: "example.org", Authentic: true, Host: "mx.example.org", Port: 26},
		base:   "mx.example.org", names: []string{"mx.example.org", "example.org"},
	}, {
		name: "a proved alias: the end of the chain first",
		zone: "mx.example.org CNAME mx.example.net\nmx.example.net A 192.0.2.1\n" +
			"_25._tcp.mx.example.net TLSA 3 1 1 " + digest + "\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest2,
		secure: []string{"example.org", "example.net"},
		base:   "mx.example.net", names: []string{"mx.example.net", "example.org"}, tlsa: []string{"mx.example.net"},
	}, {
		name: "a proved alias: then the host",
		zone: "mx.example.org CNAME mid.example.net\nmid.example.net CNAME mx.example.net\nmx.example.net A 192.0.2.1\n" +
			"_25._tcp.mid.example.net TLSA 3 1 1 " + digest2 + "\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org", "example.net"},
		base:   "mx.example.org", names: []string{"mx.example.org", "example.org"},
		tlsa: []string{"mx.example.net", "mx.example.org"},
	}, {
		name: "X10 a proved alias: a failure at its end is not passed over",
		zone: "mx.example.org CNAME mx.example.net\nmx.example.net A 192.0.2.1\n" +
			"_25._tcp.mx.example.net TLSA SERVFAIL\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest,
		secure: []string{"example.org", "example.net"}, fails: dns.TLSA, tlsa: []string{"mx.example.net"},
	}, {
		name: "X10 a proved alias to what is not: the host only",
		zone: "mx.example.org CNAME mx.example.net\nmx.example.net A 192.0.2.1\n" +
			"_25._tcp.mx.example.net TLSA SERVFAIL\n_25._tcp.mx.example.org TLSA 2 1 1 " + digest,
		secure: []string{"example.org"},
		base:   "mx.example.org", names: []string{"mx.example.org", "example.org"}, tlsa: []string{"mx.example.org"},
	}, {
		name: "X10 an alias that is not proved",
		zone: "mx.example.org CNAME mx.example.net\nmx.example.net A 192.0.2.1\n" +
			"_25._tcp.mx.example.org TLSA 3 1 1 " + digest + "\n_25._tcp.mx.example.net TLSA 3 1 1 " + digest,
		secure: []string{"example.net"},
	}, {
		name:   "X10 an alias about which the question fails",
		zone:   "mx.example.org CNAME mx.example.net\nmx.example.net A 192.0.2.1",
		secure: []string{"example.org"}, fails: dns.CNAME,
	}, {
		name:   "a domain without MX records",
		zone:   "example.org A 192.0.2.1\n_25._tcp.example.org TLSA 2 0 1 " + digest,
		secure: []string{"example.org"},
		target: Target{Domain: "example.org", Authentic: true, Host: "example.org"},
		base:   "example.org", names: []string{"example.org"}, tlsa: []string{"example.org"},
	}, {
		name: "a domain without MX records that is an alias",
		zone: "example.org CNAME host.example.net\nhost.example.net A 192.0.2.1\n" +
			"_25._tcp.host.example.net TLSA 2 0 1 " + digest,
		secure: []string{"example.org", "example.net"},
		target: Target{Domain: "Example.ORG.", Expanded: "host.example.net", Authentic: true, Host: "example.org"},
		base:   "host.example.net", names: []string{"host.example.net", "example.org"}, tlsa: []string{"host.example.net"},
	}, {
		name:   "a domain without MX records that is an alias of what is not proved",
		zone:   "example.org CNAME host.example.net\nhost.example.net A 192.0.2.1\n_25._tcp.example.org TLSA 2 0 1 " + digest,
		secure: []string{"example.org"},
		target: Target{Domain: "example.org", Expanded: "host.example.net", Host: "example.org"},
		base:   "example.org", names: []string{"example.org"}, tlsa: []string{"example.org"},
	}, {
		// The names of RFC 7672 section 3.2.2.
		name:   "X11 a domain that is an alias",
		zone:   "mx10.example.com A 192.0.2.10\n_25._tcp.mx10.example.com TLSA 2 0 1 " + digest,
		secure: []string{"example.com"},
		target: Target{Domain: "exchange.example.org", Expanded: "example.com", Authentic: true, Host: "mx10.example.com"},
		base:   "mx10.example.com", names: []string{"mx10.example.com", "exchange.example.org", "example.com"},
		tlsa: []string{"mx10.example.com"},
	}, {
		name:   "names in U-labels",
		zone:   "xn--mx-wia.example A 192.0.2.1\n_25._tcp.xn--mx-wia.example TLSA 2 0 1 " + digest,
		secure: []string{"."},
		target: Target{Domain: "BÜCHER.example", Authentic: true, Host: "mxä.example"},
		base:   "xn--mx-wia.example", names: []string{"xn--mx-wia.example", "xn--bcher-kva.example"},
		tlsa: []string{"xn--mx-wia.example"},
	}, {
		name:   "an address literal",
		secure: []string{"."},
		target: Target{Domain: "[192.0.2.1]", Authentic: true, Host: "[192.0.2.1]"},
	}, {
		name:   "an address in an MX record",
		zone:   "192.0.2.1 A 192.0.2.1\n_25._tcp.192.0.2.1 TLSA 3 1 1 " + digest,
		secure: []string{"."},
		target: Target{Domain: "example.org", Authentic: true, Host: "192.0.2.1"},
	}, {
		name:   "a name with no room for _25._tcp",
		zone:   long + " A 192.0.2.1",
		secure: []string{"."},
		target: Target{Domain: "example.org", Authentic: true, Host: long},
	},
}

// long is the longest name there is (RFC 1035 section 2.3.4).
var long = strings.Repeat("a234567890123456789.", 12) + "example.orgab"

func TestLookup(t *testing.T) {
	for _, test := range lookupTests {
		t.Run(test.name, func(t *testing.T) {
			r := dnstest.New(test.zone)
			r.Secure(test.secure...)
			r.Insecure(test.insecure...)
			var asker dns.Resolver = r
			if test.fails == dns.CNAME {
				asker = failing{r, dns.CNAME}
			}
			if test.target.Host == "" {
				test.target = Target{Domain: "example.org", Authentic: true, Host: "mx.example.org"}
			}
			p, err := Lookup(t.Context(), asker, test.target)
			checkLookup(t, p, err, test.base, test.names, test.fails)
			for _, base := range []string{
				"mx.example.org", "mx.example.net", "mid.example.net", "example.org", "host.example.net", "mx10.example.com",
				"xn--mx-wia.example", "192.0.2.1",
			} {
				want := 0
				if slices.Contains(test.tlsa, base) {
					want = 1
				}
				if got := r.Asked("_25._tcp."+base, dns.TLSA); got != want {
					t.Errorf("%d questions for TLSA below %s, want %d", got, base, want)
				}
			}
		})
	}
}

func checkLookup(t *testing.T, p *Policy, err error, base string, names []string, fails dns.Type) {
	t.Helper()
	if fails != 0 {
		e, ok := asType[*Error](err)
		d, wraps := asType[*dns.Error](err)
		if p != nil || !ok || !wraps || d.Type != fails {
			t.Fatalf("got %v, %v, want the error of a question for %v", p, err, fails)
		}
		if e.Status() != (proto.Status{4, 4, 3}) || !client.Temporary(err) || e.Result() != dnssecInvalid {
			t.Errorf("status %v, temporary %v, result %q", e.Status(), client.Temporary(err), e.Result())
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if p == nil {
		if base != "" {
			t.Error("DANE does not apply")
		}
		return
	}
	if p.Base != base || !slices.Equal(p.Names, names) {
		t.Errorf("base %q, names %q, want %q, %q", p.Base, p.Names, base, names)
	}
	if len(p.Records) != 1 || !strings.HasSuffix(strings.ToLower(p.Strings()[0]), digest) {
		t.Errorf("records %q", p.Strings())
	}
}

// failing is a resolver that has no answer to questions of one type.
type failing struct {
	dns.Resolver
	t dns.Type
}

func (f failing) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	if t == f.t {
		return nil, &dns.Error{Name: name, Type: t, Err: errors.New("server failure")}
	}
	return f.Resolver.Lookup(ctx, name, t)
}

// oneFamily is a resolver that can prove the answers about one family of addresses only.
type oneFamily struct {
	dns.Resolver
	proved dns.Type
}

func (f oneFamily) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	a, err := f.Resolver.Lookup(ctx, name, t)
	if err == nil && t != f.proved && (t == dns.A || t == dns.AAAA) {
		b := *a
		b.Authentic = false
		return &b, nil
	}
	return a, err
}

// Servers are out there that prove the addresses of a host and cannot deny that it has others, and resolvers with DNS64
// make up addresses that nobody has signed.
func TestX10_OneFamilyProved(t *testing.T) {
	for _, test := range []struct {
		name, zone string
		proved     dns.Type
		applies    bool
	}{
		{"A, and no AAAA", "mx.example.org A 192.0.2.1", dns.A, true},
		{"A, and AAAA made up", "mx.example.org A 192.0.2.1\nmx.example.org AAAA 64:ff9b::192.0.2.1", dns.A, true},
		{"AAAA, and no A", "mx.example.org AAAA 2001:db8::1", dns.AAAA, true},
		{"no A, and AAAA not proved", "mx.example.org AAAA 2001:db8::1", dns.A, false},
		{"A not proved, and no AAAA", "mx.example.org A 192.0.2.1", dns.AAAA, false},
		{"neither", "mx.example.org A 192.0.2.1", dns.TLSA, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := dnstest.New(test.zone + "\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest)
			r.Secure("example.org")
			p, err := Lookup(t.Context(), oneFamily{r, test.proved},
				Target{Domain: "example.org", Authentic: true, Host: "mx.example.org"})
			if err != nil || (p != nil) != test.applies {
				t.Errorf("got %v, %v, want a policy: %v", p, err, test.applies)
			}
			if asked := r.Asked("_25._tcp.mx.example.org", dns.TLSA) > 0; asked != test.applies {
				t.Errorf("TLSA records were asked for: %v", asked)
			}
		})
	}
}

// byFamily answers questions for A records by one resolver, and all others by another.
type byFamily struct{ ipv4, others dns.Resolver }

func (b byFamily) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	if t == dns.A {
		return b.ipv4.Lookup(ctx, name, t)
	}
	return b.others.Lookup(ctx, name, t)
}

// swapped answers questions for the addresses of one family with those of the other.
type swapped struct{ dns.Resolver }

func (s swapped) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	switch t {
	case dns.A:
		t = dns.AAAA
	case dns.AAAA:
		t = dns.A
	}
	return s.Resolver.Lookup(ctx, name, t)
}

// The name at the end of aliases that are not proved is no base domain, although the other family is proved.
func TestX10_NameOfOneFamily(t *testing.T) {
	const zone = "mx.example.org AAAA 2001:db8::1\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest + "\n" +
		"_25._tcp.mx.example.net TLSA 3 1 1 " + digest2
	proved := dnstest.New(zone)
	proved.Secure("example.org", "example.net")
	forged := dnstest.New("mx.example.org CNAME mx.example.net\nmx.example.net A 192.0.2.1")
	forged.Secure("example.net")
	both := byFamily{forged, proved}
	for _, r := range []dns.Resolver{both, swapped{both}} {
		p, err := Lookup(t.Context(), r, Target{Domain: "example.org", Authentic: true, Host: "mx.example.org"})
		if err != nil || p == nil || p.Base != "mx.example.org" {
			t.Errorf("%T: got %+v, %v", r, p, err)
		}
		if n := proved.Asked("_25._tcp.mx.example.net", dns.TLSA); n > 0 {
			t.Errorf("%T: TLSA records were asked for below the name that is not proved", r)
		}
	}
}

// A caller that has the addresses does not have them asked for again.
func TestLookupAddresses(t *testing.T) {
	r := dnstest.New("mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA 3 1 1 " + digest)
	r.Secure("example.org")
	target := Target{Domain: "example.org", Authentic: true, Host: "mx.example.org"}
	var err error
	if target.Addr, err = dns.LookupAddrs(t.Context(), r, target.Host); err != nil {
		t.Fatal(err)
	}
	before := r.Total()
	if p, err := Lookup(t.Context(), r, target); err != nil || p == nil || r.Total() != before+1 {
		t.Errorf("got %v, %v after %d questions", p, err, r.Total()-before)
	}
}

func TestX10_LookupTimeout(t *testing.T) {
	r := dnstest.New("mx.example.org A 192.0.2.1\n_25._tcp.mx.example.org TLSA TIMEOUT")
	r.Secure("example.org")
	target := Target{Domain: "example.org", Authentic: true, Host: "mx.example.org"}
	r.Timeout = 1 // nanosecond
	p, err := Lookup(t.Context(), r, target)
	e, ok := asType[*Error](err)
	if p != nil || !ok || !client.Temporary(err) || e.Result() != general {
		t.Errorf("got %v, %v (%v), want a temporary error", p, err, ok)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := Lookup(ctx, r, target); p != nil || !errors.Is(err, context.Canceled) || client.Temporary(err) {
		t.Errorf("got %v, %v, want that the context was cancelled", p, err)
	} else if e, _ := asType[*Error](err); e.Result() != general {
		t.Errorf("result %q", e.Result())
	}
}

func TestLookupNoName(t *testing.T) {
	_, err := Lookup(t.Context(), dnstest.New(""), Target{Domain: "example.org", Authentic: true, Host: "mx..example.org"})
	if !errors.Is(err, dns.ErrName) {
		t.Errorf("got %v, want ErrName", err)
	}
}

// Mandatory DANE (RFC 7672 section 6).
func TestLookupRequired(t *testing.T) {
	for _, test := range []struct {
		name, zone string
		authentic  bool
		ok         bool
	}{
		{"usable", "_25._tcp.mx.example.org TLSA 3 1 1 " + digest, true, true},
		{"not usable", "_25._tcp.mx.example.org TLSA 1 1 1 " + digest, true, false},
		{"none", "", true, false},
		{"MX records that are not proved", "_25._tcp.mx.example.org TLSA 3 1 1 " + digest, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := dnstest.New("mx.example.org A 192.0.2.1\n" + test.zone)
			r.Secure("example.org")
			p, err := Lookup(t.Context(), r,
				Target{Domain: "example.org", Authentic: test.authentic, Host: "mx.example.org", Required: true})
			if test.ok {
				if p == nil || err != nil {
					t.Errorf("got %v, %v", p, err)
				}
				return
			}
			e, _ := asType[*Error](err)
			if p != nil || e == nil || e.Result() != daneRequired || e.Status() != (proto.Status{4, 7, 5}) {
				t.Errorf("got %v, %v", p, err)
			}
		})
	}
}

// The order of the records does not depend on that of the answer, so that policies can be compared.
func TestLookupOrder(t *testing.T) {
	lines := []string{"2 0 1 " + digest, "3 0 1 " + digest, "3 1 0 " + digest, "3 1 1 " + digest2, "3 1 1 " + digest}
	for i := range lines {
		text := "mx.example.org A 192.0.2.1"
		for _, line := range append(slices.Clone(lines[i:]), lines[:i]...) {
			text += "\n_25._tcp.mx.example.org TLSA " + line
		}
		r := dnstest.New(text)
		r.Secure("example.org")
		p, err := Lookup(t.Context(), r, Target{Domain: "example.org", Authentic: true, Host: "mx.example.org"})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ToLower(strings.Join(p.Strings(), "\n")); got != strings.Join(lines, "\n") {
			t.Errorf("got\n%s", got)
		}
	}
}
