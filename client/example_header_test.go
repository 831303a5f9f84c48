package client_test

import (
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"smtpkit.example/smtp/client"
)

// What sendmail -t does: the message comes without an envelope, from os.Stdin as a rule.
func ExampleReadMessage() {
	stdin := strings.NewReader("From: Alice <alice@example.org>\n" +
		"To: Team: bob@example.net, carol@example.net;\n" +
		"Bcc: dave@example.com\n" +
		"Subject: Hello\n" +
		"\n" +
		"How are you?\n")
	m, err := client.ReadMessage(stdin)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("from", m.From)
	for _, r := range m.To {
		fmt.Println("to", r.Address)
	}
	if _, err := io.Copy(os.Stdout, m.Body); err != nil { // Send does this for a server
		log.Fatal(err)
	}
	// Output:
	// from alice@example.org
	// to bob@example.net
	// to carol@example.net
	// to dave@example.com
	// From: Alice <alice@example.org>
	// To: Team: bob@example.net, carol@example.net;
	// Subject: Hello
	//
	// How are you?
}
