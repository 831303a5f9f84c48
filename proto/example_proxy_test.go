package proto_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"smtpkit.example/smtp/proto"
)

// A proxy reads SMTP from a client with a Receiver, and speaks it to a server with a Sender. What it forwards it writes
// anew: a fake end of content, or a command hidden in an address, does not get past it. A real one has deadlines as
// well.
type proxy struct {
	rx             *proto.Receiver // towards the client
	tx             *proto.Sender   // towards the server
	client, server net.Conn
	out            []byte // replies that wait to be written
}

// run forwards a session, from the greeting to its end. If the server is lost or breaks the protocol, the client is
// told 421.
func (p *proxy) run() error {
	reply, err := p.await()
	if p.out, err = p.rx.AppendReply(p.out, or421(reply, err)); err != nil {
		return err
	}
	for {
		switch ev := p.rx.Next(); ev.Kind {
		case proto.NeedInput:
			if _, err := p.client.Write(p.out); err != nil {
				return err
			}
			p.out = p.out[:0]
			n, err := p.client.Read(p.rx.Space())
			if err != nil {
				return err // the client is gone
			}
			p.rx.Filled(n)
		case proto.Command:
			reply, err = p.command(ev)
		case proto.Body:
			if err = p.write(p.tx.AppendBody(nil, ev.Data)); err != nil {
				return err // nobody may take half a message for a whole one
			}
		case proto.EndOfBody:
			if err = p.write(p.tx.AppendEnd(nil)); err == nil {
				reply, err = p.await()
			}
		case proto.NeedReply:
			if p.out, err = p.rx.AppendReply(p.out, or421(reply, err)); err != nil {
				return err
			}
		case proto.Fatal:
			reply, err = ev.Err.Reply(), nil
		case proto.End:
			_, err := p.client.Write(p.out)
			return err
		}
	}
}

// command forwards a command that the engine and the policy of the proxy let pass, and returns the reply to it.
func (p *proxy) command(ev proto.Event) (proto.Reply, error) {
	if ev.Err != nil {
		return ev.Err.Reply(), nil
	}
	if ev.Verb.Name == "RCPT" {
		to, _, err := proto.ParseRcptArgs(ev.Args, false)
		if err == nil && to.Domain.Key() != "example.org" {
			err = proto.Refuse(550, proto.Status{5, 7, 1}, "Relaying denied")
		}
		if err != nil {
			return err.Reply(), nil
		}
	}
	if err := p.write(p.tx.AppendCommand(nil, ev.Verb, ev.Args)); err != nil {
		return proto.Reply{}, err
	}
	reply, err := p.await()
	if err == nil && ev.Verb.Name == "EHLO" && reply.Code == 250 {
		caps := proto.ParseCaps(reply)
		reply.Text = "proxy.example\nPIPELINING" // the Receiver takes groups, whatever the server does
		if size, ok := caps.Args("SIZE"); ok {   // and nothing is offered that the table does not know
			reply.Text += "\nSIZE " + size
		}
	}
	return reply, err
}

func (p *proxy) write(b []byte, err error) error {
	if err == nil {
		_, err = p.server.Write(b)
	}
	return err
}

// await waits for the reply of the server to what was sent last.
func (p *proxy) await() (proto.Reply, error) {
	for {
		switch ev := p.tx.Next(); ev.Kind {
		case proto.Answer:
			return ev.Reply.Reply(), nil
		case proto.NeedInput:
			n, err := p.server.Read(p.tx.Space())
			if err != nil {
				return proto.Reply{}, err
			}
			p.tx.Filled(n)
		case proto.Fatal:
			return proto.Reply{}, ev.Err
		default:
			return proto.Reply{}, io.ErrUnexpectedEOF
		}
	}
}

// or421 returns r, or the reply that ends the session if the server is lost.
func or421(r proto.Reply, err error) proto.Reply {
	if err != nil {
		return proto.Reply{Code: 421, Text: "proxy.example: the server is not available"}
	}
	return r
}

// answer is a server that sends the next of replies to whatever comes, and prints that.
func answer(conn net.Conn, replies ...string) {
	buf := make([]byte, 1024)
	for _, r := range replies {
		fmt.Fprint(conn, r)
		got, end := "", "\r\n"
		for !strings.HasSuffix(got, end) {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			got += string(buf[:n])
			if strings.HasPrefix(got, "Hello") {
				end = "\r\n.\r\n"
			}
		}
		fmt.Printf("server gets %q\n", got)
	}
}

// A proxy that joins a Receiver and a Sender. It takes mail for one domain only, and rewrites all that passes.
func Example_proxy() {
	table, err := proto.NewTable(proto.SMTP)
	if err != nil {
		log.Fatal(err)
	}
	client, front := net.Pipe()
	back, server := net.Pipe()
	go func() {
		rx, tx := proto.NewReceiver(table, proto.Limits{}), proto.NewSender(table, proto.Limits{})
		p := &proxy{rx: rx, tx: tx, client: front, server: back}
		if err := p.run(); err != nil && !errors.Is(err, io.EOF) {
			log.Print(err)
		}
		front.Close()
		back.Close()
	}()

	go answer(server,
		"220 mail.example.org\r\n", "250-mail.example.org\r\n250-STARTTLS\r\n250 SIZE 1000\r\n", "250 ok\r\n", "250 ok\r\n",
		"354 go on\r\n", "250 queued\r\n", "221 bye\r\n")

	// A client that hides a second message behind a fake end of content.
	go fmt.Fprint(client, "EHLO client.example\r\nMAIL FROM:<jane@example.com>\r\nRCPT TO:<x@example.net>\r\n"+
		"RCPT TO:<joe@example.org>\r\nDATA\r\nHello.\n.\nMAIL FROM:<mallory@example.com>\r\n.\r\nQUIT\r\n")
	replies, err := io.ReadAll(client)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(strings.ReplaceAll(string(replies), "\r", ""))
	// Output:
	// server gets "EHLO client.example\r\n"
	// server gets "MAIL FROM:<jane@example.com>\r\n"
	// server gets "RCPT TO:<joe@example.org>\r\n"
	// server gets "DATA\r\n"
	// server gets "Hello.\r\n..\r\nMAIL FROM:<mallory@example.com>\r\n.\r\n"
	// server gets "QUIT\r\n"
	// 220 mail.example.org
	// 250-proxy.example
	// 250-PIPELINING
	// 250 SIZE 1000
	// 250 ok
	// 550 Relaying denied
	// 250 ok
	// 354 go on
	// 250 queued
	// 221 bye
}
