package dns_test

import (
	"context"
	"fmt"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// A program needs the addresses of a host, of both families.
func ExampleLookupAddrs() {
	resolver := dnstest.New(`
		mx.example.org.    CNAME host.example.net.
		host.example.net.  A 192.0.2.1
		host.example.net.  AAAA 2001:db8::1
	`)

	addrs, err := dns.LookupAddrs(context.Background(), resolver, "mx.example.org")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(addrs.Name, addrs.IPv6, addrs.IPv4)
	// Output: host.example.net [2001:db8::1] [192.0.2.1]
}
