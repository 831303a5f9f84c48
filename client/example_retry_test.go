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
