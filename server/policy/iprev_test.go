package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// TestIPRev checks the results of RFC 8601 section 2.7.3, in dialogues with a server.
func TestIPRev(t *testing.T) {
	const ptr, ptr6 = "7.2.0.192.in-addr.arpa. PTR ",
		"b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR "
	const client, client6, client4in6 = "192.0.2.7", "2001:db8:1:2:3:4:567:89ab", "::ffff:192.0.2.7"
	var many string
	for i := range 12 {
		many += fmt.Sprintf("%smx%02d.example.\n", ptr, i)
	}
	tests := []struct {
		name   string
		zone   string
		client string
		found  string
		reply  string // with Refuse
	}{
		{"Y20 pass", ptr + "mx.example.\n mx.example. A 192.0.2.7", client, "pass (mx.example)", "250"},
		{"Y20 pass, IPv6", ptr6 + "mx.example.\n mx.example. AAAA " + client6, client6, "pass (mx.example)", "250"},
		{"IPv4 in IPv6", ptr + "mx.example.\n mx.example. A 192.0.2.7", client4in6, "pass (mx.example)", "250"},
		{"the first name that passes", ptr + "a.example.\n" + ptr + "b.example.\n" + ptr + "c.example.\n" +
			"b.example. A 192.0.2.1\n b.example. A 192.0.2.7\n c.example. A 192.0.2.7", client, "pass (b.example)", "250"},
		{"one fails, one passes", ptr + "a.example.\n" + ptr + "b.example.\n a.example. A SERVFAIL\n b.example. A 192.0.2.7",
			client, "pass (b.example)", "250"},
		{"delegated by an alias", "7.2.0.192.in-addr.arpa. CNAME 7.0-63.2.0.192.in-addr.arpa.\n" +
			"7.0-63.2.0.192.in-addr.arpa. PTR mx.example.\n mx.example. A 192.0.2.7", client, "pass (mx.example)", "250"},

		{"Y21 another address", ptr + "mx.example.\n mx.example. A 192.0.2.8", client,
			"fail (no name has the address: mx.example)", "550 5.7.25 The address 192.0.2.7 has no name that leads back to it"},
		{"Y21 no address", ptr + "a.example.\n" + ptr + "b.example.\n b.example. A NODATA", client,
			"fail (no name has the address: a.example, b.example)", "550 5.7.25"},
		{"the address of the other family", ptr + "mx.example.\n mx.example. AAAA " + client4in6, client,
			"fail (no name has the address: mx.example)", "550"},

		{"Y22 no name", "", client, "permerror (the address has no name)", "550 5.7.25"},
		{"Y22 no PTR record", ptr + "NODATA", client6, "permerror (the address has no name)", "550"},

		{"Y23 SERVFAIL for the name", ptr + "SERVFAIL", client, "temperror", "250"},
		{"Y23 no answer", ptr + "TIMEOUT", client, "temperror", "250"},
		{"Y23 SERVFAIL for the address", ptr + "a.example.\n" + ptr + "b.example.\n a.example. A SERVFAIL\n" +
			"b.example. A 192.0.2.8", client, "temperror", "250"},
		{"Y23 no answer for the address", ptr + "a.example.\n a.example. A TIMEOUT", client, "temperror", "250"},

		{"Y24 the tenth name", many + "mx09.example. A 192.0.2.7", client, "pass (mx09.example)", "250"},
		{"Y24 the eleventh name", many + "mx10.example. A 192.0.2.7", client,
			"fail (no name has the address: mx00.example, mx01.example, mx02.example)", "550"},
		{"loopback", "", "127.0.0.1", "", "250"},
	}
	for _, tt := range tests {
		for _, refuse := range []bool{false, true} {
			tt := tt
			t.Run(fmt.Sprintf("%s, %v", tt.name, refuse), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					resolver := dnstest.New(tt.zone)
					resolver.Timeout = -1
					w := newWorld(t, nil, nil, IPRev{Resolver: resolver, Refuse: refuse})
					begin := time.Now()
					p := w.dial(tt.client)
					if !refuse {
						tt.reply = "250"
					}
					p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@d.example>", tt.reply,
						"RCPT TO:<postmaster>", "250", "QUIT", "221")
					p.closed()
					if tt.found != "" {
						tt.found = "iprev=" + tt.found
					}
					if got := w.found(); got != tt.found {
						t.Errorf("verdicts %s, want %s", got, tt.found)
					}
					if took := time.Since(begin); took > 5*time.Second || strings.Contains(tt.zone, "TIMEOUT") &&
						took < 5*time.Second {
						t.Errorf("it took %v", took)
					}
					if n := resolver.Total(); n > 11 || tt.found == "" && n > 0 {
						t.Errorf("%d questions", n)
					}
				})
			})
		}
	}
}

