package policy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/server"
)

const heloZone = `
	good.example.      A     192.0.2.7
	six.example.       AAAA  2001:db8::7
	other.example.     A     192.0.2.8
	both.example.      A     192.0.2.8
	both.example.      AAAA  TIMEOUT
	half.example.      A     192.0.2.7
	half.example.      AAAA  SERVFAIL
	half6.example.     A     SERVFAIL
	half6.example.     AAAA  2001:db8::7
	mx.example.        MX    10 other.example.
	null.example.      MX    0 .
	down.example.      A     SERVFAIL
	down.example.      AAAA  SERVFAIL
	slow.example.      ANY   TIMEOUT
	halfmx.example.    MX    SERVFAIL
	xn--bcher-kva.example. A 192.0.2.7
	alias.example.     CNAME good.example.
	mail.example.      A     192.0.2.25
`

const everyFault = HELOForged | HELOUnqualified | HELOForeignLiteral | HELOUnresolvable

// TestHELO checks what is found out about a name, and what is refused when everything is that may be. The dialogue is
// the same without options, and then nothing is refused.
func TestHELO(t *testing.T) {
	const not, no = "550 5.7.1 The name in your EHLO is not yours", "450 4.7.1 The name in your EHLO does not exist"
	tests := []struct {
		name, from, hello string
		want              string
		found             string
	}{
		{"an address of the name", "192.0.2.7", "good.example", "250", "helo=pass"},
		{"in upper case", "192.0.2.7", "GOOD.example", "250", "helo=pass"},
		{"IPv6", "2001:db8::7", "six.example", "250", "helo=pass"},
		{"a mapped address", "::ffff:192.0.2.7", "good.example", "250", "helo=pass"},
		{"an alias", "192.0.2.7", "alias.example", "250", "helo=pass"},
		{"A-labels", "192.0.2.7", "xn--bcher-kva.example", "250", "helo=pass"},
		{"B13 a name with other addresses", "192.0.2.7", "other.example", "250", "helo=neutral (it has other addresses)"},
		{"B13 half an answer", "192.0.2.7", "both.example", "250", "helo=temperror"},
		{"half an answer, which has it", "192.0.2.7", "half.example", "250", "helo=pass"},
		{"the other half, which has it", "2001:db8::7", "half6.example", "250", "helo=pass"},
		{"half an answer, which has it not", "2001:db8::7", "half.example", "250", "helo=temperror"},
		{"a mail exchanger alone", "192.0.2.7", "mx.example", "250", "helo=neutral (it has a mail exchanger and no address)"},
		{"a null MX alone", "192.0.2.7", "null.example", no, "helo=fail (it does not exist)"},
		{"no such name", "192.0.2.7", "none.example", no, "helo=fail (it does not exist)"},
		{"no answer", "192.0.2.7", "down.example", "250", "helo=temperror"},
		{"no answer about MX", "192.0.2.7", "halfmx.example", "250", "helo=temperror"},
		{"a literal", "192.0.2.7", "[192.0.2.7]", "250", "helo=pass"},
		{"an IPv6 literal", "2001:db8::7", "[IPv6:2001:DB8:0::7]", "250", "helo=pass"},
		{"a literal, mapped", "192.0.2.7", "[IPv6:::ffff:192.0.2.7]", "250", "helo=pass"},
		{"a foreign literal", "192.0.2.7", "[192.0.2.8]", not, "helo=fail (it is another address)"},
		{"one label", "192.0.2.7", "localhost", not, "helo=fail (it is no qualified domain name)"},
		{"no name", "192.0.2.7", "192.0.2.7x_", not, "helo=fail (it is no qualified domain name)"},
		{"our name", "192.0.2.7", "MAIL.example", not, "helo=fail (it is a name of this server)"},
		{"another name of ours", "192.0.2.7", "mx.ours.example", not, "helo=fail (it is a name of this server)"},
		{"our literal", "192.0.2.7", "[192.0.2.25]", not, "helo=fail (it is a name of this server)"},
		{"another literal of ours", "192.0.2.7", "[192.0.2.99]", not, "helo=fail (it is a name of this server)"},
		{"another literal of ours, mapped", "192.0.2.7", "[IPv6:::ffff:192.0.2.99]", not,
			"helo=fail (it is a name of this server)"},
		{"our literal, mapped", "192.0.2.7", "[IPv6:::ffff:192.0.2.25]", not, "helo=fail (it is a name of this server)"},
		{"our name with a dot", "192.0.2.7", "Mail.Example.", not, "helo=fail (it is a name of this server)"},
		{"our address without brackets", "192.0.2.7", "192.0.2.25", not, "helo=fail (it is a name of this server)"},
		{"an address without brackets", "192.0.2.7", "192.0.2.7", not, "helo=fail (it is no qualified domain name)"},
		{"an IPv6 address without brackets", "2001:db8::7", "2001:db8::7", not, "helo=fail (it is no qualified domain name)"},
		{"a dot at the end", "192.0.2.7", "good.example.", "250", "helo=pass"},
		{"two dots at the end", "192.0.2.7", "good.example..", not, "helo=fail (it is no qualified domain name)"},
		{"a dot", "192.0.2.7", ".", not, "helo=fail (it is no qualified domain name)"},
		{"ourselves", "192.0.2.25", "mail.example", "250", "helo=pass"},
		{"left out", "127.0.0.1", "localhost", "250", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := dnstest.New(heloZone)
				part := HELO{Resolver: r, Refuse: everyFault, Names: []string{".ours.example", "[192.0.2.99]"}}
				w := newWorld(t, nil, &server.Options{Lax: true}, part)
				p := w.dial(tt.from)
				p.ask("EHLO "+tt.hello, "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", tt.want,
					"RCPT TO:<Postmaster@d.example>", "250", "RSET", "250")
				if got := w.found(); got != tt.found {
					t.Errorf("verdicts %s, want %s", got, tt.found)
				}
				before := r.Total()
				p.ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", tt.want)
				if got := w.found(); got != tt.found {
					t.Errorf("verdicts of another transaction %s, want %s", got, tt.found)
				}
				if again := r.Total() > before; again != (tt.found == "helo=temperror") {
					t.Errorf("the name is looked up again: %v", again)
				}
				p.ask("EHLO good.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", "250")

				part.Refuse = 0
				w = newWorld(t, nil, &server.Options{Lax: true}, part)
				p = w.dial(tt.from)
				p.ask("HELO "+tt.hello, "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", "250")
				if got := w.found(); got != tt.found {
					t.Errorf("verdicts %s, want %s", got, tt.found)
				}
			})
		})
	}
}

