package policy_test

import (
	"net/netip"
	"time"

	"smtpkit.example/smtp/server/policy"
)

// Mail of networks that the server does not know is put off, once. A backup mail exchanger is left out.
func ExampleGreylist() {
	greylist := policy.Greylist{
		Delay: 5 * time.Minute,
		Skip:  policy.Trusted(netip.MustParsePrefix("198.51.100.25/32")),
	}

	commands := []string{
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@example.org>",
		"RCPT TO:<postmaster@example.org>",
	}
	try("192.0.2.7", commands, greylist)
	try("198.51.100.25", commands, greylist)
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 451 4.7.1 Greylisted, try again in 300 seconds
	// RCPT TO:<postmaster@example.org>
	// 250 2.1.5 Recipient OK
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 250 2.1.5 Recipient OK
	// RCPT TO:<postmaster@example.org>
	// 250 2.1.5 Recipient OK
}
