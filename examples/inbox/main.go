// Inbox is a mail server for example.org: it prints the mail that arrives.
//
//	go run ./examples/inbox
package main

import (
	"context"
	"fmt"
	"io"
	"log"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A session takes the mail of one client. The server never calls its methods concurrently.
type session struct {
	from proto.Address
	to   []proto.Address
}

func (s *session) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	s.from, s.to = from, nil
	return nil
}

func (s *session) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	if to.Domain.Key() != "example.org" {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "Not here: "+to.String())
	}
	s.to = append(s.to, to)
	return nil
}

// Data reads the message. When it returns nil, the message is ours.
func (s *session) Data(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		fmt.Printf("from %v to %v:\n%s", s.from, s.to, text)
	}
	return err
}

func main() {
	backend := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &session{}, nil
	})
	srv, err := server.New(backend, &server.Options{Hostname: "mail.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(srv.ListenAndServe("localhost:2525"))
}
