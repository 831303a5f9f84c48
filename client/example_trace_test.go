package client_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

// Print what client and server say to each other.
func ExampleDebugTrace() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	opt := &client.Options{Credentials: auth.Password("alice", "secret"), Trace: client.DebugTrace(os.Stderr)}
	if err := client.Send(ctx, "mail.example.org:587", opt, m); err != nil {
		log.Print(err)
	}
}

// Log connections, refusals and messages that were sent. A handler of level Debug shows each command and reply too.
func ExampleLogTrace() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	opt := &client.Options{Trace: client.LogTrace(logger, nil)}
	if err := client.Send(ctx, "mail.example.org:587", opt, m); err != nil {
		log.Print(err)
	}
}

// Count refusals by their code, besides the log.
func ExampleJoinTraces() {
	refusals := make(map[int]int)
	count := &client.Trace{Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
		if r.Code >= 400 {
			refusals[r.Code]++
		}
	}}
	opt := &client.Options{Trace: client.JoinTraces(client.LogTrace(slog.Default(), nil), count)}
	c, err := client.Dial(context.Background(), "mail.example.org:587", opt)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(refusals)
}
