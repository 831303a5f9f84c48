package server_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"time"

	"smtpkit.example/smtp/server"
)

// A server on port 25 that lets nobody in who does not wait for the greeting, and takes the line endings of old
// programs.
func ExampleEarlyTalkers() {
	backend := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		return nil // store it
	})
	srv, err := server.New(backend, &server.Options{
		Hostname:          "mail.example.org",
		GreetingDelay:     5 * time.Second,
		EarlyTalkers:      server.RefuseEarly,
		NormalizeNewlines: true,
		Logger:            slog.New(slog.DiscardHandler), // for an example
	})
	if err != nil {
		log.Fatal(err)
	}
	client, conn := net.Pipe() // in place of srv.ListenAndServe(":25")
	go srv.ServeConn(context.Background(), conn)
	fmt.Fprint(client, "EHLO spam.example\r\n")
	replies, _ := io.ReadAll(client)
	fmt.Printf("%s", replies)
	// Output:
	// 554 mail.example.org Protocol error: wait for the greeting before you send
}
