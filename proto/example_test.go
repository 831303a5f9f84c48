package proto_test

import (
	"fmt"
	"log"
	"strings"

	"smtpkit.example/smtp/proto"
)

// A server over byte slices: what a client says goes in, the replies come out. A real one reads and writes where this
// one says NeedInput.
func ExampleReceiver() {
	table, err := proto.NewTable(proto.SMTP)
	if err != nil {
		log.Fatal(err)
	}
	input := "EHLO client.example\r\nMAIL FROM:<jane@example.com>\r\nRCPT TO:<nobody@example.org>\r\n" +
		"RCPT TO:<joe@example.org>\r\nDATA\r\nHello, Joe.\r\n..\r\n.\r\nQUIT\r\n"

	rx := proto.NewReceiver(table, proto.Limits{})
	out, err := rx.AppendReply(nil, proto.Reply{Code: 220, Text: "mail.example.org ready"})
	if err != nil {
		log.Fatal(err)
	}
	var reply proto.Reply
	for done := false; !done; {
		ev := rx.Next()
		switch ev.Kind {
		case proto.NeedInput: // write out, and read more
			n := copy(rx.Space(), input)
			rx.Filled(n)
			input = input[n:]
			done = n == 0
		case proto.Command:
			reply = decide(ev)
		case proto.Body:
			fmt.Printf("content: %q\n", ev.Data)
		case proto.EndOfBody:
			reply = proto.Reply{Code: 250, Text: "Message accepted"}
			if rx.BareNewline() {
				reply = proto.Reply{Code: 554, Text: "Bare CR or LF"}
			}
		case proto.NeedReply:
			if out, err = rx.AppendReply(out, reply); err != nil {
				log.Fatal(err)
			}
		case proto.Fatal: // one last reply, and nothing more
			out, _ = rx.AppendReply(out, ev.Err.Reply())
			done = true
		case proto.End:
			done = true
		}
	}
	fmt.Print(strings.ReplaceAll(string(out), "\r", ""))
	// Output:
	// content: "Hello, Joe.\r\n.\r\n"
	// 220 mail.example.org ready
	// 250-mail.example.org
	// 250 PIPELINING
	// 250 Sender OK
	// 550 No such mailbox
	// 250 Recipient OK
	// 354 End data with <CR><LF>.<CR><LF>
	// 250 Message accepted
	// 221 Bye
}

// decide answers a command.
func decide(ev proto.Event) proto.Reply {
	if ev.Err != nil { // malformed, unknown or out of sequence: the engine has an answer
		return ev.Err.Reply()
	}
	switch ev.Verb.Name {
	case "EHLO":
		return proto.Reply{Code: 250, Text: "mail.example.org\nPIPELINING"}
	case "MAIL":
		if _, _, err := proto.ParseMailArgs(ev.Args, false); err != nil {
			return err.Reply()
		}
		return proto.Reply{Code: 250, Text: "Sender OK"}
	case "RCPT":
		to, _, err := proto.ParseRcptArgs(ev.Args, false)
		if err == nil && to.Key() != "joe@example.org" {
			err = proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
		}
		if err != nil {
			return err.Reply()
		}
		return proto.Reply{Code: 250, Text: "Recipient OK"}
	case "DATA":
		return proto.Reply{Code: 354, Text: "End data with <CR><LF>.<CR><LF>"}
	case "QUIT":
		return proto.Reply{Code: 221, Text: "Bye"}
	}
	return proto.Reply{Code: 250, Text: "OK"}
}

// A client over byte slices. MAIL, RCPT and DATA leave as one group. The Sender matches replies with commands, and
// refuses to send what the session does not allow.
func ExampleSender() {
	table, err := proto.NewTable(proto.SMTP)
	if err != nil {
		log.Fatal(err)
	}
	tx := proto.NewSender(table, proto.Limits{})
	send := func(name, args string) {
		out, err := tx.AppendCommand(nil, table.Lookup(name), []byte(args))
		fmt.Printf("C: %q\n", out)
		if err != nil {
			fmt.Println("  ", err)
		}
	}
	receive := func(text string) { // what a real client has read
		n := copy(tx.Space(), text)
		tx.Filled(n)
		for ev := tx.Next(); ev.Kind != proto.NeedInput && ev.Kind != proto.End; ev = tx.Next() {
			if ev.Kind == proto.Fatal {
				log.Fatal(ev.Err)
			}
			r := ev.Reply.Reply()
			fmt.Printf("S: %d %q answers %s\n", r.Code, r.Text, ev.Verb.Name)
		}
	}
	receive("220 mail.example.org ready\r\n")
	send("MAIL", "FROM:<jane@example.com>")
	send("EHLO", "client.example")
	receive("250-mail.example.org\r\n250 PIPELINING\r\n")

	tx.SetGroups(true)
	send("MAIL", "FROM:<jane@example.com>")
	send("RCPT", "TO:<joe@example.org>")
	send("DATA", "")
	receive("250 Sender OK\r\n250 Recipient OK\r\n354 Go on\r\n")

	out, err := tx.AppendBody(nil, []byte("Hello, Joe.\n.\n"))
	if err == nil {
		out, err = tx.AppendEnd(out)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("C: %q\n", out)
	receive("250 Message accepted\r\n")
	// Output:
	// S: 220 "mail.example.org ready" answers (greeting)
	// C: ""
	//    smtp: command out of sequence
	// C: "EHLO client.example\r\n"
	// S: 250 "mail.example.org\nPIPELINING" answers EHLO
	// C: "MAIL FROM:<jane@example.com>\r\n"
	// C: "RCPT TO:<joe@example.org>\r\n"
	// C: "DATA\r\n"
	// S: 250 "Sender OK" answers MAIL
	// S: 250 "Recipient OK" answers RCPT
	// S: 354 "Go on" answers DATA
	// C: "Hello, Joe.\r\n..\r\n.\r\n"
	// S: 250 "Message accepted" answers (end of content)
}

// Addresses are parsed, compared and used as keys.
func ExampleAddress() {
	a, err := proto.ParseAddress(`"Joe"@MÜNCHEN.example`)
	if err != nil {
		log.Fatal(err)
	}
	b, err := proto.ParseAddress("Joe@xn--mnchen-3ya.example")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a, b, a.Equal(b))
	fmt.Println(a.Key(), b.Key())
	// Output:
	// Joe@MÜNCHEN.example Joe@xn--mnchen-3ya.example true
	// Joe@xn--mnchen-3ya.example Joe@xn--mnchen-3ya.example
}
