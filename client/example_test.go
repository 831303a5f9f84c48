package client_test

import (
	"context"
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

func ExampleSend() {
	body := strings.NewReader("Subject: hello\r\n\r\nHow are you?\r\n")
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
	if err == nil {
		opt := &client.Options{Credentials: auth.Password("alice", "secret")}
		err = client.Send(context.Background(), "mail.example.org:587", opt, m)
	}
	if err != nil {
		fmt.Println(err, client.Temporary(err))
	}
}

func ExampleClient_SendAll() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "mail.example.org:465", &client.Options{TLS: ext.TLSImplicit})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	newsletter := func(yield func(*client.Message) bool) {
		for _, to := range []string{"bob@example.net", "carol@example.com"} {
			m, err := client.NewMessage("news@example.org", []string{to}, strings.NewReader("Subject: news\r\n\r\n…\r\n"))
			if err != nil || !yield(m) {
				return
			}
		}
	}
	err = c.SendAll(ctx, newsletter, func(m *client.Message, res *client.Result, err error) bool {
		fmt.Println(m.To[0].Address, err)
		return true
	})
	if err != nil {
		fmt.Println(err)
	}
}
