package deliver_test

import (
	"context"
	"fmt"
	"log"
	"net/mail"
	"os"
	"path/filepath"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/deliver"
	"smtpkit.example/smtp/proto"
)

// Each recipient has an outcome of his own. Here one of them has no mailbox.
func ExampleMaildir() {
	root, err := os.MkdirTemp("", "mail")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	users := map[string]bool{"bob@example.org": true}
	local := deliver.Maildir{Path: func(to proto.Address) (string, error) {
		if !users[strings.ToLower(to.Key())] {
			return "", nil
		}
		return deliver.Under(root)(to)
	}}
	m, err := client.NewMessage("alice@example.net", []string{"bob@example.org", "nobody@example.org"},
		strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	result, err := local.Send(context.Background(), m)
	for _, r := range result.Recipients {
		fmt.Println(r.Address, "-", r.Err)
	}
	fmt.Println("to be tried again:", client.Temporary(err))

	files, _ := filepath.Glob(filepath.Join(root, "example.org/bob/new/*"))
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		got, err := mail.ReadMessage(f)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(got.Header.Get("Return-Path"), got.Header.Get("Subject"))
	}
	// Output:
	// bob@example.org - <nil>
	// nobody@example.org - smtp: 550 5.1.1 there is no such mailbox
	// to be tried again: false
	// <alice@example.net> Hello
}

// An archive of all that was sent.
func ExampleMbox() {
	dir, err := os.MkdirTemp("", "mail")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "archive")
	archive := deliver.Mbox{Path: func(proto.Address) (string, error) { return name, nil }}
	m, err := client.NewMessage("alice@example.net", []string{"bob@example.org"},
		strings.NewReader("Subject: Hello\r\n\r\nFrom here to there\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := archive.Send(context.Background(), m); err != nil {
		log.Fatal(err)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\n") // without the date
	fmt.Print(rest)
	// Output:
	// Return-Path: <alice@example.net>
	// Delivered-To: bob@example.org
	// Subject: Hello
	//
	// >From here to there
}

// A program that gets each message on its standard input. After "--from=", or after "--", an address cannot be an
// option.
func ExamplePipe() {
	tickets := deliver.Pipe{
		Args: []string{"/usr/local/bin/new-ticket", "--from={sender}", "--", deliver.RecipientArg},
		Env:  []string{"LANG=C.UTF-8"},
	}
	m, err := client.NewMessage("alice@example.net", []string{"help@example.org"},
		strings.NewReader("Subject: It is broken\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tickets.Send(context.Background(), m); client.Temporary(err) {
		fmt.Println("to be tried again")
	}
}

// A table of routes: mailboxes of our own by LMTP, and all else by a smarthost.
func ExampleNewRoutes() {
	mailboxes := client.DialSender("unix:/run/dovecot/lmtp", &client.Options{Protocol: proto.LMTP})
	smarthost := client.DialSender("mail.example.net:587", nil)
	routes, err := deliver.NewRoutes(map[string]client.Sender{
		"example.org":  mailboxes,
		".example.org": mailboxes,
		".invalid":     deliver.Refuse(proto.Refuse(550, proto.Status{5, 1, 2}, "there is no such domain")),
		"*":            smarthost,
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	m, err := client.NewMessage("alice@example.org", []string{"bob@nowhere.invalid"},
		strings.NewReader("Subject: Hello\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = routes.Send(context.Background(), m)
	fmt.Println(err)
	// Output: smtp: 550 5.1.2 there is no such domain
}
