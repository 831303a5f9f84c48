package mx

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
)

// TestMemoryForgets checks for how long the order of addresses is another one, and what counts more.
func TestMemoryForgets(t *testing.T) {
	list := addrs("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2")
	const as = "6a 4a 6b 4b" // as the route has them
	say := func(m *memory, at int, code int, status proto.Status, text string) {
		m.answered("h", list[at], proto.Refuse(code, status, text))
	}
	later := func(m *memory, at int) { say(m, at, 451, proto.Status{4, 7, 1}, "wait") }
	nameless := func(m *memory, at int) { say(m, at, 550, proto.Status{5, 7, 25}, "no PTR") }
	dead := func(m *memory, at int) { m.dialled("h", list[at], false) }
	for _, tt := range []struct {
		name string
		do   func(m *memory, pass func(time.Duration))
		want string
	}{
		{"a dead address", func(m *memory, pass func(time.Duration)) { dead(m, 0); pass(deadFor - 1) }, "4a 6b 4b 6a"},
		{"no longer dead", func(m *memory, pass func(time.Duration)) { dead(m, 0); pass(deadFor) }, as},
		{"greylisted", func(m *memory, pass func(time.Duration)) { later(m, 3); pass(greylistedFor - 1) }, "4b 6a 4a 6b"},
		{"no longer greylisted", func(m *memory, pass func(time.Duration)) { later(m, 3); pass(greylistedFor) }, as},
		{"no longer refused", func(m *memory, pass func(time.Duration)) { nameless(m, 0); pass(refusedFor) }, as},
		{"accepted by the family that was refused", func(m *memory, _ func(time.Duration)) {
			nameless(m, 0)
			m.answered("h", list[2], nil)
		}, as},
		{"greylisted, and then dead", func(m *memory, _ func(time.Duration)) { later(m, 3); dead(m, 3) }, "4b 6a 4a 6b"},
		{"dead, of the family that is welcome", func(m *memory, _ func(time.Duration)) { nameless(m, 0); dead(m, 1) },
			"4b 4a 6a 6b"},
		{"accepted at another address", func(m *memory, _ func(time.Duration)) {
			later(m, 3)
			m.answered("h", list[1], nil)
		}, "4b 6a 4a 6b"},
		{"greylisted for an hour", func(m *memory, pass func(time.Duration)) { later(m, 3); pass(time.Hour); later(m, 3) },
			"4b 6a 4a 6b"},
		{"greylisted for too long", func(m *memory, pass func(time.Duration)) {
			later(m, 0)
			pass(greylisting + 1)
			later(m, 0)
			pass(greylistedFor - 1)
		}, "4a 6b 4b 6a"},
		{"greylisted at one, and at another hours later", func(m *memory, pass func(time.Duration)) {
			later(m, 1)
			pass(greylisting + 1)
			later(m, 3)
		}, "4b 6a 4a 6b"},
		{"greylisted, and again after days", func(m *memory, pass func(time.Duration)) {
			later(m, 3)
			pass(2 * greylistedFor)
			later(m, 3)
		}, "4b 6a 4a 6b"},
		{"refused for good", func(m *memory, _ func(time.Duration)) { say(m, 3, 550, proto.Status{5, 1, 1}, "nobody") }, as},
		{"no reverse DNS", func(m *memory, _ func(time.Duration)) {
			say(m, 0, 550, proto.Status{5, 7, 1}, "reverse DNS lookup failed")
		}, "4a 4b 6a 6b"},
		{"the code in the text", func(m *memory, _ func(time.Duration)) {
			say(m, 0, 550, proto.Status{}, "5.7.25 who are you")
		}, "4a 4b 6a 6b"},
		{"PTR in another refusal", func(m *memory, _ func(time.Duration)) {
			say(m, 0, 550, proto.Status{5, 1, 1}, "no mailbox ptr")
		}, as},
		{"25 of another subject", func(m *memory, _ func(time.Duration)) {
			say(m, 0, 550, proto.Status{5, 1, 25}, "no")
		}, as},
		{"many that were dead", func(m *memory, pass func(time.Duration)) {
			a := addrs("198.51.100.1")[0]
			for range maxDead {
				m.dialled("h", a, false)
				a = a.Next()
			}
			pass(deadFor)
			dead(m, 0)
		}, "4a 6b 4b 6a"},
		{"asked for among many hosts", func(m *memory, _ func(time.Duration)) {
			dead(m, 0)
			for i := range maxSites + maxSites/2 {
				m.dialled(fmt.Sprint("h", i), list[0], false)
				if i == maxSites/2 {
					m.order("h", list, 10)
				}
			}
		}, "4a 6b 4b 6a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m memory
				tt.do(&m, func(d time.Duration) { <-time.After(d) }) // no time in the bubble
				got := ""
				for _, a := range m.order("h", list, 10) {
					got += map[netip.Addr]string{list[0]: " 6a", list[1]: " 4a", list[2]: " 6b", list[3]: " 4b"}[a]
				}
				if got[1:] != tt.want {
					t.Errorf("the order is%s, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestOrderOfHosts checks which of two hosts of the same preference is tried first after what has happened at one.
// Their order is random otherwise.
func TestOrderOfHosts(t *testing.T) {
	const same = `
		d.example MX   10 a.example
		d.example MX   10 b.example
		a.example A    192.0.2.1
		a.example AAAA 2001:db8::1
		b.example A    192.0.2.2
	`
	four, six := addrs("192.0.2.1")[0], addrs("2001:db8::1")[0]
	wait := proto.Refuse(451, proto.Status{4, 7, 1}, "wait")
	for _, tt := range []struct {
		name string
		do   func(*memory)
		want string // the hosts that come first; both if the order is random
	}{
		{"nothing", func(*memory) {}, "ab"},
		{"all addresses dead", func(m *memory) {
			m.dialled("a.example", four, false)
			m.dialled("a.example", six, false)
		}, "b"},
		{"all were dead", func(m *memory) {
			m.dialled("a.example", four, false)
			m.dialled("a.example", six, false)
			<-time.After(deadFor) // no time in the bubble
		}, "ab"},
		{"an address dead", func(m *memory) {
			m.dialled("a.example", six, false)
			m.dialled("b.example", six, false)
		}, "ab"},
		{"greylisted", func(m *memory) { m.answered("a.example", four, wait) }, "a"},
		{"was greylisted", func(m *memory) {
			m.answered("a.example", four, wait)
			<-time.After(greylistedFor) // no time in the bubble
		}, "ab"},
		{"greylisted at an address of the past", func(m *memory) {
			m.answered("a.example", addrs("192.0.2.77")[0], wait)
		}, "ab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, same, nil, func(t *testing.T, b *bed) {
				tt.do(&b.memory)
				seen := map[string]bool{}
				for range 64 { // a chance of one in 10^19 that a random order is always the same
					j := b.split(message(t, "x@d.example"))[0]
					if !j.locate(t.Context()) {
						t.Fatal(j.outcomes)
					}
					seen[j.route.Hosts[0].Name[:1]] = true
				}
				got := ""
				for _, h := range []string{"a", "b"} {
					if seen[h] {
						got += h
					}
				}
				if got != tt.want {
					t.Errorf("first come %s, want %s", got, tt.want)
				}
			})
		})
	}
	t.Run("K01 preference counts more", func(t *testing.T) {
		lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
			b.add("192.0.2.1", &host{})
			b.add("192.0.2.2", &host{})
			b.memory.answered("mx2.example", addrs("192.0.2.2")[0], wait)
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil || b.order() != "192.0.2.1" {
				t.Error(err)
			}
		})
	})
}

