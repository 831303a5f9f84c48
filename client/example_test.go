package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

func ExampleSend() {
	body := strings.NewReader("From: alice@example.org\r\n" +
		"To: bob@example.net\r\n" +
		"Date: " + time.Now().Format(time.RFC1123Z) + "\r\n" +
		"Subject: Hello\r\n" +
		"\r\n" +
		"How are you?\r\n")
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
	if err == nil {
		opt := &client.Options{Credentials: auth.Password("alice", "secret")}
		err = client.Send(context.Background(), "mail.example.org:587", opt, m)
	}
	if err != nil {
		fmt.Println(err, client.Temporary(err))
	}
}

// On port 465 TLS comes first. DialSubmission finds out by itself which of the ports 465 and 587 to use.
func ExampleSend_port465() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	opt := &client.Options{TLS: ext.TLSImplicit, Credentials: auth.Password("alice", "secret")}
	err := client.Send(ctx, "mail.example.org:465", opt, m)
	if err != nil {
		log.Print(err)
	}
}

// A server whose certificate comes from an authority of one's own.
func ExampleSend_ownCA() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	pem, err := os.ReadFile("/etc/ssl/our-ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("no certificate in the file")
	}
	opt := &client.Options{TLSConfig: &tls.Config{RootCAs: roots}}
	if err := client.Send(ctx, "mail.corp.example:587", opt, m); err != nil {
		log.Print(err)
	}
}

// Large providers want a token of OAuth 2.0 in place of a password. The function is called for each connection, so it
// can renew a token that has expired.
func ExampleSend_token() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	token := func(context.Context) (string, error) {
		return os.Getenv("ACCESS_TOKEN"), nil // from golang.org/x/oauth2, as a rule
	}
	opt := &client.Options{Credentials: auth.Token("alice@gmail.example", token)}
	err := client.Send(ctx, "smtp.gmail.example:587", opt, m)
	if err != nil {
		log.Print(err)
	}
}

// Delivery to the mailboxes of a server on the same machine, which answers for each recipient. On a unix socket TLS is
// not required.
func ExampleSend_lmtp() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	opt := &client.Options{Protocol: proto.LMTP}
	err := client.Send(ctx, "unix:/run/dovecot/lmtp", opt, m)
	var failed *client.SendError
	if errors.As(err, &failed) {
		for _, r := range failed.Result.Recipients {
			fmt.Println(r.Address, r.Err)
		}
	}
}

// The result has the reply for each recipient, and the reply to the content, which often has the server's queue ID.
func ExampleClient_Send() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	c, err := client.Dial(ctx, "mail.example.org:587", &client.Options{Credentials: auth.Password("alice", "secret")})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	result, err := c.Send(ctx, m)
	if err != nil {
		log.Print(err)
	}
	for _, r := range result.Recipients {
		var refused *proto.Error
		switch {
		case r.Err == nil:
			fmt.Println(r.Address, "accepted:", r.Reply.Text)
		case errors.As(r.Err, &refused):
			fmt.Println(r.Address, "refused:", refused.Code, refused.Status, refused.Text)
		default:
			fmt.Println(r.Address, "no answer:", r.Err)
		}
	}
	fmt.Println("the server calls it", result.Reply.Text)
}

// Messages that come from another goroutine. The channel must be closed, or SendAll waits for more, and so do the last
// outcomes.
func ExampleClient_SendAll() {
	ctx := context.Background()
	newsletter := func(to string) *client.Message {
		text := "From: news@example.org\r\nTo: " + to + "\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\n" +
			"Subject: News\r\n\r\nThere is none.\r\n"
		m, err := client.NewMessage("news@example.org", []string{to}, strings.NewReader(text))
		if err != nil {
			log.Fatal(err)
		}
		return m
	}
	messages := make(chan *client.Message)
	go func() {
		defer close(messages)
		for _, to := range []string{"bob@example.net", "carol@example.com"} {
			messages <- newsletter(to)
		}
	}()

	c, err := client.Dial(ctx, "mail.example.org:465", &client.Options{TLS: ext.TLSImplicit})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	next := func(yield func(*client.Message) bool) {
		for m := range messages {
			if !yield(m) {
				return
			}
		}
	}
	err = c.SendAll(ctx, next, func(m *client.Message, _ *client.Result, err error) bool {
		fmt.Println(m.To[0].Address, err)
		return true
	})
	if err != nil {
		log.Print(err)
	}
}

// The dialogue is printed as it goes, without passwords and content.
func ExampleTrace() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	opt := &client.Options{Trace: &client.Trace{
		Command: func(_ context.Context, _ *client.Client, verb, args string) {
			log.Println("C:", verb, args)
		},
		Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
			log.Printf("S: %d %v %q", r.Code, r.Status, r.Text)
		},
		Secured: func(_ context.Context, c *client.Client, s tls.ConnectionState) {
			log.Println("--", tls.VersionName(s.Version), "certificate verified:", c.Verified())
		},
		Content: func(_ context.Context, _ *client.Client, octets int64, _ proto.Reply) {
			log.Println("--", octets, "octets of content")
		},
		Closed: func(_ context.Context, _ *client.Client, err error) {
			log.Println("-- closed:", err)
		},
	}}
	if err := client.Send(ctx, "mail.example.org:587", opt, m); err != nil {
		log.Print(err)
	}
}
