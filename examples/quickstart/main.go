// Quickstart is a server and a client in one process: the server takes mail from alice, the client sends it some
// through STARTTLS and AUTH. It prints the dialogue, without the credentials, and what arrived.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A session takes mail from one client. Its methods are never called concurrently.
type session struct {
	conn    *server.Conn
	from    proto.Address
	to      []proto.Address
	arrived chan<- string
}

func (s *session) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	s.from, s.to = from, nil
	return nil
}

// Rcpt refuses who is not here: the client learns it at once, and nobody has to send a bounce.
func (s *session) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	if to.Local == "nobody" {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
	}
	s.to = append(s.to, to)
	return nil
}

// Data reads the message. When it returns nil, the message is ours.
func (s *session) Data(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.arrived <- fmt.Sprintf("from %v to %v:\n%s", s.from, s.to, text)
	s.conn.Accept("Thank you")
	return nil
}

// Authenticate makes the server offer AUTH, once the connection is protected by TLS.
func (s *session) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "wonderland" {
		return auth.ErrCredentials
	}
	return nil
}

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	cert, err := selfSigned("localhost")
	if err != nil {
		return err
	}

	// The server: a backend makes a session for each connection.
	arrived := make(chan string, 1)
	backend := server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return &session{conn: c, arrived: arrived}, nil
	})
	srv, err := server.New(backend, &server.Options{
		Hostname:    "localhost",
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{cert}},
		RequireAuth: true,
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()

	if err := send(ctx, listener.Addr().String(), cert.Leaf); err != nil {
		return err
	}
	fmt.Println("\nThe server has mail", <-arrived)

	if err := srv.Shutdown(ctx); err != nil {
		return err
	}
	<-served // server.ErrServerClosed
	return nil
}

// send is the client. It sends a message to the server at addr, which has the certificate cert.
func send(ctx context.Context, addr string, cert *x509.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	c, err := client.Dial(ctx, addr, &client.Options{ // TLS is required unless said otherwise
		TLSConfig:   &tls.Config{RootCAs: roots, ServerName: "localhost"},
		Credentials: auth.Password("alice", "wonderland"),
		Trace:       printer,
	})
	if err != nil {
		return err
	}
	text := "From: alice@example.org\r\nTo: bob@example.org\r\nSubject: Hello\r\n\r\nIt works.\r\n"
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.org", "nobody@example.org"}, strings.NewReader(text))
	if err != nil {
		return err
	}
	// Bob gets the message, whatever becomes of the other one: the result tells about each.
	result, err := c.Send(ctx, m)
	if result == nil || result.Sent() == 0 {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	fmt.Println("\nThe client knows:")
	for _, r := range result.Recipients {
		fmt.Println(" ", r.Address, r.Reply.Code, r.Reply.Text)
	}
	return nil
}

// printer prints the dialogue. Credentials and content do not pass through a Trace.
var printer = &client.Trace{
	Secured: func(_ context.Context, _ *client.Client, s tls.ConnectionState) {
		fmt.Println("  (from here on", tls.VersionName(s.Version)+")")
	},
	Command: func(_ context.Context, _ *client.Client, verb, args string) {
		fmt.Println("C:", strings.TrimSpace(verb+" "+args))
	},
	Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
		fmt.Println("S:", r.Code, strings.ReplaceAll(r.Text, "\n", "\n      "))
	},
	Content: func(_ context.Context, _ *client.Client, octets int64, _ proto.Reply) {
		fmt.Printf("  (%d octets of content)\n", octets)
	},
}