// TestHELOWithoutResolver checks the zero value, and that each fault can be refused by itself.
func TestHELOWithoutResolver(t *testing.T) {
	names := map[HELOFaults]string{HELOForged: "mail.example", HELOUnqualified: "pc", HELOForeignLiteral: "[192.0.2.8]",
		HELOUnresolvable: "none.example"}
	for refused := range names {
		part := HELO{Refuse: refused}
		if refused == HELOUnresolvable {
			part.Resolver = dnstest.New(heloZone)
		}
		for fault, name := range names {
			want := "250"
			if fault == refused {
				want = map[bool]string{true: "450", false: "550"}[fault == HELOUnresolvable]
			}
			newWorld(t, nil, nil, part).dial("192.0.2.7").ask("EHLO "+name, "250", "MAIL FROM:<a@b.example>", "250",
				"RCPT TO:<c@d.example>", want)
		}
	}
	w := newWorld(t, nil, nil, HELO{})
	w.dial("192.0.2.7").ask("EHLO none.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", "250")
	if got := w.found(); got != "helo=none" {
		t.Errorf("verdicts %s", got)
	}
	for _, tt := range []struct {
		part HELO
		want string
	}{
		{HELO{Names: []string{"x y"}}, "smtp: policy.HELO.Names: "},
		{HELO{Refuse: 32}, "smtp: policy.HELO.Refuse: 0x20 has"},
		{HELO{Refuse: 16}, "smtp: policy.HELO.Refuse: 0x10 has"},
		{HELO{Refuse: everyFault}, "smtp: policy.HELO.Refuse: HELOUnresolvable needs a Resolver"},
	} {
		if _, err := tt.part.Middleware(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("the error is %v, want %q", err, tt.want)
		}
	}
}

// TestHELOTimeout checks that a look-up without an end does not hold mail up for long.
func TestHELOTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := dnstest.New(heloZone)
		r.Timeout = -1
		w := newWorld(t, nil, nil, HELO{Resolver: r, Refuse: everyFault})
		p := w.dial("192.0.2.7")
		p.ask("EHLO slow.example", "250")
		begun := time.Now()
		p.ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", "250")
		if d := time.Since(begun); d != helloTimeout || w.found() != "helo=temperror" {
			t.Errorf("it took %v", d)
		}
	})
}
