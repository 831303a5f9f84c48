package netsmtp_test

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"time"

	"smtpkit.example/smtp/client"
	smtp "smtpkit.example/smtp/client/netsmtp"
)

// The example of net/smtp with another import:
//
//	import smtp "smtpkit.example/smtp/client/netsmtp"
func ExampleSendMail() {
	auth := smtp.PlainAuth("", "user@example.com", "password", "mail.example.com")
	to := []string{"recipient@example.net"}
	msg := []byte("To: recipient@example.net\r\n" +
		"Subject: discount Gophers!\r\n" +
		"\r\n" +
		"This is the email body.\r\n")
	err := smtp.SendMail("mail.example.com:25", auth, "sender@example.org", to, msg)
	if err != nil {
		fmt.Println(err)
	}
}

// Nobody gets the message if one recipient is refused. The error tells which one it was, and programs that look for the
// error of net/smtp find it.
func ExampleSendMail_refused() {
	addr, stop := pretend(map[string]string{"RCPT TO:<bob@example.net>": "550 5.1.1 No such mailbox"})
	defer stop()
	err := smtp.SendMail(addr, nil, "alice@example.org", []string{"carol@example.com", "bob@example.net"},
		[]byte("Subject: Hello\r\n\r\nHow are you?\r\n"))

	var refused *textproto.Error
	if errors.As(err, &refused) {
		fmt.Println("refused:", refused.Code, refused.Msg)
	}
	var failed *client.SendError
	if errors.As(err, &failed) {
		for _, r := range failed.Result.Recipients {
			var other *client.AllOrNoneError
			fmt.Println(r.Address, "was refused itself:", !errors.As(r.Err, &other))
		}
	}
	fmt.Println("try again later:", client.Temporary(err))
	// Output:
	// refused: 550 5.1.1 No such mailbox
	// carol@example.com was refused itself: false
	// bob@example.net was refused itself: true
	// try again later: false
}

// A web handler does not wait for minutes.
func ExampleSendMailContext() {
	addr, stop := pretend(nil)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := smtp.SendMailContext(ctx, addr, nil, "alice@example.org", []string{"bob@example.net"},
		[]byte("Subject: Hello\r\n\r\nHow are you?\r\n"))
	fmt.Println(err)
	// Output: <nil>
}
