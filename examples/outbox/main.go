// Outbox sends mail by a smarthost, and keeps it in a directory until it is delivered or reported on: when the network
// is down, or the program ends, nothing is lost. It queues the message on its standard input, if -to is given, and then
// delivers what is queued, also by earlier runs.
//
//	export MAIL_URL=smtps://alice:secret@mail.example.org
//	go run ./examples/outbox -from alice@example.org -to bob@example.net <message.eml
//
// Interrupt it to stop before everything is delivered.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/client/queue"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "outbox", "`directory` of the queue")
	host := flag.String("hostname", "localhost.localdomain", "the `name` of this host in reports")
	from := flag.String("from", "", "`address` of the sender, who gets a report if the message cannot be delivered")
	to := flag.String("to", "", "`addresses` of the recipients, with commas between them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, *host, *from, *to); err != nil {
		log.Fatal("outbox: ", err)
	}
}

func run(ctx context.Context, dir, host, from, to string) error {
	server, err := client.ParseURL(os.Getenv("MAIL_URL"))
	if err != nil {
		return err
	}
	smarthost, err := pool.New(server.Addr, &server.Options, nil)
	if err != nil {
		return err
	}
	defer smarthost.Close(context.Background())
	store, err := queue.OpenDir(dir, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	ended := make(chan struct{}, 1) // a recipient's mail is delivered, or has failed
	trace := queue.LogTrace(slog.Default())
	logDone := trace.Done
	trace.Done = func(m *queue.Message, r queue.Recipient, f *queue.Failure) {
		logDone(m, r, f)
		select {
		case ended <- struct{}{}:
		default:
		}
	}
	q, err := queue.New(store, smarthost, &queue.Options{Hostname: host, Trace: trace})
	if err != nil {
		return err
	}
	defer q.Close(context.Background())
	if to != "" {
		m, err := client.NewMessage(from, strings.Split(to, ","), os.Stdin)
		if err != nil {
			return err
		}
		if _, err := q.Send(ctx, m); err != nil {
			return err
		}
	}
	return wait(ctx, q, ended)
}

// wait returns when nothing is queued any more, or ctx ends.
func wait(ctx context.Context, q *queue.Queue, ended <-chan struct{}) error {
	for {
		left, err := q.Usage(context.WithoutCancel(ctx))
		if err != nil || left.Messages == 0 {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			log.Printf("%d messages are left for the next run", left.Messages)
			return nil
		}
	}
}
