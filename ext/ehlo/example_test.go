package ehlo_test

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A submission server that holds messages for a day at most. The list must not have ETRN.
func ExampleSubmission() {
	list := ehlo.Submission(ehlo.SubmissionPolicy{Hold: ehlo.HoldLimits{Interval: 24 * time.Hour}})
	srv, err := server.New(backend(&desk{}), &server.Options{Extensions: list})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(srv.Close())
	_, err = server.New(backend(&desk{}), &server.Options{Extensions: append(list, ehlo.ETRN())})
	fmt.Println(strings.Replace(err.Error(), ": leave", ":\nleave", 1))
	// Output:
	// <nil>
	// smtp: ETRN must not be offered by a submission server (RFC 6409 section 7):
	// leave it out, and use another server for it
}

// printMail prints the arguments of a MAIL command with the parameters.
func printMail(p proto.Params) {
	args, err := proto.AppendMailArgs(nil, proto.Address{}, p, false)
	fmt.Println(string(args), err)
}

// A sender asks to be told when the message has been delivered.
func ExampleDSN() {
	m, err := client.NewMessage("a@example.org", []string{"b@example.com"}, strings.NewReader("Subject: Hello\r\n\r\nHello\r\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Mail = ehlo.DSNMail{Return: ehlo.ReturnHeaders, EnvID: "order 4711"}.AddTo(m.Mail)
	for i := range m.To {
		dsn := ehlo.DSNRcpt{
			Notify:   ehlo.NotifySuccess | ehlo.NotifyFailure,
			Original: ehlo.NewOriginalRecipient(m.To[i].Address),
		}
		m.To[i].Params = dsn.AddTo(m.To[i].Params)
	}
	printMail(m.Mail)
	fmt.Println(m.To[0].Params)
	// Output:
	// FROM:<> RET=HDRS ENVID=order+204711 <nil>
	// [{NOTIFY SUCCESS,FAILURE true} {ORCPT rfc822;b@example.com true}]
}

// reporter is a session that notifies senders.
type reporter struct{ want ehlo.Notify }

func (r *reporter) NotifiesSenders() bool                                   { return true }
func (r *reporter) Mail(context.Context, proto.Address, proto.Params) error { return nil }

func (r *reporter) Rcpt(_ context.Context, _ proto.Address, p proto.Params) error {
	dsn, _ := ehlo.ReadDSNRcpt(p) // without parameters, the zero value is right
	r.want = dsn.Notify
	return nil
}

func (r *reporter) Data(_ context.Context, body io.Reader) error {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	if r.want.Wants(ehlo.Delivered) {
		fmt.Println("to be reported as delivered")
	}
	return nil
}

var _ server.Session = (*reporter)(nil)

// A session that sends notifications needs one method for the server to offer DSN. Wants tells which notifications to
// send.
func ExampleNotify_Wants() {
	r := &reporter{}
	params := ehlo.DSNRcpt{Notify: ehlo.NotifySuccess}.AddTo(nil)
	fmt.Println(r.Rcpt(context.Background(), proto.Address{}, params), r.Data(context.Background(), strings.NewReader("")))
	// Output:
	// to be reported as delivered
	// <nil> <nil>
}

// The message may travel only over TLS, between servers that have proved their names.
func ExampleRequireTLS() {
	printMail(ehlo.AddRequireTLS(nil))
	// Output: FROM:<> REQUIRETLS <nil>
}

// The message is urgent: the server processes it before others.
func ExampleMTPriority() {
	printMail(ehlo.Priority(4).AddTo(nil))
	// Output: FROM:<> MT-PRIORITY=4 <nil>
}

// A relay that has kept a message for a while sends the time that is left.
func ExampleDeliverBy() {
	b := ehlo.By{In: 2 * time.Minute, Return: true}
	left, ok := b.After(45 * time.Second)
	if !ok {
		fmt.Println("too late")
		return
	}
	printMail(left.AddTo(nil))
	// Output: FROM:<> BY=75;R <nil>
}

// The server releases the message at a given time, or after a while.
func ExampleFutureRelease() {
	printMail(ehlo.Hold{Until: time.Date(2030, 1, 1, 8, 0, 0, 0, time.UTC)}.AddTo(nil))
	printMail(ehlo.Hold{For: time.Hour}.AddTo(nil))
	// Output:
	// FROM:<> HOLDUNTIL=2030-01-01T08:00:00Z <nil>
	// FROM:<> HOLDFOR=3600 <nil>
}

// A password goes only to the person who owned the mailbox at the time of registration.
func ExampleRRVS() {
	signedUp := time.Date(2014, 4, 3, 23, 1, 0, 0, time.UTC)
	fmt.Println(ehlo.ValidSince{Time: signedUp}.AddTo(nil))
	// Output: [{RRVS 2014-04-03T23:01:00Z true}]
}

// The classes have to be those of the header field Solicitation.
func ExampleNoSoliciting() {
	printMail(ehlo.Solicitation{"net.example:ADV", "org.example:ADV:ADLT"}.AddTo(nil))
	// Output: FROM:<> SOLICIT=net.example:ADV,org.example:ADV:ADLT <nil>
}

// A client reads the limits that a server states. It keeps to them by itself.
func ExampleReadLimits() {
	caps := proto.ParseCaps(proto.Reply{Code: 250, Text: "mail.example\nLIMITS RCPTMAX=50 MAILMAX=10"})
	if limits, ok := ehlo.ReadLimits(caps); ok {
		fmt.Println(limits.RcptMax, "recipients in a message,", limits.MailMax, "messages over a connection")
	}
	// Output: 50 recipients in a message, 10 messages over a connection
}

// dialogue starts a server with the session and the extensions, calls f with a client, and closes both.
func dialogue(s server.Session, list []ext.Extension, f func(context.Context, *client.Client) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := func() error {
		srv, err := server.New(backend(s), &server.Options{
			Hostname: "mail.example", Extensions: list, AllowInsecureAuth: true, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		defer srv.Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go func() { _ = srv.Serve(l) }()
		opt := &client.Options{TLS: ext.TLSInsecureNone, AllowPlaintextAuth: true, Extensions: list}
		if _, ok := s.(auth.PasswordSession); ok {
			opt.Credentials = auth.Password("tim", "tanstaaf")
		}
		c, err := client.Dial(ctx, l.Addr().String(), opt)
		if err != nil {
			return err
		}
		defer c.Close()
		return f(ctx, c)
	}()
	if err != nil {
		fmt.Println(err)
	}
}

// book is a session with an address book.
type book struct{ keeper }

func (book) Verify(_ context.Context, query string) (ehlo.Mailbox, error) {
	switch query {
	case "jones":
		a, err := proto.ParseAddress("jones@mail.example")
		return ehlo.Mailbox{Name: "Tom Jones", Address: a}, err
	case "brown": // moved, and the server forwards the mail
		a, err := proto.ParseAddress("brown@new.example")
		return ehlo.Mailbox{Address: a, Forward: true}, err
	case "boss":
		return ehlo.Mailbox{}, ehlo.ErrCannotVerify
	case "green": // moved, and the sender has to try again
		return ehlo.Mailbox{}, proto.Refuse(551, proto.Status{}, "User not local; please try <green@new.example>")
	}
	return ehlo.Mailbox{}, proto.Refuse(550, proto.Status{}, "Nobody has that name")
}

// A session that answers VRFY. Without it the server answers 252.
func ExampleVRFY() {
	dialogue(&book{}, nil, func(ctx context.Context, c *client.Client) error {
		for _, name := range []string{"jones", "brown", "boss", "green", "smith"} {
			r, err := c.Do(ctx, "VRFY", name)
			if err != nil {
				return err
			}
			fmt.Println(r.Code, r.Text)
		}
		return nil
	})
	// Output:
	// 250 Tom Jones <jones@mail.example>
	// 251 User not local; will forward to <brown@new.example>
	// 252 The user cannot be verified; send the message, and delivery will be attempted
	// 551 User not local; please try <green@new.example>
	// 550 Nobody has that name
}

// dialUp is a session of a provider that keeps mail for hosts that dial in.
type dialUp struct{ keeper }

func (dialUp) StartQueue(_ context.Context, node ehlo.Node) (int, error) {
	if node.Name != "customer.example" {
		return 0, ehlo.ErrNotYours
	}
	return 14, nil // having told the queue to begin
}

// A customer asks the provider to send the mail that waits.
func ExampleETRN() {
	dialogue(&dialUp{}, append(ehlo.Default(), ehlo.ETRN()), func(ctx context.Context, c *client.Client) error {
		n, err := ehlo.SendETRN(ctx, c, ehlo.Node{Name: "customer.example"})
		fmt.Println(n, "messages,", err)
		_, err = ehlo.SendETRN(ctx, c, ehlo.Node{Name: "other.example"})
		fmt.Println(errors.Is(err, ehlo.ErrNotYours))
		return nil
	})
	// Output:
	// 14 messages, <nil>
	// true
}

// A customer without a fixed address fetches its mail. It connects as a client, and then is the server.
func ExampleATRN() {
	inbox, err := server.New(server.MessageFunc(func(_ context.Context, m *server.Message) error {
		fmt.Println("mail from", m.From)
		_, err := io.Copy(io.Discard, m.Body)
		return err
	}), &server.Options{Hostname: "customer.example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	c, err := client.Dial(ctx, "provider.example:366", &client.Options{
		Extensions:  append(ehlo.Default(), ehlo.ATRN()),
		Credentials: auth.Password("customer", "secret"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if err := ehlo.SendATRN(ctx, c, nil, inbox.ServeConn); err != nil && !errors.Is(err, ehlo.ErrNoMail) {
		fmt.Println(err)
	}
}

// library is a session that resolves URLs.
type library struct{ keeper }

func (library) ResolveURL(_ context.Context, url string) (io.ReadCloser, int64, error) {
	message, ok := map[string]string{"imap://imap.example/Drafts/;UID=3": "Subject: Draft\r\n\r\nWritten on the way\r\n"}[url]
	if !ok {
		return nil, 0, ehlo.ErrURLDenied
	}
	return io.NopCloser(strings.NewReader(message)), int64(len(message)), nil
}

func (*library) Authenticate(context.Context, string, string) error { return nil }

// A client on a slow line has the server fetch the message from a mailbox.
func ExampleBURL() {
	dialogue(&library{}, ehlo.Submission(ehlo.SubmissionPolicy{URLs: []string{"imap://imap.example"}}), func(ctx context.Context, c *client.Client) error {
		for _, command := range [][2]string{{"MAIL", "FROM:<a@mail.example>"}, {"RCPT", "TO:<b@mail.example>"}} {
			if r, err := c.Do(ctx, command[0], command[1]); err != nil || r.Code != 250 {
				return fmt.Errorf("%v %w", r, err)
			}
		}
		fmt.Println(ehlo.SendBURL(ctx, c, "imap://imap.example/Drafts/;UID=3", true))
		return nil
	})
	// Output: <nil>
}

// choosy is a session whose recipients may refuse a message for its content.
type choosy struct{ keeper }

func (s *choosy) DataEach(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	for i, to := range s.to {
		if strings.HasPrefix(to, "never") {
			result(i, proto.Reply{}, proto.Refuse(550, proto.Status{}, "Not for me"))
		}
	}
	return nil
}

// One recipient accepts a message, and another refuses it for its content, as in LMTP.
func ExamplePRDR() {
	dialogue(&choosy{}, append(ehlo.Default(), ehlo.PRDR()), func(ctx context.Context, c *client.Client) error {
		body := strings.NewReader("Subject: Offer\r\n\r\nBuy now\r\n")
		m, err := client.NewMessage("a@shop.example", []string{"always@mail.example", "never@mail.example"}, body)
		if err != nil {
			return err
		}
		res, _ := c.Send(ctx, m)
		for _, r := range res.Recipients {
			fmt.Println(r.Address, r.Reply.Code)
		}
		return nil
	})
	// Output:
	// always@mail.example 250
	// never@mail.example 550
}

// A proxy tells the server for which client it speaks. The server trusts it because of its address.
func ExampleXCLIENT() {
	list := append(ehlo.Default(), ehlo.XCLIENT(netip.MustParsePrefix("127.0.0.0/8")))
	dialogue(&keeper{}, list, func(ctx context.Context, c *client.Client) error {
		err := ehlo.SendXCLIENT(ctx, c, ext.Origin{Name: "client.example", Addr: "192.0.2.1", Port: "4242"})
		fmt.Println(err) // the session's Conn.RemoteAddr is 192.0.2.1:4242 now
		return nil
	})
	// Output: <nil>
}

// recorder is a session that logs where messages came from.
type recorder struct{ keeper }

func (recorder) RecordOrigin(_ context.Context, o ext.Origin) error {
	fmt.Println("the next message came from", o.Addr, "as", o.Ident)
	return nil
}

// A content filter between two servers passes on where messages came from.
func ExampleXFORWARD() {
	list := append(ehlo.Default(), ehlo.XFORWARD(netip.MustParsePrefix("127.0.0.0/8")))
	dialogue(&recorder{}, list, func(ctx context.Context, c *client.Client) error {
		return ehlo.SendXFORWARD(ctx, c, ext.Origin{Addr: "192.0.2.1", Ident: "4F2A1"})
	})
	// Output: the next message came from 192.0.2.1 as 4F2A1
}

// thrifty is a session with limits.
type thrifty struct {
	keeper
	quota ehlo.Quota
}

func (s *thrifty) Quota() *ehlo.Quota { return &s.quota }

// A server states how many messages it accepts over a connection. The client makes a new connection in time.
func ExampleLimits() {
	dialogue(&thrifty{quota: ehlo.Quota{MailMax: 10}}, nil, func(_ context.Context, c *client.Client) error {
		limits, ok := ehlo.ReadLimits(c.Caps())
		fmt.Println(limits.MailMax, ok)
		return nil
	})
	// Output: 10 true
}

// A sender keeps the secret by which it can later track the message. The server gets the hash of the secret.
func ExampleMTRK() {
	certifier := sha1.Sum([]byte("kept by the sender"))
	t := ehlo.Tracking{Certifier: certifier[:], Timeout: 24 * time.Hour, HasTimeout: true}
	printMail(t.AddTo(ehlo.DSNMail{EnvID: "4711@a.example"}.AddTo(nil)))
	// Output: FROM:<> ENVID=4711@a.example MTRK=NRc98oeZU2IIiLmz9vEbnqp7e8k:86400 <nil>
}
