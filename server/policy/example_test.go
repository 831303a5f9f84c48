package policy_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/policy"
	"smtpkit.example/smtp/server/servertest"
)

// store is a backend that takes all mail.
var store = server.MessageFunc(func(context.Context, *server.Message) error { return nil })

// try has a client at an address send commands to a server with parts, and prints the replies.
func try(addr string, commands []string, parts ...policy.Part) {
	mw, err := policy.Chain(parts...)
	if err != nil {
		log.Fatal(err)
	}
	srv, err := server.New(server.Use(store, mw), &server.Options{Hostname: "mail.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	client, conn := servertest.Pipe(&net.TCPAddr{IP: net.ParseIP(addr), Port: 40000}, &net.TCPAddr{})
	go srv.ServeConn(context.Background(), conn)
	talk(client, commands)
}

// A server that takes mail for example.org from anybody, and for nobody else.
func ExampleRelay() {
	relay := policy.Relay{Domains: []string{"example.org"}}

	try("192.0.2.7", []string{
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@EXAMPLE.ORG>",
		"RCPT TO:<joe@example.net>",
		"RCPT TO:<joe%example.net@example.org>",
		"RCPT TO:<postmaster>",
	}, relay)
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@EXAMPLE.ORG>
	// 250 2.1.5 Recipient OK
	// RCPT TO:<joe@example.net>
	// 550 5.7.1 Relaying denied
	// RCPT TO:<joe%example.net@example.org>
	// 550 5.7.1 Relaying denied: no routes in local parts
	// RCPT TO:<postmaster>
	// 250 2.1.5 Recipient OK
}

// A server that knows its recipients from a file, and delivers mail for joe+lists to joe.
func ExampleRecipients() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "recipients")
	if err := os.WriteFile(path, []byte("# Our mailboxes\njoe@example.org\n@lists.example.org\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	file, err := policy.ReadRecipients(path, nil)
	if err != nil {
		log.Fatal(err) // it says which line is wrong
	}
	recipients := policy.Recipients{Lookup: file.Lookup, Delimiters: "+"}

	try("192.0.2.7", []string{
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<Joe+Lists@example.org>",
		"RCPT TO:<bob@example.org>",
		"RCPT TO:<bob@lists.example.org>",
	}, recipients)
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<Joe+Lists@example.org>
	// 250 2.1.5 Recipient OK
	// RCPT TO:<bob@example.org>
	// 550 5.1.1 No such recipient here
	// RCPT TO:<bob@lists.example.org>
	// 250 2.1.5 Recipient OK
}

// A server that takes two messages a minute from each address, and three recipients for them.
func ExampleRate() {
	rate := policy.Rate{Messages: 2, Recipients: 3, Window: time.Minute}

	try("192.0.2.7", []string{
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@example.org>",
		"RSET",
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@example.org>",
		"RCPT TO:<bob@example.org>",
		"RCPT TO:<eve@example.org>",
		"RSET",
		"MAIL FROM:<ann@example.com>",
	}, rate)
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 250 2.1.5 Recipient OK
	// RSET
	// 250 2.0.0 OK
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 250 2.1.5 Recipient OK
	// RCPT TO:<bob@example.org>
	// 250 2.1.5 Recipient OK
	// RCPT TO:<eve@example.org>
	// 450 4.7.1 Too many recipients, try again later
	// RSET
	// 250 2.0.0 OK
	// MAIL FROM:<ann@example.com>
	// 450 4.7.1 Too many messages, try again later
}

// A server that refuses clients which introduce themselves by its own name, or by a name that does not exist.
func ExampleHELO() {
	resolver := dnstest.New("client.example. A 192.0.2.7") // dns.New(nil) asks the DNS
	helo := policy.HELO{
		Resolver: resolver,
		Names:    []string{"example.org"},
		Refuse:   policy.HELOForged | policy.HELOUnresolvable,
	}

	try("192.0.2.9", []string{ // its EHLO has client.example
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@example.org>", // another address is no fault
		"HELO example.org",
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@example.org>",
		"HELO pc.example",
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<joe@example.org>",
	}, helo)
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 250 2.1.5 Recipient OK
	// HELO example.org
	// 250 mail.example.org
	// MAIL FROM:<ann@example.com>
	// 250 Sender OK
	// RCPT TO:<joe@example.org>
	// 550 The name in your EHLO is not yours: it is a name of this server
	// HELO pc.example
	// 250 mail.example.org
	// MAIL FROM:<ann@example.com>
	// 250 Sender OK
	// RCPT TO:<joe@example.org>
	// 450 The name in your EHLO does not exist
}

// A server that lets clients ask for two recipients that do not exist, and hangs up then.
func ExampleHarvest() {
	exists := func(_ context.Context, a proto.Address) (bool, error) { return a.Key() == "joe@example.org", nil }

	try("192.0.2.7", []string{
		"MAIL FROM:<ann@example.com>",
		"RCPT TO:<adam@example.org>",
		"RCPT TO:<alan@example.org>",
		"RCPT TO:<joe@example.org>",
		"RCPT TO:<alex@example.org>",
	}, policy.Harvest{Limit: 2}, policy.Recipients{Lookup: exists})
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<adam@example.org>
	// 550 5.1.1 No such recipient here
	// RCPT TO:<alan@example.org>
	// 550 5.1.1 No such recipient here
	// RCPT TO:<joe@example.org>
	// 250 2.1.5 Recipient OK
	// RCPT TO:<alex@example.org>
	// 421 4.7.0 Too many recipients that do not exist, closing connection
}

// A server that takes 10 MB from strangers, and 40 MB from its users.
func ExampleSize() {
	size := policy.Size{Anonymous: 10_000_000, Authenticated: 40_000_000}

	try("192.0.2.7", []string{
		"MAIL FROM:<ann@example.com> SIZE=20000000",
		"MAIL FROM:<ann@example.com> SIZE=5000",
	}, size)
	// Output:
	// MAIL FROM:<ann@example.com> SIZE=20000000
	// 552 5.3.4 Messages of yours may have 10000000 octets
	// MAIL FROM:<ann@example.com> SIZE=5000
	// 250 2.1.0 Sender OK
}

// talk sends EHLO and then the commands, and prints these and the replies.
func talk(client net.Conn, commands []string) {
	replies := newReplies(client)
	replies.next()
	fmt.Fprint(client, "EHLO client.example\r\n")
	replies.next()
	for _, c := range commands {
		fmt.Fprint(client, c+"\r\n")
		fmt.Printf("%s\n%s\n", c, replies.next())
	}
	client.Close()
}
