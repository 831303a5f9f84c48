package dkim_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/dkim"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/proto"
)

const file = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
`

// Each message is signed, and then sent by whatever sends messages.
func Example() {
	key, err := dkim.ParsePrivateKey([]byte(file))
	if err != nil {
		log.Fatal(err)
	}
	signer, err := dkim.New(&dkim.Options{Keys: []dkim.Key{
		{Domain: "football.example.com", Selector: "brisbane", Signer: key},
	}})
	if err != nil {
		log.Fatal(err)
	}
	out := signer.Sender(printer()) // a pool, in a program that sends

	body := strings.NewReader("From: joe@football.example.com\r\nSubject: Is dinner ready?\r\n\r\nHi.\r\n")
	m, err := client.NewMessage("joe@football.example.com", []string{"suzie@shopping.example.net"}, body)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := out.Send(context.Background(), m); err != nil {
		log.Fatal(err)
	}
	// Output:
	// DKIM-Signature
	// From
	// Subject
}

// printer returns a Sender that prints the names of header fields.
func printer() client.Sender {
	return client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
		text, err := io.ReadAll(m.Body)
		header, _, _ := strings.Cut(string(text), "\r\n\r\n")
		for line := range strings.SplitSeq(header, "\r\n") {
			if name, _, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") {
				fmt.Println(name)
			}
		}
		return &client.Result{Recipients: make([]proto.Outcome, len(m.To))}, err
	})
}

// The record that has to be published before anybody can verify a signature.
func ExampleKey_Record() {
	signer, err := dkim.ParsePrivateKey([]byte(file))
	if err != nil {
		log.Fatal(err)
	}
	key := dkim.Key{Domain: "football.example.com", Selector: "brisbane", Signer: signer}
	record, err := key.Record()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.ReplaceAll(record.String(), "; ", ";\n"))
	// Output:
	// brisbane._domainkey.football.example.com. IN TXT ( "v=DKIM1;
	// k=ed25519;
	// p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" )
}

// What delivers to mail exchangers signs for each attempt at a host.
func ExampleSigner_Prepare_mailExchangers() {
	text, err := os.ReadFile("rsa.pem")
	if err != nil {
		log.Fatal(err)
	}
	key, err := dkim.ParsePrivateKey(text)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := dkim.New(&dkim.Options{Keys: []dkim.Key{{Domain: "example.org", Selector: "2026a", Signer: key}}})
	if err != nil {
		log.Fatal(err)
	}
	d, err := mx.New(&mx.Options{Prepare: signer.Prepare})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(context.Background())
	body := strings.NewReader("From: alice@example.org\r\nSubject: Hello\r\n\r\nHow are you?\r\n")
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := d.Send(context.Background(), m); err != nil {
		log.Print(err)
	}
}

// A program that makes its own attempts signs for each of them.
func ExampleSigner_Prepare() {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := dkim.New(&dkim.Options{
		Keys:     []dkim.Key{{Domain: "example.org", Selector: "2026a", Signer: key, Subdomains: true}},
		Required: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, from := range []string{"alice@news.example.org", "mallory@example.net"} {
		m := &client.Message{Body: strings.NewReader("From: " + from + "\r\n\r\nHello\r\n")}
		signed, err := signer.Prepare(context.Background(), m)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(from, signed.Size > 0)
	}
	// Output:
	// alice@news.example.org true
	// smtp: the field From: there is no key for example.net: add one to Options.Keys, or clear Options.Required
}
