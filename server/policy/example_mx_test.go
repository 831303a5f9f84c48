package policy_test

import (
	"log"
	"os"
	"path/filepath"

	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/server/policy"
)

// What takes mail for example.org on port 25. A program has a resolver of dns.New, and files that stay.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "recipients")
	if err := os.WriteFile(path, []byte("joe@example.org\nann@example.org\n"), 0o600); err != nil {
		log.Fatal(err)
	}
	resolver := dnstest.New("9.2.0.192.bl.example. A 127.0.0.2")

	recipients, err := policy.ReadRecipients(path, nil)
	if err != nil {
		log.Fatal(err)
	}
	kept, err := policy.OpenGreylistFile(filepath.Join(dir, "greylist"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer kept.Close()
	checks := []policy.Part{
		policy.Rate{Messages: 60, Recipients: 600},
		policy.Harvest{},
		policy.Relay{Domains: []string{"example.org"}},
		policy.Recipients{Lookup: recipients.Lookup},
		policy.DNSList{Resolver: resolver, Lists: []policy.List{{Zone: "bl.example"}}},
		policy.Greylist{Store: kept},
	}

	try("192.0.2.7", []string{
		"MAIL FROM:<bob@example.com>",
		"RCPT TO:<eve@example.net>",
		"RCPT TO:<nobody@example.org>",
		"RCPT TO:<joe@example.org>",
	}, checks...)
	try("192.0.2.9", []string{
		"MAIL FROM:<bob@example.com>",
		"RCPT TO:<joe@example.org>",
		"RCPT TO:<postmaster>",
	}, checks...)
	// Output:
	// MAIL FROM:<bob@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<eve@example.net>
	// 550 5.7.1 Relaying denied
	// RCPT TO:<nobody@example.org>
	// 550 5.1.1 No such recipient here
	// RCPT TO:<joe@example.org>
	// 451 4.7.1 Greylisted, try again in 60 seconds
	// MAIL FROM:<bob@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 554 5.7.1 192.0.2.9 is listed by bl.example
	// RCPT TO:<postmaster>
	// 250 2.1.5 Recipient OK
}
