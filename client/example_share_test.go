package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"
	"sync"

	"smtpkit.example/smtp/client"
)

// A program sends a message to two servers at the same time. Without Share the two would read one Body.
func ExampleShare() {
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net", "carol@example.com"},
		strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	// In place of this one: a pool for each server, or client.DialSender.
	server := client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
		content, err := io.ReadAll(m.Body)
		fmt.Println(m.To[0].Address, "gets", len(content), "octets")
		return nil, err
	})
	shared, err := client.Share(m)
	if err != nil {
		log.Fatal(err)
	}
	defer shared.Close()
	var all sync.WaitGroup
	for i := range m.To {
		all.Go(func() { server.Send(context.Background(), shared.Message(m.To[i:i+1])) })
	}
	all.Wait()
	// Unordered output:
	// bob@example.net gets 32 octets
	// carol@example.com gets 32 octets
}
