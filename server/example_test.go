package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/mail"
	"strings"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A backend of twenty lines: it takes mail for one domain and prints it.
func Example() {
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &printer{}, nil
	}), &server.Options{Hostname: "mail.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // or srv.ListenAndServe(":25")
	if err != nil {
		log.Fatal(err)
	}
	go talk(l.Addr().String(), srv)
	fmt.Println(srv.Serve(l))
	// Output:
	// from jane@example.com to joe@example.org: "Hello, Joe.\r\n"
	// 550 5.1.1 Not here: x@example.com
	// smtp: server closed
}

type printer struct{ from, to proto.Address }

func (p *printer) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	p.from = from
	return nil
}

func (p *printer) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	if to.Domain.Key() != "example.org" {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "Not here: "+to.String())
	}
	p.to = to
	return nil
}

func (p *printer) Data(_ context.Context, r io.Reader) error {
	body, err := io.ReadAll(r)
	if err == nil {
		fmt.Printf("from %v to %v: %q\n", p.from, p.to, body)
	}
	return err
}

// talk is a client that says all it has to say at once.
func talk(addr string, srv *server.Server) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	say(nc, "EHLO client.example.com\r\nMAIL FROM:<jane@example.com>\r\nRCPT TO:<x@example.com>\r\n"+
		"RCPT TO:<joe@example.org>\r\nDATA\r\nHello, Joe.\r\n.\r\nQUIT\r\n")
	_ = srv.Shutdown(context.Background())
}

// say sends text and prints what is refused with 5yz.
func say(nc net.Conn, text string) {
	fmt.Fprint(nc, text)
	replies, err := io.ReadAll(nc)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(replies)) {
		if strings.HasPrefix(line, "5") {
			fmt.Println(strings.TrimSpace(line))
		}
	}
}

// A submission server: users authenticate and send from their own addresses, and the server completes their headers.
func Example_submission() {
	backend := server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return &outbox{conn: c}, nil
	})
	cert := clienttest.Certificate() // for an example
	srv, err := server.New(backend, &server.Options{
		Hostname:   "mail.example.org",
		TLSConfig:  &tls.Config{Certificates: []tls.Certificate{cert}},
		Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}),
	})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // or srv.ListenAndServeTLS(":465") and srv.ListenAndServe(":587")
	if err != nil {
		log.Fatal(err)
	}
	go submit(l.Addr().String(), srv)
	fmt.Println(srv.ServeTLS(l))
	// Output:
	// 530 5.7.0 Authentication required
	// 550 5.7.1 You may not send from this address
	// alice@example.org to bob@example.net, with a Date: true, with a Message-ID: true
	// smtp: server closed
}

type outbox struct {
	conn     *server.Conn
	from, to proto.Address
}

// If a method had a wrong signature, the server would not find it. These lines would not compile then.
var (
	_ auth.PasswordSession   = (*outbox)(nil)
	_ ehlo.SubmissionSession = (*outbox)(nil)
)

func (o *outbox) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "secret" {
		return auth.ErrCredentials
	}
	return nil
}

func (o *outbox) PermitsSender(_ context.Context, user string, from proto.Address) (bool, error) {
	return from.Local == user && from.Domain.Key() == "example.org", nil
}

func (o *outbox) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	o.from = from
	return nil
}

func (o *outbox) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	o.to = to
	return nil
}

func (o *outbox) Data(_ context.Context, r io.Reader) error {
	r = server.Complete(r, server.Completion{Hostname: o.conn.Hostname(), Sender: o.from})
	m, err := mail.ReadMessage(r)
	if err == nil {
		fmt.Printf("%v to %v, with a Date: %v, with a Message-ID: %v\n",
			o.from, o.to, m.Header.Get("Date") != "", m.Header.Get("Message-ID") != "")
	}
	return err
}

// submit is a client that tries what it may not, and then submits a message.
func submit(addr string, srv *server.Server) {
	config := clienttest.TLSConfig()
	for _, text := range []string{
		"MAIL FROM:<alice@example.org>\r\n",
		"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nMAIL FROM:<eve@example.org>\r\n",
		"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\n" +
			"DATA\r\nSubject: hello\r\n\r\nHello, Bob.\r\n.\r\n",
	} {
		nc, err := tls.Dial("tcp", addr, config)
		if err != nil {
			log.Fatal(err)
		}
		say(nc, "EHLO client.example.com\r\n"+text+"QUIT\r\n")
	}
	_ = srv.Shutdown(context.Background())
}

// A whole server in one function. The reply to each message names it.
func ExampleMessageFunc() {
	backend := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		text, err := io.ReadAll(m.Body)
		if err != nil {
			return err
		}
		fmt.Printf("from %v to %v: %q\n", m.From, m.To[0].Address, text)
		m.Conn.Accept("queued as 4XyZ17")
		return nil
	})
	srv, err := server.New(backend, &server.Options{
		Hostname: "mail.example.org",
		Limits:   server.Limits{MessageSize: 10 << 20},
	})
	if err != nil {
		log.Fatal(err)
	}
	addr, stop := start(srv, srv.Serve) // or srv.ListenAndServe(":25")
	defer stop()
	fmt.Println(converse(addr, "EHLO client.example.com", "MAIL FROM:<jane@example.com>", "RCPT TO:<joe@example.org>",
		"DATA", "Hello, Joe.\r\n.")[4])
	// Output:
	// from jane@example.com to joe@example.org: "Hello, Joe.\r\n"
	// 250 2.0.0 queued as 4XyZ17
}

// start serves on a port of this machine, until stop is called.
func start(srv *server.Server, serve func(net.Listener) error) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serve(l) }()
	return l.Addr().String(), func() {
		_ = srv.Shutdown(context.Background())
		<-served
	}
}

// converse sends each line, and returns the last line of the reply to each.
func converse(addr string, lines ...string) []string {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	return converseOver(nc, lines...)
}

func converseOver(nc net.Conn, lines ...string) []string {
	defer nc.Close()
	r := bufio.NewReader(nc)
	heard := []string{}
	for i := -1; i < len(lines); i++ {
		if i >= 0 {
			fmt.Fprint(nc, lines[i]+"\r\n")
		}
		line := "   -"
		for len(line) > 3 && line[3] == '-' {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				log.Fatal(err)
			}
		}
		if i >= 0 { // the greeting answers nothing
			heard = append(heard, strings.TrimSpace(line))
		}
	}
	return heard
}

// Session middleware wraps a session. With Unwrap the server finds what else the session can do, such as Authenticate.
func ExampleSession() {
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return counting{Session: &printer{}}, nil
	}), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	_, ok := ext.As[*printer](counting{Session: &printer{}})
	fmt.Println(ok)
	// Output: true
}

type counting struct{ server.Session }

func (c counting) Unwrap() any { return c.Session }

func (c counting) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	err := c.Session.Rcpt(ctx, to, p)
	// Count err here: it is nil for every recipient that is accepted, whatever reply the session has chosen.
	return err
}
