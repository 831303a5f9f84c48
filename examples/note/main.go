// Note sends one message through a submission server.
//
//	go run ./examples/note
package main

import (
	"context"
	"log"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/auth"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	text := "From: Alice <alice@example.org>\r\n" +
		"To: bob@example.net\r\n" +
		"Date: " + time.Now().Format(time.RFC1123Z) + "\r\n" +
		"Subject: Hello\r\n" +
		"\r\n" +
		"How are you?\r\n"
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, strings.NewReader(text))
	if err != nil {
		log.Fatal(err)
	}
	opt := &client.Options{Credentials: auth.Password("alice", "secret")}
	if err := client.Send(ctx, "mail.example.org:587", opt, m); err != nil {
		log.Fatal(err) // it says which command was refused, and why
	}
}