// TestRouteTells checks what a route tells besides its hosts.
func TestRouteTells(t *testing.T) {
	r := &Router{Resolver: dnstest.New("alias.example CNAME plain.example\n" +
		"plain.example 77 MX 10 a.example\na.example A 192.0.2.1\n")}
	for _, tt := range []struct {
		domain, want string
	}{
		{"plain.example", "plain.example plain.example false 1m17s"},
		{"a.example", "a.example a.example true 5m0s"},
		{"alias.example", "alias.example plain.example false 1m17s"},
		{"[192.0.2.1]", "[192.0.2.1] [192.0.2.1] false 0s"},
	} {
		got, err := r.Route(t.Context(), domain(t, tt.domain))
		if err != nil {
			t.Fatal(err)
		}
		if s := fmt.Sprint(got.Domain, " ", got.Expanded, " ", got.Implicit, " ", got.TTL); s != tt.want {
			t.Errorf("%s: the route tells %q, want %q", tt.domain, s, tt.want)
		}
	}
}

// A raw resolver answers with MX records of names that a dnstest.Resolver does not take, too.
type raw struct {
	dns.Resolver
	hosts []string
}

func (r raw) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	answer, err := r.Resolver.Lookup(ctx, name, t)
	if err == nil && name == "odd.example" && t == dns.MX {
		more := *answer
		for _, h := range r.hosts {
			more.MX = append(slices.Clone(more.MX), dns.MailExchange{Preference: 70, Host: h})
		}
		answer = &more
	}
	return answer, err
}

