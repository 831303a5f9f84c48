package server_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/server"
)

// A relay adds a Received field on top of each message. Time and ID are set here so that the output is always the same.
func ExampleReceived() {
	backend := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		field := server.Received(m.Conn)
		field.ID, field.Time = "4XyZ17", time.Date(2026, 11, 28, 15, 4, 5, 0, time.UTC)
		text, err := io.ReadAll(tracefield.Prepend(tracefield.CheckLoop(m.Body, nil), field.String()))
		if err != nil {
			return err
		}
		fmt.Print(strings.ReplaceAll(string(text), "\r", ""))
		m.Conn.Accept("queued as " + field.ID)
		return nil
	})
	srv, err := server.New(backend, &server.Options{Hostname: "mail.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	addr, stop := start(srv, srv.Serve)
	defer stop()
	replies := converse(addr, "EHLO client.example.com", "MAIL FROM:<jane@example.com>", "RCPT TO:<joe@example.org>",
		"DATA", "Subject: Hello\r\n\r\nHello, Joe.\r\n.", "QUIT")
	fmt.Println(replies[len(replies)-2])
	// Output:
	// Received: from client.example.com ([127.0.0.1]) by mail.example.org
	//  with ESMTP id 4XyZ17 for <joe@example.org>; Sat, 28 Nov 2026 15:04:05 +0000
	// Subject: Hello
	//
	// Hello, Joe.
	// 250 2.0.0 queued as 4XyZ17
}
