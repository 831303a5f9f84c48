package dns_test

import (
	"context"
	"net/netip"
	"testing"

	"smtpkit.example/smtp/ext/dns"
)

// provesOne is a resolver whose answers about one type are authentic, and no others.
type provesOne dns.Type

func (p provesOne) Lookup(_ context.Context, name string, t dns.Type) (*dns.Answer, error) {
	a := &dns.Answer{Name: name, Authentic: t == dns.Type(p)}
	if t == dns.A {
		a.Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	}
	return a, nil
}

// What DNSSEC proves of one family does not prove the other, and is told all the same.
func TestLookupAddrsAuthentic(t *testing.T) {
	for _, proved := range []dns.Type{dns.A, dns.AAAA, dns.TXT} {
		a, err := dns.LookupAddrs(t.Context(), provesOne(proved), "mx.example.org")
		if err != nil || a.Authentic || a.AuthenticIPv4 != (proved == dns.A) || a.AuthenticIPv6 != (proved == dns.AAAA) {
			t.Errorf("%v proved: %+v, %v", proved, a, err)
		}
	}
}
