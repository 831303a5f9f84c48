package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// A program that delivers to mail exchangers uses TLS where it is offered. If the handshake fails, it makes one attempt
// in plaintext, where no policy forbids that.
func ExampleSend_opportunistic() {
	body := strings.NewReader("Subject: Hi\r\n\r\nHi\r\n")
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	opt := &client.Options{TLS: ext.TLSOpportunistic, DialContext: brokenTLS}
	err = client.Send(context.Background(), "mx.example.net:25", opt, m)

	var failed *ext.TLSError
	plaintextForbidden := false // by REQUIRETLS, MTA-STS, DANE, or a policy of your own
	if errors.As(err, &failed) && failed.Optional && !plaintextForbidden {
		fmt.Println("TLS failed, temporary:", client.Temporary(err))
		opt.TLS = ext.TLSInsecureNone
		err = client.Send(context.Background(), "mx.example.net:25", opt, m)
	}
	fmt.Println("error:", err)
	// Output:
	// TLS failed, temporary: true
	// error: <nil>
}

// brokenTLS connects to a server that offers STARTTLS and has no certificate.
func brokenTLS(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer here.Close()
		fmt.Fprint(here, "220 mx.example.net\r\n")
		for in := bufio.NewScanner(here); in.Scan(); {
			verb, _, _ := strings.Cut(in.Text(), " ")
			reply, ok := map[string]string{
				"EHLO": "250-mx.example.net\r\n250 STARTTLS", "STARTTLS": "220 Go ahead\r\n454 No certificate", "DATA": "354 Go on",
				"MAIL": "250 OK", "RCPT": "250 OK", ".": "250 Queued", "QUIT": "221 Bye",
			}[verb]
			if ok {
				fmt.Fprint(here, reply+"\r\n")
			}
		}
	}()
	return there, nil
}
