package dnstest_test

import (
	"context"
	"fmt"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// A test gives the code under test a DNS of its own.
func Example() {
	resolver := dnstest.New(`
		example.org.     MX 10 mx.example.org.
		mx.example.org.  A 192.0.2.1
	`)
	resolver.Secure("example.org")

	answer, err := resolver.Lookup(context.Background(), "example.org", dns.MX)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, mx := range answer.MX {
		fmt.Println(mx.Preference, mx.Host, answer.Authentic)
	}
	// Output: 10 mx.example.org true
}

// A test breaks a name, and mends it.
func ExampleResolver_Set() {
	ctx := context.Background()
	resolver := dnstest.New("mx.example.org. A SERVFAIL")

	_, err := resolver.Lookup(ctx, "mx.example.org", dns.A)
	fmt.Println(err)

	resolver.Set("mx.example.org. A 192.0.2.1")
	answer, err := resolver.Lookup(ctx, "mx.example.org", dns.A)
	fmt.Println(answer.Addrs, err)
	fmt.Println(resolver.Asked("mx.example.org", dns.A), "questions")
	// Output:
	// smtp: looking up A of mx.example.org: the server cannot answer now (SERVFAIL)
	// [192.0.2.1] <nil>
	// 2 questions
}
