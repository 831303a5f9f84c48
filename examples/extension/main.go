// Extension shows an SMTP service extension from outside the library. The file xtrace.go adds a keyword, a parameter
// and a verb to both ends: copy it to begin one of your own. The file main.go uses it, and xtrace_test.go tests it with
// package exttest.
//
//	go run ./examples/extension
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A session takes messages and remembers where those with an ID are. It is a Locator.
type session struct {
	id, to string            // of the message that is being received
	places map[string]string // from IDs to places
}

var _ Locator = (*session)(nil)

func (s *session) Mail(_ context.Context, _ proto.Address, p proto.Params) error {
	s.id, _ = ID(p)
	return nil
}

func (s *session) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	s.to = to.String()
	return nil
}

func (s *session) Data(_ context.Context, r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if s.id != "" {
		s.places[s.id] = "in the mailbox of " + s.to
	}
	return nil
}

func (s *session) Where(_ context.Context, id string) (string, error) {
	place, ok := s.places[id]
	if !ok {
		return "", proto.Refuse(550, proto.Status{}, "No such message")
	}
	return place, nil
}

func main() {
	log.SetFlags(0)
	place, err := run(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("The message is", place)
}

// extensions returns the default extensions and ours.
func extensions() []ext.Extension { return append(ehlo.Default(), XTrace()) }

// run sends a message with an ID to a server, asks where the message is, and returns the answer.
func run(ctx context.Context) (string, error) {
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &session{places: make(map[string]string)}, nil
	}), &server.Options{Hostname: "localhost", Extensions: extensions()})
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = srv.Serve(listener) }()
	defer srv.Close()

	c, err := client.Dial(ctx, listener.Addr().String(), &client.Options{TLS: ext.TLSInsecureNone, Extensions: extensions()})
	if err != nil {
		return "", err
	}
	defer c.Close()
	m, err := client.NewMessage("a@example.org", []string{"b@example.org"}, strings.NewReader("Subject: Hello\r\n\r\nHello\r\n"))
	if err != nil {
		return "", err
	}
	m.Mail = m.Mail.Set("XTRACE", "c0ffee")
	if _, err := c.Send(ctx, m); err != nil {
		return "", err
	}
	return Where(ctx, c, "c0ffee")
}
