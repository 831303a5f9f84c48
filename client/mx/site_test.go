package mx

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

const sites = routes + `
	mirror.example         MX    10 B.example
	mirror.example         MX    10 a.example
	only.example           MX    10 a.example
	forged.example         MX    10 a.example,b.example
	route.example          MX    10 =smarthost
	nothost.example        MX    10 192.0.2.1
	nothost.example        MX    20 b.example
`

// TestSite checks which domains have the same site, and that the errors are those of Route.
func TestSite(t *testing.T) {
	own := func(names ...string) func(*Router) { return func(r *Router) { r.Names = names } }
	for _, tt := range []struct {
		name   string
		domain string
		change func(*Router)
		want   string // the site, or the status code and a word of the error
	}{
		{"sorted by name", "plain.example", nil, "a.example,b.example"},
		{"in another case", "PLAIN.Example", nil, "a.example,b.example"},
		{"another domain, other preferences", "mirror.example", nil, "a.example,b.example"},
		{"an alias", "alias.example", nil, "a.example,b.example"},
		{"one of the hosts", "only.example", nil, "a.example"},
		{"a host that is listed twice", "twice.example", nil, "a.example"},
		{"no MX", "implicit.example", nil, "implicit.example"},
		{"no MX, the domain is the host of another", "a.example", nil, "a.example"},
		{"no MX, an alias", "aliasless.example", nil, "implicit.example"},
		{"U-labels", "münchen.example", nil, "a.example"},
		{"a literal", "[192.0.2.7]", nil, "[192.0.2.7]"},
		{"an IPv6 literal", "[IPv6:2001:db8::7]", nil, "[ipv6:2001:db8::7]"},
		{"one is no host", "nothost.example", nil, "b.example"},
		{"no address of a host", "gone.example", nil, "nowhere.example"},
		{"behind this host", "plain.example", own("b.example"), "a.example"},
		{"a comma in a host", "forged.example", nil, "a.example%2Cb.example"},
		{"the form of a route", "route.example", nil, "%3Dsmarthost"},

		{"this host is the best", "plain.example", own("A.example."), "5.4.6 loop"},
		{"this host without MX", "implicit.example", own("implicit.example"), "5.4.6 loop"},
		{"a literal of this host", "[192.0.2.7]", func(r *Router) { r.Addrs = addrs("192.0.2.7") }, "5.4.6 loop"},
		{"null MX", "nullmx.example", nil, "5.1.10 takes no mail"},
		{"no such domain", "nowhere.example", nil, "5.1.2 does not exist"},
		{"no host", "literal.example", nil, "5.4.4 MX records"},
		{"SERVFAIL", "servfail.example", nil, "4.4.3 MX"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resolver := dnstest.New(sites)
			d := &Deliverer{router: Router{Resolver: resolver}}
			if tt.change != nil {
				tt.change(&d.router)
			}
			got, err := d.Site(t.Context(), domain(t, tt.domain))
			if err == nil {
				if got != tt.want || resolver.Total() > 1 {
					t.Errorf("Site is %q after %d questions, want %q after one", got, resolver.Total(), tt.want)
				}
				return
			}
			var e *RouteError
			code, word, _ := strings.Cut(tt.want, " ")
			if got != "" || !errors.As(err, &e) || e.Status().String() != code || !strings.Contains(err.Error(), word) {
				t.Errorf("Site is %q, and the error is %v, want %s", got, err, tt.want)
			}
			_, other := d.Route(t.Context(), domain(t, tt.domain))
			if other == nil || other.Error() != err.Error() || client.Temporary(err) != client.Temporary(other) {
				t.Errorf("the error is %v, and that of Route %v", err, other)
			}
		})
	}
}

// TestSiteIsBounded has domains with so many hosts that their names do not fit.
func TestSiteIsBounded(t *testing.T) {
	var zone strings.Builder
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("mx%02d.example", i))
		fmt.Fprintf(&zone, "one.example MX %d %s\n", i, names[i])
		fmt.Fprintf(&zone, "two.example MX 10 %s\n", names[i])
		if i < 29 {
			fmt.Fprintf(&zone, "less.example MX 10 %s\n", names[i])
		}
	}
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, label[:61]}, ".")
	fmt.Fprintf(&zone, "%s A 192.0.2.1\n", long)
	d := &Deliverer{router: Router{Resolver: dnstest.New(zone.String())}}
	whole := strings.Join(names, ",")
	want := whole[:135] + fmt.Sprintf("#%x", sha256.Sum256([]byte(whole)))
	for _, name := range []string{"one.example", "two.example"} {
		if got, err := d.Site(t.Context(), domain(t, name)); err != nil || got != want {
			t.Errorf("%s: Site is %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"less.example", long} {
		got, err := d.Site(t.Context(), domain(t, name))
		if err != nil || len(got) != 200 || got == want || got[135] != '#' {
			t.Errorf("%s: Site is %q with %d octets, %v", name, got, len(got), err)
		}
	}
}
