package policy_test

import (
	"context"
	"log"

	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/server/policy"
)

// A block list, of whose answers two count, and an allow list. In production the resolver is one of dns.New.
func ExampleDNSList() {
	resolver := dnstest.New(`
		2.0.0.127.bl.example.    A   127.0.0.2
		7.2.0.192.bl.example.    A   127.0.0.4
		7.2.0.192.bl.example.    TXT "see https://bl.example/192.0.2.7"
		2.0.0.127.allow.example. A   127.0.0.2
	`)
	lists := policy.DNSList{
		Resolver: resolver,
		Lists: []policy.List{
			{Zone: "bl.example", Answers: []policy.ListAnswer{{Addrs: "127.0.0.2"}, {Addrs: "127.0.0.4"}}},
			{Zone: "allow.example", Allow: true},
		},
	}
	if err := lists.Check(context.Background()); err != nil {
		log.Print(err) // a list is gone, or does not answer this resolver
	}

	try("192.0.2.7", []string{
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@example.org>",
		"RCPT TO:<postmaster@example.org>",
	}, lists)
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 554 5.7.1 192.0.2.7 is listed by bl.example: see https://bl.example/192.0.2.7
	// RCPT TO:<postmaster@example.org>
	// 250 2.1.5 Recipient OK
}
