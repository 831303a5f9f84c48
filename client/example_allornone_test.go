package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// One recipient is refused, so nobody gets the message, and the whole of it can be sent again when that is mended.
func ExampleMessage_allOrNone() {
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net", "carol@example.net"},
		strings.NewReader("Subject: Hello\r\n\r\nHow are you two?\r\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	m.AllOrNone = true
	opt := &client.Options{
		TLS:         ext.TLSInsecureNone, // the server of this example is in memory
		DialContext: pretend(map[string]string{"RCPT TO:<carol@example.net>": "450 4.2.1 Mailbox busy"}),
	}
	err = client.Send(context.Background(), "mail.example.org:25", opt, m)
	fmt.Println(err)
	fmt.Println("nobody has got it:", client.SafeToRetry(err), "- worth another attempt:", client.Temporary(err))

	var failed *client.SendError
	if errors.As(err, &failed) {
		for _, r := range failed.Result.Recipients {
			var withheld *client.AllOrNoneError
			fmt.Println(r.Address, "was refused:", !errors.As(r.Err, &withheld))
		}
	}
	// Output:
	// smtp: not sent to any of 2 recipients, since carol@example.net was refused: RCPT: 450 4.2.1 Mailbox busy
	// nobody has got it: true - worth another attempt: true
	// bob@example.net was refused: false
	// carol@example.net was refused: true
}