// TestIPRevOnce checks that a result holds for the session, and a failure does not.
func TestIPRevOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resolver := dnstest.New("7.2.0.192.in-addr.arpa. PTR SERVFAIL")
		p := newWorld(t, nil, nil, IPRev{Resolver: resolver, Refuse: true}).dial("192.0.2.7")
		visit := func(reply string, asked int) {
			t.Helper()
			p.ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@d.example>", reply, "RSET", "250")
			if n := resolver.Asked("7.2.0.192.in-addr.arpa", dns.PTR); n != asked {
				t.Errorf("asked %d times, want %d", n, asked)
			}
		}
		p.ask("EHLO c.example", "250")
		visit("250", 1)
		resolver.Set("7.2.0.192.in-addr.arpa. PTR NODATA")
		visit("550", 2)
		visit("550", 2)
	})
}

// A slowResolver takes a while for some names.
type slowResolver struct {
	dns.Resolver
	takes map[string]time.Duration
}

func (r slowResolver) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	<-time.After(r.takes[name])
	return r.Resolver.Lookup(ctx, name, t)
}

// TestIPRevChoice checks that of several names with the address the first counts, whichever is answered first.
func TestIPRevChoice(t *testing.T) {
	const zone = `
		7.2.0.192.in-addr.arpa. PTR a.example.
		7.2.0.192.in-addr.arpa. PTR b.example.
		7.2.0.192.in-addr.arpa. PTR c.example.
		a.example. A 192.0.2.1
		b.example. A 192.0.2.7
		c.example. A 192.0.2.7`
	for _, takes := range []map[string]time.Duration{
		{"b.example": time.Second},
		{"c.example": time.Second},
		{"a.example": 2 * time.Second, "b.example": time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil, nil, IPRev{Resolver: slowResolver{dnstest.New(zone), takes}})
			p := w.dial("192.0.2.7")
			p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250")
			if got := w.found(); got != "iprev=pass (b.example)" {
				t.Errorf("it takes %v, and the verdicts are %s", takes, got)
			}
		})
	}
}

// TestIPRevBadResolver checks that mail passes, whatever the resolver does.
func TestIPRevBadResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil, IPRev{Resolver: badResolver{dnstest.New(""), true}, Refuse: true})
		p := w.dial("192.0.2.7")
		p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<a@b.example>", "250", "QUIT", "221")
		p.closed()
		if got := w.found(); got != "iprev=temperror" {
			t.Errorf("verdicts %s", got)
		}
	})
}

// TestIPRevOptions checks that mistakes in the options are told.
func TestIPRevOptions(t *testing.T) {
	resolver := dnstest.New("")
	for _, tt := range []struct {
		part IPRev
		want string
	}{
		{IPRev{}, "smtp: policy.IPRev.Resolver: it is missing; use one that dns.New returns"},
		{IPRev{Resolver: resolver, MaxNames: 101}, "IPRev.MaxNames: 101 is not between 0 and 100"},
		{IPRev{Resolver: resolver, MaxNames: -1}, "IPRev.MaxNames: -1 is not"},
		{IPRev{Resolver: resolver, Timeout: -1}, "IPRev.Timeout: -1ns is not"},
		{IPRev{Resolver: resolver, Timeout: 2 * time.Minute}, "IPRev.Timeout: 2m0s is not between 0 and 1 minute"},
	} {
		if _, err := Chain(tt.part); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("the error is %v, want %q in it", err, tt.want)
		}
	}
}
