package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
)

// A client that is kept for later is replaced if it can no longer be used.
func ExampleClient_Err() {
	ctx := context.Background()
	opt := &client.Options{
		TLS:         ext.TLSInsecureNone, // the server of this example is in memory
		DialContext: pretend(nil),
	}
	c, err := client.Dial(ctx, "mail.example.org:25", opt)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Err())
	c.Close() // or the server has hung up, after minutes in which there was no mail
	if err := c.Err(); err != nil {
		fmt.Println(errors.Is(err, client.ErrClosed), err)
		if c, err = client.Dial(ctx, "mail.example.org:25", opt); err != nil {
			fmt.Println(err)
			return
		}
		defer c.Close()
	}
	fmt.Println(c.Err())
	// Output:
	// <nil>
	// true smtp: the connection is closed
	// <nil>
}

// Of the servers of a network some have TLS. Where it is offered, the certificate has to verify. A password is sent in
// plaintext only by permission.
func ExampleSend_tlsIfOffered() {
	body := strings.NewReader("Subject: Paper\r\n\r\nThere is none.\r\n")
	m, err := client.NewMessage("printer@example.org", []string{"bob@example.org"}, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	opt := &client.Options{
		TLS:         ext.TLSIfOffered,
		Credentials: auth.Password("printer", "secret"),
		DialContext: pretend(nil), // the server of this example is in memory, and offers no TLS
	}
	err = client.Send(context.Background(), "mail.example.org:25", opt, m)
	var refused *ext.AuthError
	fmt.Println("not authenticated:", errors.As(err, &refused))

	opt.AllowPlaintextAuth = true // others can read the password
	fmt.Println(client.Send(context.Background(), "mail.example.org:25", opt, m))
	// Output:
	// not authenticated: true
	// <nil>
}
