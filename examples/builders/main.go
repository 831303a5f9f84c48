// Builders sends a message with an attachment that go-mail has built: through the server in the environment variable
// SMTP_URL, over a pool, with further attempts, and with the dialogue on the standard error output.
//
//	SMTP_URL=smtp://alice:secret@mail.example.org go run . alice@example.org bob@example.net report.pdf
package main

import (
	"context"
	"log"
	"os"

	"github.com/wneessen/go-mail"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: builders FROM TO FILE")
	}
	if err := run(context.Background(), os.Getenv("SMTP_URL"), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, url, from, to, file string) error {
	server, err := client.ParseURL(url)
	if err != nil {
		return err
	}
	server.Options.Trace = client.DebugTrace(os.Stderr)
	p, err := pool.New(server.Addr, &server.Options, nil)
	if err != nil {
		return err
	}
	defer p.Close(ctx)

	msg := mail.NewMsg()
	if err := msg.FromFormat("Alice", from); err != nil {
		return err
	}
	if err := msg.To(to); err != nil {
		return err
	}
	msg.Subject("Report")
	msg.SetBodyString(mail.TypeTextPlain, "Here it is.")
	msg.AttachFile(file)

	m, err := client.NewMessage(from, []string{to}, client.WriterBody(msg))
	if err != nil {
		return err
	}
	_, err = client.Retry{}.Send(ctx, p, m)
	return err
}