// TestRouteOddities checks records that nobody needs, and somebody has.
func TestRouteOddities(t *testing.T) {
	const text = `
		once.example   MX   5  a.example
		once.example   MX   30 A.example
		a.example      A    192.0.2.1
		a.example      AAAA ::ffff:192.0.2.1
		mapped.example AAAA ::ffff:192.0.2.7
		lame.example   MX   10 nowhere.example
		lame.example   MX   20 broken.example
		broken.example A    SERVFAIL
		b.example      MX   10 224.example
		224.example    A    224.0.0.1
		odd.example    MX   10 [192.0.2.1]
		odd.example    MX   20 ::1
		odd.example    MX   30 a/b
		odd.example    MX   40 a%b
		odd.example    MX   60 a.example
	`
	for _, tt := range []struct {
		name, domain string
		own          string
		want         string // as describe writes it, or a word of the error
	}{
		{"the lower preference of two", "once.example", "", "5 a.example 192.0.2.1"},
		{"K04 missing before unknown", "lame.example", "", "broken.example"},
		{"a group address", "b.example", "", "no address"},
		{"names that no host has", "odd.example", "", "60 a.example 192.0.2.1"},
		{"K06 an own address in a AAAA record", "mapped.example", "192.0.2.7", "loop"},
		{"K06 an own address in the form of IPv6", "[IPv6:::ffff:192.0.2.7]", "192.0.2.7", "loop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Router{Resolver: raw{dnstest.New(text), []string{"a b.example", "m\xfcnchen.example"}}}
			if tt.own != "" {
				r.Addrs = addrs(tt.own)
			}
			got, err := r.Route(t.Context(), domain(t, tt.domain))
			switch {
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("the error is %v, want %s", err, tt.want)
			case err == nil && describe(got) != tt.want:
				t.Errorf("Route is %q, want %q", describe(got), tt.want)
			}
		})
	}
}

// TestRouteOfMany checks that this host is found in a list of which only a part is used, and that of the addresses of a
// host only so many are.
func TestRouteOfMany(t *testing.T) {
	t.Run("K06 own name", func(t *testing.T) {
		var text strings.Builder
		for i := range 100 {
			fmt.Fprintf(&text, "d.example MX 10 h%d.example\nh%d.example A 192.0.2.1\n", i, i)
		}
		r := &Router{Resolver: dnstest.New(text.String()), Names: []string{"h7.example"}}
		for range 20 { // the order is random
			if got, err := r.Route(t.Context(), domain(t, "d.example")); err == nil || told(err) != "5.4.6" {
				t.Fatalf("the route is %v, the error %v", got, err)
			}
		}
	})
	t.Run("addresses", func(t *testing.T) {
		var text strings.Builder
		for i := range 100 {
			fmt.Fprintf(&text, "d.example A 192.0.2.%d\n", i)
		}
		got, err := (&Router{Resolver: dnstest.New(text.String())}).Route(t.Context(), domain(t, "d.example"))
		if err != nil || len(got.Hosts[0].Addrs) != maxAddrs {
			t.Errorf("the route is %v, the error %v", got, err)
		}
	})
}
