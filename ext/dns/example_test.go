package dns_test

import (
	"context"
	"fmt"
	"net"
	"strings"

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

// A program that relies on DANE asks a validating resolver on its own host, and makes sure at its start.
func ExampleStub_CheckDNSSEC() {
	ctx := context.Background()
	resolver, err := dns.New(&dns.Options{Servers: []string{"192.0.2.53"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := resolver.CheckDNSSEC(ctx); err != nil {
		why, whatToDo, _ := strings.Cut(err.Error(), ": run")
		fmt.Println("No DANE:", why)
		fmt.Println("Run" + whatToDo)
	}
	// Output:
	// No DANE: smtp: what name server 192.0.2.53:53 says of DNSSEC is not believed, since it is not on a loopback address
	// Run a validating resolver on this host, or set dns.Options.TrustAD if that one validates and the way to it is safe
}

// A program finds out which hosts take mail for a domain.
func ExampleNew() {
	resolver, err := dns.New(nil) // or with dns.Options.Servers
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := resolver.Lookup(context.Background(), "example.org", dns.MX)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, mx := range answer.MX {
		fmt.Println(mx.Preference, mx.Host)
	}
}

// A program looks names up as the rest of the system does, and needs no DNSSEC.
func ExampleFromNet() {
	resolver := dns.FromNet(net.DefaultResolver)
	addrs, err := dns.LookupAddrs(context.Background(), resolver, "localhost")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(addrs.IPv4)
}
