package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// mailboxes are the recipients of a server, by Address.Key, so that Joe@EXAMPLE.ORG and Joe@example.org are one.
type mailboxes map[string]*bytes.Buffer

// directory is a session that accepts the recipients it knows.
type directory struct {
	known mailboxes
	to    []*bytes.Buffer
}

func (d *directory) Mail(context.Context, proto.Address, proto.Params) error {
	d.to = nil
	return nil
}

func (d *directory) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	box, ok := d.known[to.Key()]
	if !ok {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
	}
	d.to = append(d.to, box)
	return nil
}

func (d *directory) Data(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for _, box := range d.to {
		box.Write(text)
	}
	return nil
}

// A server looks recipients up in a map.
func ExampleSession_recipients() {
	known := make(mailboxes)
	for _, text := range []string{"joe@example.org", "postmaster@example.org"} {
		a, err := proto.ParseAddress(text)
		if err != nil {
			log.Fatal(err)
		}
		known[a.Key()] = new(bytes.Buffer)
	}
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &directory{known: known}, nil
	}), &server.Options{Hostname: "mail.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	addr, stop := start(srv, srv.Serve)
	defer stop()
	for _, reply := range converse(addr, "EHLO client.example.com", "MAIL FROM:<jane@example.com>",
		"RCPT TO:<joe@EXAMPLE.org>", "RCPT TO:<jim@example.org>", "DATA", "Hello, Joe.\r\n.", "QUIT")[2:6] {
		fmt.Println(reply)
	}
	fmt.Printf("%q\n", known["joe@example.org"])
	// Output:
	// 250 2.1.5 Recipient OK
	// 550 5.1.1 No such mailbox
	// 354 Start mail input; end with <CRLF>.<CRLF>
	// 250 2.0.0 Message accepted
	// "Hello, Joe.\r\n"
}

// delivery is a session of LMTP: some mailboxes may be full while others are not.
type delivery struct {
	directory
	quota int
}

var _ server.RecipientData = (*delivery)(nil)

func (d *delivery) DataEach(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err // the outcome for every recipient without one
	}
	for i, box := range d.to {
		if box.Len()+len(text) > d.quota {
			result(i, proto.Reply{}, proto.Refuse(452, proto.Status{4, 2, 2}, "Mailbox full"))
			continue
		}
		box.Write(text)
		result(i, proto.Reply{Code: 250, Text: fmt.Sprintf("Delivered, %d octets in the mailbox", box.Len())}, nil)
	}
	return nil
}

// An LMTP server reports an outcome for each recipient. Data, which every session has, is not called then.
func ExampleRecipientData() {
	known := mailboxes{"joe@example.org": new(bytes.Buffer), "jim@example.org": bytes.NewBufferString("old mail")}
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &delivery{directory{known: known}, 15}, nil
	}), &server.Options{Hostname: "mail.example.org", Protocol: proto.LMTP})
	if err != nil {
		log.Fatal(err)
	}
	here, there := net.Pipe() // or srv.ListenAndServe("unix:/run/lmtp.sock")
	defer here.Close()
	go func() { _ = srv.ServeConn(context.Background(), there) }()
	// The content has two replies here, and so the last line of this dialogue reads the second one.
	for _, reply := range converseOver(here, "LHLO relay.example.org", "MAIL FROM:<jane@example.com>",
		"RCPT TO:<joe@example.org>", "RCPT TO:<jim@example.org>", "DATA", "Hello, both.\r\n.", "QUIT")[5:] {
		fmt.Println(reply)
	}
	// Output:
	// 250 2.0.0 Delivered, 14 octets in the mailbox
	// 452 4.2.2 Mailbox full
}

// limiter is a backend whose sessions accept some messages in a minute from one host.
type limiter struct {
	perMinute int

	mu    sync.Mutex
	since time.Time
	count map[netip.Addr]int
}

