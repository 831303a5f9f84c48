package policy_test

import (
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/server/policy"
)

// Clients are refused whose address has no name that leads back to it. In production the resolver is one of dns.New.
func ExampleIPRev() {
	resolver := dnstest.New(`
		7.2.0.192.in-addr.arpa. PTR mx.example.com.
		mx.example.com.         A   192.0.2.7
	`)
	iprev := policy.IPRev{Resolver: resolver, Refuse: true}

	commands := []string{"MAIL FROM:<ann@example.com>", "RCPT TO:<joe@example.org>"}
	try("192.0.2.7", commands, iprev)
	try("192.0.2.8", commands, iprev)
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 250 2.1.5 Recipient OK
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 550 5.7.25 The address 192.0.2.8 has no name that leads back to it
}
