package report_test

import (
	"fmt"
	"os"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// A relay has accepted a message, and the next server has refused a recipient. The relay makes a bounce, and the sender
// reads it.
func Example() {
	from, _ := proto.ParseAddress("alice@example.org")
	carol, _ := proto.ParseAddress("carol@example.com")

	// This was accepted: the arguments of Mail and Rcpt in a session, and the file that Data has written.
	message := report.Message{
		From:    from,
		Mail:    ehlo.DSNMail{EnvID: "QQ314159"}.AddTo(nil),
		Content: strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"),
	}
	to := proto.Recipient{Address: carol}

	// This happened: client.Result has such an outcome for each recipient. Caps of the client belong into NextHop.
	refused := proto.Reply{Code: 550, Status: proto.Status{5, 1, 1}, Text: "No such user"}
	next := report.NextHop{Host: "mx.example.com"}
	outcomes := []report.Outcome{next.Outcome(proto.Outcome{Recipient: to, Reply: refused, Err: refused.Err()})}

	for _, r := range message.Due(outcomes) {
		n, err := report.Compose(&message, r, &report.Options{Hostname: "relay.example.org"})
		if err != nil {
			fmt.Println(err)
			return
		}
		// Without From the message has the null reverse-path. To send it: client.Send(ctx, addr, opt, m)
		m := &client.Message{Mail: n.Mail, To: n.To, Needs: n.Needs, Body: n.Body}
		fmt.Println("to", m.To[0].Address)

		// The sender reads it:
		got, err := report.Parse(m.Body)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, p := range got.Recipients {
			fmt.Println(got.EnvelopeID, p.Final.Address, p.Action, p.Status, p.Diagnostic.Text)
		}
		fmt.Println(got.Original.Get("Subject"))
	}
	// Output:
	// to alice@example.org
	// QQ314159 carol@example.com failed 5.1.1 550 5.1.1 No such user
	// Hello
}

// A sender of bulk mail finds the addresses that do not exist, to remove them from a list.
func ExampleParse() {
	r := strings.NewReader(`Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

It did not work.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.com

Final-Recipient: rfc822; bob@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550-5.1.1 No such user:
 550 5.1.1 bob

--b--
`)
	got, err := report.Parse(r)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, p := range got.Recipients {
		if p.Action == ehlo.Failed && p.Status == (proto.Status{5, 1, 1}) {
			reply, _ := p.Diagnostic.Reply()
			fmt.Printf("%s: %q\n", p.Final.Address, reply.Text)
		}
	}
	// Output: bob@example.com: "No such user:\nbob"
}