func (l *limiter) NewSession(_ context.Context, c *server.Conn) (server.Session, error) {
	return &limited{limiter: l, conn: c, Session: &directory{known: mailboxes{}}}, nil
}

// take reports whether the host may send another message.
func (l *limiter) take(host netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.since) > time.Minute {
		l.since, l.count = time.Now(), make(map[netip.Addr]int)
	}
	l.count[host]++
	return l.count[host] <= l.perMinute
}

// limited is a session around another one.
type limited struct {
	server.Session
	limiter *limiter
	conn    *server.Conn
}

func (s *limited) Unwrap() any { return s.Session }

func (s *limited) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	if a, ok := s.conn.RemoteAddr().(*net.TCPAddr); ok && !s.limiter.take(a.AddrPort().Addr().Unmap()) {
		return proto.Refuse(450, proto.Status{4, 7, 1}, "Too many messages, try again in a minute")
	}
	return s.Session.Mail(ctx, from, p)
}

// A backend limits the rate at which hosts may send. Clients that obey SMTP try again later.
func ExampleBackend_rateLimit() {
	srv, err := server.New(&limiter{perMinute: 2}, &server.Options{Hostname: "mail.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	addr, stop := start(srv, srv.Serve)
	defer stop()
	for range 3 {
		fmt.Println(converse(addr, "EHLO client.example.com", "MAIL FROM:<jane@example.com>")[1])
	}
	// Output:
	// 250 2.1.0 Sender OK
	// 250 2.1.0 Sender OK
	// 450 4.7.1 Too many messages, try again in a minute
}

// A Trace writes the dialogue to a log. Each record could have an identifier of the connection, made in Connected and
// kept in a map by the Conn.
func ExampleTrace() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // for an example
			}
			return a
		},
	}))
	srv, err := server.New(server.MessageFunc(discardMessage), &server.Options{
		Hostname: "mail.example.org",
		Trace: &server.Trace{
			Command: func(ctx context.Context, c *server.Conn, verb, args string) {
				logger.DebugContext(ctx, "command", "remote", c.RemoteAddr(), "verb", verb, "args", args)
			},
			Reply: func(ctx context.Context, c *server.Conn, verb string, r proto.Reply) {
				if r.Code >= 400 {
					logger.InfoContext(ctx, "refused", "remote", c.RemoteAddr(), "verb", verb, "code", r.Code, "text", r.Text)
				}
			},
			Content: func(ctx context.Context, c *server.Conn, octets int64, r proto.Reply) {
				logger.InfoContext(ctx, "message", "remote", c.RemoteAddr(), "octets", octets, "code", r.Code)
			},
			Closed: func(ctx context.Context, c *server.Conn, err error) {
				logger.InfoContext(ctx, "closed", "remote", c.RemoteAddr(), "err", err)
			},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- srv.ServeConn(context.Background(), there) }()
	converseOver(here, "EHLO client.example.com", "AUTH PLAIN AGFsaWNlAHNlY3JldA==", "MAIL FROM:<jane@example.com>",
		"RCPT TO:<joe@example.org>", "DATA", "Hello, Joe.\r\n.", "QUIT")
	<-done
	// Output:
	// level=DEBUG msg=command remote=pipe verb=EHLO args=client.example.com
	// level=DEBUG msg=command remote=pipe verb=AUTH args="PLAIN ***"
	// level=INFO msg=refused remote=pipe verb=AUTH code=502 text="Nobody can authenticate here"
	// level=DEBUG msg=command remote=pipe verb=MAIL args=FROM:<jane@example.com>
	// level=DEBUG msg=command remote=pipe verb=RCPT args=TO:<joe@example.org>
	// level=DEBUG msg=command remote=pipe verb=DATA args=""
	// level=INFO msg=message remote=pipe octets=13 code=250
	// level=DEBUG msg=command remote=pipe verb=QUIT args=""
	// level=INFO msg=closed remote=pipe err=<nil>
}
