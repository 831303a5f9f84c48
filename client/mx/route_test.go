package mx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
)

func domain(t testing.TB, s string) proto.Domain {
	t.Helper()
	d, err := proto.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// describe writes a route as "10 host address address; …".
func describe(r *Route) string {
	var list []string
	for _, h := range r.Hosts {
		s := fmt.Sprint(h.Preference, " ", h.Name)
		for _, a := range h.Addrs {
			s += " " + a.String()
		}
		if h.Err != nil {
			s += " !"
		}
		list = append(list, s)
	}
	return strings.Join(list, "; ")
}

const routes = `
	plain.example          MX    20 b.example
	plain.example          MX    10 a.example
	a.example              A     192.0.2.1
	a.example              AAAA  2001:db8::1
	b.example              A     192.0.2.2
	b.example              A     192.0.2.3
	b.example              AAAA  2001:db8::2
	implicit.example       A     192.0.2.9
	nullmx.example         MX    0 .
	nullandmore.example    MX    0 .
	nullandmore.example    MX    10 a.example
	alias.example          CNAME plain.example
	aliasless.example      CNAME implicit.example
	servfail.example       MX    SERVFAIL
	late.example           MX    TIMEOUT
	gone.example           MX    10 nowhere.example
	empty.example          MX    10 text.example
	empty.example          A     192.0.2.8
	text.example           TXT   "no address"
	cname.example          MX    10 target.example
	target.example         CNAME a.example
	literal.example        MX    10 192.0.2.1
	half.example           MX    10 broken.example
	half.example           MX    20 b.example
	broken.example         A     SERVFAIL
	broken.example         AAAA  SERVFAIL
	lame.example           MX    10 broken.example
	lame.example           MX    20 nowhere.example
	nomail.example         TXT   "neither MX nor address"
	twice.example          MX    30 a.example
	twice.example          MX    5 A.example
	zero.example           MX    10 zeros.example
	zeros.example          A     0.0.0.0
	xn--mnchen-3ya.example MX    10 a.example
`

// TestRoute checks the rules of RFC 5321 section 5.1.
func TestRoute(t *testing.T) {
	for _, tt := range []struct {
		name   string
		domain string
		change func(*Router)
		want   string // as describe writes it, or the status code and a word of the error
	}{
		{"K01 by preference", "plain.example", nil,
			"10 a.example 2001:db8::1 192.0.2.1; 20 b.example 2001:db8::2 192.0.2.2 192.0.2.3"},
		{"in another case", "PLAIN.Example", nil,
			"10 a.example 2001:db8::1 192.0.2.1; 20 b.example 2001:db8::2 192.0.2.2 192.0.2.3"},
		{"K13 IPv4 first", "plain.example", func(r *Router) { r.Family = PreferIPv4 },
			"10 a.example 192.0.2.1 2001:db8::1; 20 b.example 192.0.2.2 2001:db8::2 192.0.2.3"},
		{"K13 IPv4 only", "plain.example", func(r *Router) { r.Family = OnlyIPv4 },
			"10 a.example 192.0.2.1; 20 b.example 192.0.2.2 192.0.2.3"},
		{"K13 IPv6 only", "plain.example", func(r *Router) { r.Family = OnlyIPv6 },
			"10 a.example 2001:db8::1; 20 b.example 2001:db8::2"},
		{"K02 no MX", "implicit.example", nil, "0 implicit.example 192.0.2.9"},
		{"K02 MX of no use", "empty.example", nil, "5.4.4 no address"},
		{"K02 neither", "nomail.example", nil, "5.4.4 no address"},
		{"K03 null MX", "nullmx.example", nil, "5.1.10 takes no mail"},
		{"K03 not alone", "nullandmore.example", nil, "10 a.example 2001:db8::1 192.0.2.1"},
		{"K04 no such domain", "nowhere.example", nil, "5.1.2 does not exist"},
		{"K04 SERVFAIL", "servfail.example", nil, "4.4.3 MX"},
		{"K04 no such host", "gone.example", nil, "5.4.4 nowhere.example"},
		{"K04 one of two", "half.example", nil, "10 broken.example !; 20 b.example 2001:db8::2 192.0.2.2 192.0.2.3"},
		{"K04 unknown before missing", "lame.example", nil, "4.4.3 broken.example"},
		{"an alias", "alias.example", nil,
			"10 a.example 2001:db8::1 192.0.2.1; 20 b.example 2001:db8::2 192.0.2.2 192.0.2.3"},
		{"an alias without MX", "aliasless.example", nil, "0 aliasless.example 192.0.2.9"},
		{"K07 the host is an alias", "cname.example", nil, "10 target.example 2001:db8::1 192.0.2.1"},
		{"K07 the host is an address", "literal.example", nil, "5.4.4 MX records"},
		{"K06 own name, the best", "plain.example", func(r *Router) { r.Names = []string{"A.example."} }, "5.4.6 loop"},
		{"K06 own name", "plain.example", func(r *Router) { r.Names = []string{"b.example"} },
			"10 a.example 2001:db8::1 192.0.2.1"},
		{"K06 own address, the best", "plain.example", func(r *Router) { r.Addrs = addrs("2001:db8::1") }, "5.4.6 loop"},
		{"K06 own address", "plain.example", func(r *Router) { r.Addrs = addrs("192.0.2.3") },
			"10 a.example 2001:db8::1 192.0.2.1"},
		{"K06 own domain", "implicit.example", func(r *Router) { r.Addrs = addrs("192.0.2.9") }, "5.4.6 loop"},
		{"K06 own address without a family in use", "plain.example",
			func(r *Router) { r.Addrs, r.Family = addrs("2001:db8::2"), OnlyIPv4 }, "10 a.example 192.0.2.1"},
		{"the same host twice", "twice.example", nil, "5 a.example 2001:db8::1 192.0.2.1"},
		{"an address that is none", "zero.example", nil, "5.4.4"},
		{"no address of the family", "implicit.example", func(r *Router) { r.Family = OnlyIPv6 }, "5.4.4 family"},
		{"U-labels", "münchen.example", nil, "10 a.example 2001:db8::1 192.0.2.1"},
		{"an address literal", "[192.0.2.7]", nil, "0 [192.0.2.7] 192.0.2.7"},
		{"an IPv6 literal", "[IPv6:2001:db8::7]", nil, "0 [ipv6:2001:db8::7] 2001:db8::7"},
		{"K06 a literal of this host", "[192.0.2.7]", func(r *Router) { r.Addrs = addrs("192.0.2.7") }, "5.4.6 loop"},
		{"a literal of no family", "[192.0.2.7]", func(r *Router) { r.Family = OnlyIPv6 }, "5.4.4 family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Router{Resolver: dnstest.New(routes)}
			if tt.change != nil {
				tt.change(r)
			}
			got, err := r.Route(t.Context(), domain(t, tt.domain))
			if err == nil {
				if s := describe(got); s != tt.want {
					t.Errorf("Route is %q, want %q", s, tt.want)
				}
				return
			}
			var e *RouteError
			code, word, _ := strings.Cut(tt.want, " ")
			if !errors.As(err, &e) || e.Status().String() != code || !strings.Contains(err.Error(), word) {
				t.Errorf("the error is %v, want %s", err, tt.want)
			}
			if client.Temporary(err) != strings.HasPrefix(code, "4") || !client.SafeToRetry(err) {
				t.Errorf("%v: temporary %v, safe to retry %v", err, client.Temporary(err), client.SafeToRetry(err))
			}
		})
	}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// TestRouteShuffles checks that hosts of the same preference take turns, and never leave their place (K01).
func TestRouteShuffles(t *testing.T) {
	t.Run("K01", func(t *testing.T) {
		r := &Router{Resolver: dnstest.New(`
			d.example  MX 10 a.example
			d.example  MX 10 b.example
			d.example  MX 10 c.example
			d.example  MX 5  first.example
			d.example  MX 20 last.example
			*.example  A  192.0.2.1
		`)}
		orders := map[string]int{}
		for range 300 {
			got, err := r.Route(t.Context(), domain(t, "d.example"))
			if err != nil {
				t.Fatal(err)
			}
			order := ""
			for _, h := range got.Hosts {
				order += h.Name[:1]
			}
			if order[0] != 'f' || order[4] != 'l' {
				t.Fatalf("the order is %s", order)
			}
			orders[order]++
		}
		// Each of the six orders comes 50 times on average: that one is missing has a chance of one in 10^23.
		if len(orders) != 6 {
			t.Errorf("there are the orders %v, want all six", orders)
		}
	})
}

// TestRouteLooksUpAtOnce checks that the addresses of all hosts are looked up at the same time, that only so many hosts
// are, and that the context ends the wait.
func TestRouteLooksUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		for i := range 100 {
			fmt.Fprintf(&text, "d.example MX 10 h%d.example\nh%d.example A 192.0.2.1\n", i, i)
		}
		r := dnstest.New(text.String() + "slow.example MX 10 silent.example\nsilent.example A TIMEOUT\n")
		r.Timeout = -1
		got, err := (&Router{Resolver: r}).Route(t.Context(), domain(t, "d.example"))
		if err != nil || len(got.Hosts) != maxHosts || r.Total() != 1+2*maxHosts {
			t.Errorf("%d hosts after %d questions: %v", len(got.Hosts), r.Total(), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		_, err = (&Router{Resolver: r}).Route(ctx, domain(t, "slow.example"))
		if !errors.Is(err, context.Canceled) || client.Temporary(err) {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestRouteKnowsItselfAmongMany has a host that is known by its address alone. It sends no mail to hosts with the same
// preference as its own (K06). It is behind all hosts that are considered.
func TestRouteKnowsItselfAmongMany(t *testing.T) {
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "d.example MX 10 h%d.example\nh%d.example A 192.0.2.1\n", i, i)
	}
	text.WriteString("d.example MX 10 own.example\nown.example A 192.0.2.9\nd.example MX 20 last.example\n" +
		"last.example A 192.0.2.8\n")
	for _, tt := range []struct{ more, want string }{
		{"", "5.4.6"},
		{"d.example MX 5 first.example\nfirst.example A 192.0.2.5\n", "5 first.example 192.0.2.5"},
	} {
		r := &Router{Resolver: dnstest.New(text.String() + tt.more), Addrs: addrs("192.0.2.9")}
		for range 10 { // the order of the hosts is another one each time
			got, err := r.Route(t.Context(), domain(t, "d.example"))
			var e *RouteError
			if errors.As(err, &e) && e.Status().String() == tt.want || err == nil && describe(got) == tt.want {
				continue
			}
			t.Errorf("%v, %v, want %s", got, err, tt.want)
		}
	}
}

// TestRouteProof checks that the route tells what DNSSEC has proved.
func TestRouteProof(t *testing.T) {
	r := dnstest.New(routes)
	r.Secure("plain.example", "implicit.example")
	for _, tt := range []struct {
		domain string
		want   bool
	}{{"plain.example", true}, {"implicit.example", true}, {"cname.example", false}, {"alias.example", false},
		{"[192.0.2.1]", false}} {
		got, err := (&Router{Resolver: r}).Route(t.Context(), domain(t, tt.domain))
		if err != nil || got.Authentic != tt.want {
			t.Errorf("%s: authentic is %v, want %v; %v", tt.domain, got.Authentic, tt.want, err)
		}
	}
}

var _ dns.Resolver = (*dnstest.Resolver)(nil)
