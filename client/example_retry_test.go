package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// A message is sent again to those who may be served later, and who have certainly not got it. A mail queue would keep
// the message that is left until it is due.
func ExampleSendError_Retry() {
	ctx := context.Background()
	opt := &client.Options{DialContext: greylisting(), TLS: ext.TLSInsecureNone} // a server that refuses bob once
	to := []string{"bob@example.net", "carol@example.com", "nobody@example.com"}
	m, err := client.NewMessage("alice@example.org", to, strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"))
	for m != nil && err == nil {
		var failed *client.SendError
		switch err := client.Send(ctx, "mail.example.org:25", opt, m); {
		case errors.As(err, &failed):
			fmt.Println(err)
			m = failed.Retry(m)
		case err != nil: // no session came about
			fmt.Println(err)
			m = nil
		default:
			fmt.Println("sent to", m.To[0].Address)
			m = nil
		}
	}
	// Output:
	// smtp: not sent to 2 of 3 recipients (bob@example.net, …): RCPT: 451 Try again later
	// sent to bob@example.net
}

// A message is sent again, after a wait, to those for whom that makes sense. DialSender makes a connection for each
// attempt; a pool or a Client can take its place.
func ExampleRetry() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	opt := &client.Options{DialContext: greylisting(), TLS: ext.TLSInsecureNone} // a server that refuses bob once
	to := []string{"bob@example.net", "carol@example.com", "nobody@example.com"}
	m, err := client.NewMessage("alice@example.org", to, strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	retry := client.Retry{
		First: time.Millisecond, // the default is a minute
		Waiting: func(_ context.Context, attempts int, err error, _ time.Duration) {
			fmt.Printf("attempt %d: %v\n", attempts, err)
		},
	}
	result, err := retry.Send(ctx, client.DialSender("mail.example.org:25", opt), m)
	fmt.Println(err)
	for _, r := range result.Recipients {
		fmt.Println(r.Address, r.Err)
	}
	// Output:
	// attempt 1: smtp: not sent to 2 of 3 recipients (bob@example.net, …): RCPT: 451 Try again later
	// smtp: not sent to 1 of 3 recipients (nobody@example.com): RCPT: 550 No such mailbox
	// bob@example.net <nil>
	// carol@example.com <nil>
	// nobody@example.com smtp: RCPT: 550 No such mailbox
}

// A Client is a Sender too. It has one connection: if that is lost, there are no further attempts.
func ExampleRetry_client() {
	ctx := context.Background()
	opt := &client.Options{DialContext: greylisting(), TLS: ext.TLSInsecureNone} // a server that refuses bob once
	c, err := client.Dial(ctx, "mail.example.org:25", opt)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	body := strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n")
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Retry{Attempts: 3, First: time.Millisecond}.Send(ctx, c, m)
	fmt.Println(err)
	// Output: <nil>
}

// greylisting returns a function that connects to a server in memory. It refuses bob at first, and nobody always.
func greylisting() func(context.Context, string, string) (net.Conn, error) {
	known := false
	serve := func(conn net.Conn) {
		defer conn.Close()
		say := func(reply string) { fmt.Fprint(conn, reply+"\r\n") }
		say("220 mail.example.org")
		for in, content := bufio.NewScanner(conn), false; in.Scan(); {
			switch line := in.Text(); {
			case content && line != ".":
			case line == "DATA":
				content = true
				say("354 Go on")
			case line == "QUIT":
				say("221 Bye")
				return
			case strings.Contains(line, "TO:<bob@") && !known:
				known = true
				say("451 Try again later")
			case strings.Contains(line, "TO:<nobody@"):
				say("550 No such mailbox")
			default:
				content = false
				say("250 OK")
			}
		}
	}
	return func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go serve(there)
		return here, nil
	}
}
