package policy

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestRelay checks for whom mail is taken, from whom.
func TestRelay(t *testing.T) {
	relay := Relay{
		Domains:  []string{"example.org", "Bücher.example", ".sub.example", "[192.0.2.25]"},
		Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:1::/48")},
		Ours: func(_ context.Context, d proto.Domain) (bool, error) {
			switch d.Key() {
			case "db.example":
				return true, nil
			case "down.example":
				return true, errors.New("the database is down")
			case "refusal.example":
				return false, proto.Refuse(550, proto.Status{}, "of something else")
			case "panic.example":
				panic("a mistake")
			}
			return false, nil
		},
	}
	routing := relay
	routing.AllowRouting = true
	nobody := relay
	nobody.Skip = Nobody
	const stranger, stranger6, own, own6, home = "192.0.2.7", "2001:db8:2::1", "198.51.100.9", "2001:db8:1::9", "127.0.0.1"
	tests := []struct {
		name  string
		relay Relay
		from  string
		to    string
		want  string
		found string
	}{
		{"ours", relay, stranger, "joe@example.org", "250", ""},
		{"in upper case", relay, stranger, "joe@EXAMPLE.ORG", "250", ""},
		{"A-labels for U-labels", relay, stranger, "joe@xn--bcher-kva.EXAMPLE", "250", ""},
		{"U-labels", relay, stranger, "joe@bücher.example", "250", ""},
		{"below ours", relay, stranger, "joe@a.example.org", "550 5.7.1", "relay=fail (a.example.org is not ours)"},
		{"ends as ours", relay, stranger, "joe@notexample.org", "550", "relay=fail (notexample.org is not ours)"},
		{"ours and more", relay, stranger, "joe@example.org.example", "550", "relay=fail (example.org.example is not ours)"},
		{"below", relay, stranger, "joe@a.b.sub.example", "250", ""},
		{"the domain above", relay, stranger, "joe@sub.example", "550", "relay=fail (sub.example is not ours)"},
		{"ends as one below", relay, stranger, "joe@xsub.example", "550", "relay=fail (xsub.example is not ours)"},
		{"a literal", relay, stranger, "joe@[192.0.2.25]", "250", ""},
		{"another literal", relay, stranger, "joe@[192.0.2.26]", "550", "relay=fail ([192.0.2.26] is not ours)"},
		{"another", relay, stranger6, "joe@example.net", "550 5.7.1 Relaying denied",
			"relay=fail (example.net is not ours)"},
		{"D02 postmaster", relay, stranger, "PostMaster", "250", ""},
		{"postmaster elsewhere", relay, stranger, "postmaster@example.net", "550", "relay=fail (example.net is not ours)"},

		{"own network", relay, own, "joe@example.net", "250", ""},
		{"own network, IPv6", relay, own6, "joe@example.net", "250", ""},
		{"own network, mapped", relay, "::ffff:198.51.100.9", "joe@example.net", "250", ""},
		{"loopback is nobody's own", relay, home, "joe@example.net", "550", "relay=fail (example.net is not ours)"},
		{"Y30, Z166 zero value", Relay{}, home, "joe@example.net", "550", "relay=fail (example.net is not ours)"},
		{"zero value, postmaster", Relay{}, stranger, "postmaster", "250", ""},

		{"a route to us", relay, stranger, "@a.example,@b.example:joe@example.org", "250", ""},
		{"a route through us", relay, stranger, "@example.org:joe@example.net", "550",
			"relay=fail (example.net is not ours)"},
		{"percent", relay, stranger, "joe%example.net@example.org", "550 5.7.1 Relaying denied: no routes",
			"relay=fail (the local part joe%example.net has a route in it)"},
		{"bang", relay, stranger, "example.net!joe@example.org", "550",
			"relay=fail (the local part example.net!joe has a route in it)"},
		{"at", relay, stranger, `"joe@example.net"@example.org`, "550",
			"relay=fail (the local part joe@example.net has a route in it)"},
		{"percent elsewhere", relay, stranger, "joe%example.org@example.net", "550", "relay=fail (example.net is not ours)"},
		{"Y31 percent permitted", routing, stranger, "joe%example.net@example.org", "250", ""},
		{"percent from own network", relay, own, "joe%example.net@example.org", "250", ""},

		{"in the database", relay, stranger, "joe@db.example", "250", ""},
		{"in the database, percent", relay, stranger, "joe%a@db.example", "550",
			"relay=fail (the local part joe%a has a route in it)"},
		{"Y34 no database", relay, stranger, "joe@down.example", "451 4.3.0", "relay=temperror"},
		{"an error that looks like a refusal", relay, stranger, "joe@refusal.example", "451 4.3.0", "relay=temperror"},
		{"a panic", relay, stranger, "joe@panic.example", "451 4.3.0", "relay=temperror"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, nil, tt.relay)
			p := w.dial(tt.from)
			p.ask("EHLO client.example", "250", "MAIL FROM:<a@b.example> SMTPUTF8", "250", "RCPT TO:<"+tt.to+">", tt.want,
				"RCPT TO:<postmaster>", "250", "QUIT", "221")
			p.closed()
			if got := w.found(); got != tt.found {
				t.Errorf("verdicts %s, want %s", got, tt.found)
			}
		})
	}
	for _, tt := range []struct {
		name  string
		relay Relay
		want  string
	}{{"authenticated", relay, "250"}, {"Skip instead", nobody, "550"}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newWorld(t, &inner{}, &server.Options{AllowInsecureAuth: true}, tt.relay).dial(stranger)
			p.ask("EHLO client.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.net>", "550",
				"RSET", "250", authPlain, "235", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.net>", tt.want,
				"QUIT", "221")
			p.closed()
		})
	}
}

// TestRelayOptions checks that mistakes in the options are told.
func TestRelayOptions(t *testing.T) {
	for _, tt := range []struct {
		relay Relay
		want  string
	}{
		{Relay{Domains: []string{"example.org", "*.example.org"}},
			`smtp: policy.Relay.Domains: "*.example.org" is no domain`},
		{Relay{Domains: []string{""}}, `"" is no domain`},
		{Relay{Domains: []string{".[192.0.2.1]"}}, `".[192.0.2.1]" is no domain`},
		{Relay{Domains: []string{"joe@example.org"}}, "is no domain; write"},
		{Relay{Networks: make([]netip.Prefix, 1)}, "smtp: policy.Relay.Networks: "},
		{Relay{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, "0.0.0.0/0 is everybody"},
		{Relay{Networks: []netip.Prefix{netip.MustParsePrefix("::/0")}}, "::/0 is everybody"},
		{Relay{Networks: []netip.Prefix{netip.MustParsePrefix("::ffff:192.0.2.0/120")}}, "is no network; write"},
	} {
		if _, err := Chain(tt.relay); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("the error is %v, want %q in it", err, tt.want)
		}
	}
}
