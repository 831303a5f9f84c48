package queue_test

import (
	"context"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/server"

	"time"
)

// A program that sends mail has it on disk before it goes on, and leaves it to the queue to deliver it by a smarthost.
func Example() {
	send := func(ctx context.Context, m *client.Message) error {
		store, err := queue.OpenDir("outbox", nil)
		if err != nil {
			return err
		}
		defer store.Close()
		login := &client.Options{Credentials: auth.Password("alice", "secret")}
		smarthost, err := pool.New("mail.example.org:587", login, nil)
		if err != nil {
			return err
		}
		defer smarthost.Close(ctx)
		q, err := queue.New(store, smarthost, &queue.Options{Hostname: "app.example.org"})
		if err != nil {
			return err
		}
		defer q.Close(ctx) // waits for what is being sent, until ctx ends; what is not delivered stays in the directory

		_, err = q.Send(ctx, m) // nil: it will be delivered, or m.From gets a report
		return err
	}
	_ = send
}

// A server answers 250 when the message is in the queue. The ID is in the Received field and in the reply.
func ExampleQueue_Add() {
	backend := func(q *queue.Queue) server.Backend {
		return server.MessageFunc(func(ctx context.Context, m *server.Message) error {
			id := queue.NewID(time.Now())
			received := server.Received(m.Conn)
			received.ID = string(id)
			body := tracefield.Prepend(tracefield.CheckLoop(m.Body, nil), received.String())
			e := &queue.Envelope{ID: id, From: m.From, Params: m.Params, To: m.To}
			if _, err := q.Add(ctx, e, body); err != nil {
				return err // such as 452 4.3.1
			}
			m.Conn.Accept("Queued as " + string(id))
			return nil
		})
	}
	_ = backend
}
