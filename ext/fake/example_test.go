package fake_test

import (
	"context"
	"fmt"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/proto"
)

// A Tracker is a session that knows where messages are.
type Tracker interface {
	Track(ctx context.Context, id string) (place string, err error)
}

// XTrack is an extension with one command, XTRACK id, which asks where a message is.
func XTrack() ext.Extension {
	return ext.Extension{
		Keyword: "XTRACK",
		Verbs:   []proto.Verb{{Name: "XTRACK", In: proto.Ready, Last: true}},
		Serve: func(ctx context.Context, c ext.Command) (proto.Reply, error) {
			t, ok := ext.As[Tracker](c.Session())
			if !ok {
				return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "Messages are not tracked here")
			}
			place, err := t.Track(ctx, c.Args())
			return proto.Reply{Code: 250, Text: place}, err
		},
	}
}

// Track is the client's half of XTrack.
func Track(ctx context.Context, c ext.Client, id string) (place string, err error) {
	r, err := c.Do(ctx, "XTRACK", id)
	if err == nil && r.Code != 250 {
		err = r.Err()
	}
	return r.Text, err
}

// session is a Tracker for the example.
type session struct{}

func (session) Track(context.Context, string) (string, error) { return "in the queue", nil }

var _ Tracker = session{}

// A unit test of a small extension, on both sides. In a test function, Server.Serve does the first part in one call.
func Example() {
	ctx := context.Background()

	server := &fake.Server{Conn: fake.ServerState{Session: session{}, Args: "c0ffee"}}
	fmt.Println(fake.Reply(XTrack().Serve(ctx, server)))
	fmt.Println(fake.Reply(XTrack().Serve(ctx, &fake.Server{})))

	client := &fake.Client{Replies: []proto.Reply{{Code: 250, Text: "in the queue"}}}
	place, err := Track(ctx, client, "c0ffee")
	fmt.Printf("%q %v %q\n", client.Sent, err, place)
	// Output:
	// 250 2.0.0 in the queue
	// 502 5.5.1 Messages are not tracked here
	// ["XTRACK c0ffee"] <nil> "in the queue"
}
