package servertest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/smtp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// send sends a message with net/smtp over nc, as a program does that is not ours.
func send(nc net.Conn, config *tls.Config, from, to, content string) error {
	c, err := smtp.NewClient(nc, servertest.Hostname)
	if err != nil {
		return err
	}
	defer c.Close()
	if config != nil {
		if err := c.StartTLS(config); err != nil {
			return err
		}
	}
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

const hello = "Subject: hello\r\n\r\nHello\r\n.dot\r\n"

// TestNewServer sends a message with net/smtp in every way in which a server can be reached.
func TestNewServer(t *testing.T) {
	for _, tt := range []struct {
		name     string
		opt      servertest.Options
		implicit bool
		with     string
	}{
		{"loopback", servertest.Options{}, false, "ESMTPS"},
		{"loopback, implicit TLS", servertest.Options{ImplicitTLS: true}, true, "ESMTPS"},
		{"loopback, no TLS", servertest.Options{NoTLS: true}, false, "ESMTP"},
		{"memory", servertest.Options{Memory: true}, false, "ESMTPS"},
		{"memory, implicit TLS", servertest.Options{Memory: true, ImplicitTLS: true}, true, "ESMTPS"},
		{"memory, no TLS", servertest.Options{Memory: true, NoTLS: true}, false, "ESMTP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := servertest.NewServer(t, &tt.opt)
			nc := srv.Dial()
			config := srv.ClientTLS()
			switch {
			case tt.opt.NoTLS:
				config = nil
			case tt.implicit:
				nc, config = tls.Client(nc, config), nil
			}
			before := time.Now()
			if err := send(nc, config, "a@example.org", "b@example.net", hello); err != nil {
				t.Fatal(err)
			}
			m := srv.Inbox.Wait()
			if string(m.Raw) != hello || m.With != tt.with || (m.TLS == nil) != tt.opt.NoTLS || m.Identity != "" ||
				m.From.String() != "a@example.org" || len(m.To) != 1 || m.To[0].Address.String() != "b@example.net" ||
				m.Hello != "localhost" || m.Conn == "" || m.RemoteAddr == nil || m.Time.Before(before) {
				t.Errorf("the message is %+v", m)
			}
			if srv.Server.Stats().Messages != 1 {
				t.Errorf("Stats has %+v", srv.Server.Stats())
			}
		})
	}
}

// TestBubble runs a server in a bubble of testing/synctest: while a client is idle for an hour of its clock, and while
// the test waits for a message, everything is durably blocked.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := servertest.NewServer(t, &servertest.Options{Memory: true, Wait: 2 * time.Hour})
		start := time.Now()
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			time.Sleep(time.Hour)
			if err := send(srv.Dial(), srv.ClientTLS(), "a@example.org", "b@example.net", hello); err != nil {
				t.Error(err)
			}
		})
		idle := prototest.NewPeer(t, srv.Dial())
		idle.Timeout = 10 * time.Hour
		idle.Expect("220 ")
		idle.Expect("421 ") // Timeouts.Command
		if got := time.Since(start); got != 5*time.Minute {
			t.Errorf("an idle client was disconnected after %v", got)
		}
		if m := srv.Inbox.Wait(); m.Time.Sub(start) != time.Hour {
			t.Errorf("the message came after %v", m.Time.Sub(start))
		}
	})
}

// TestCertificates checks which certificates crypto/tls takes for what.
func TestCertificates(t *testing.T) {
	var invalid x509.CertificateInvalidError
	var wrong x509.HostnameError
	var unknown x509.UnknownAuthorityError
	for _, tt := range []struct {
		name string
		kind servertest.Certificate
		want func(error) bool
	}{
		{"good", servertest.Good, func(err error) bool { return err == nil }},
		{"expired", servertest.Expired, func(err error) bool {
			return errors.As(err, &invalid) && invalid.Reason == x509.Expired
		}},
		{"wrong name", servertest.WrongName, func(err error) bool { return errors.As(err, &wrong) }},
		{"self-signed", servertest.SelfSigned, func(err error) bool { return errors.As(err, &unknown) }},
		{"unknown root", servertest.UnknownRoot, func(err error) bool { return errors.As(err, &unknown) }},
	} {
		for _, implicit := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				opt := &servertest.Options{Memory: true, ImplicitTLS: implicit, Certificate: tt.kind}
				srv := servertest.NewServer(t, opt)
				nc, config := srv.Dial(), srv.ClientTLS()
				if implicit {
					nc, config = tls.Client(nc, config), nil
				}
				if err := send(nc, config, "a@example.org", "b@example.net", hello); !tt.want(err) {
					t.Errorf("sending ends with %v", err)
				}
			})
		}
	}
	srv := servertest.NewServer(t, nil)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		config := srv.ClientTLS()
		config.ServerName = name
		if err := send(srv.Dial(), config, "a@example.org", "b@example.net", hello); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
}

// TestUsers authenticates with a mechanism of each kind that needs no SASL library. The others are offered.
func TestUsers(t *testing.T) {
	users := map[string]string{"alice": "secret", "anonymous": ""}
	srv := servertest.NewServer(t, &servertest.Options{Users: users, Submission: true})
	users["alice"] = "changed" // the options were copied
	plain := func(password string) string {
		return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00"+password))
	}
	p := prototest.NewPeer(t, srv.Dial())
	p.Expect("220 ")
	p.Ask("EHLO client.example", "250-", "MAIL FROM:<a@example.org>", "530 ", "STARTTLS", "220 ")
	config := srv.ClientTLS()
	config.Certificates = []tls.Certificate{srv.ClientCertificate("alice")}
	p.StartTLS(config)
	p.Say("EHLO client.example")
	offered := p.Reply()
	for _, name := range []string{"EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1",
		"OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "PLAIN", "LOGIN", "ANONYMOUS"} {
		if !strings.Contains(offered, name) {
			t.Errorf("%s is not offered: %s", name, offered)
		}
	}
	p.Ask(plain("changed"), "535 ", plain("secret"), "235 ")
	p.Ask("MAIL FROM:<a@example.org>", "250 ", "RCPT TO:<b@example.net>", "250 ", "DATA", "354 ", hello+".", "250 ")
	if m := srv.Inbox.Wait(); m.Identity != "alice" || m.With != "ESMTPSA" {
		t.Errorf("the message is from %q by %s", m.Identity, m.With)
	}
	p.Close()

	p = prototest.NewPeer(t, srv.Dial())
	p.Expect("220 ")
	p.Ask("EHLO client.example", "250-", "STARTTLS", "220 ")
	p.StartTLS(config)
	p.Ask("EHLO client.example", "250-", "AUTH EXTERNAL =", "235 ")
	p.Close()

	// As a user of net/smtp, without TLS.
	srv = servertest.NewServer(t, &servertest.Options{Users: map[string]string{"bob": "secret"}, NoTLS: true})
	for password, want := range map[string]bool{"secret": true, "wrong": false} {
		err := smtp.SendMail(srv.Addr, smtp.CRAMMD5Auth("bob", password), "a@example.org", []string{"b@example.net"},
			[]byte(hello))
		if (err == nil) != want {
			t.Errorf("with the password %s: %v", password, err)
		}
	}
	p = prototest.NewPeer(t, srv.Dial())
	p.Expect("220 ")
	p.Say("EHLO client.example")
	if offered := p.Reply(); strings.Contains(offered, "ANONYMOUS") {
		t.Errorf("guests are let in: %s", offered)
	}
}

// TestLMTP has one outcome for each recipient; those for whom the message was refused are not in the Inbox.
func TestLMTP(t *testing.T) {
	backend := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &mailboxes{}, nil
	})
	srv := servertest.NewServer(t, &servertest.Options{
		Memory: true, Backend: backend, Server: server.Options{Protocol: proto.LMTP}})
	p := prototest.NewPeer(t, srv.Dial())
	p.Expect("220 ")
	p.Ask("LHLO client.example", "250-", "MAIL FROM:<>", "250 ", "RCPT TO:<a@example.org>", "250 ",
		"RCPT TO:<full@example.org>", "250 ", "RCPT TO:<c@example.org>", "250 ", "DATA", "354 ")
	p.Say(hello + ".")
	p.Expect("250 ", "452 ", "250 ")
	m := srv.Inbox.Wait(servertest.From(""), servertest.To("c@example.org"))
	if len(m.To) != 2 || len(srv.Inbox.All(servertest.To("full@example.org"))) > 0 || m.With != "LMTP" {
		t.Errorf("the message is %v", m)
	}
	// A message that everybody refuses.
	p.Ask("MAIL FROM:<>", "250 ", "RCPT TO:<full@example.org>", "250 ", "DATA", "354 ", hello+".", "452 ")
	// In chunks.
	p.Ask("MAIL FROM:<x@example.org>", "250 ", "RCPT TO:<c@example.org>", "250 ")
	p.Send("BDAT 7\r\nSubjectBDAT 7 LAST\r\n: x\r\n\r\n")
	p.Expect("250 ", "250 ")
	if all := srv.Inbox.All(); len(all) != 2 || string(all[1].Raw) != "Subject: x\r\n\r\n" {
		t.Errorf("the Inbox has %v", all)
	}
}

// Mailboxes is a session for LMTP. The mailbox "full" is full.
type mailboxes struct {
	server.Session
	to []proto.Address
}

func (s *mailboxes) Mail(context.Context, proto.Address, proto.Params) error {
	s.to = nil
	return nil
}

func (s *mailboxes) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	s.to = append(s.to, to)
	return nil
}

func (s *mailboxes) DataEach(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	for i, to := range s.to {
		if to.Local == "full" {
			result(i, proto.Reply{}, proto.Refuse(452, proto.Status{4, 2, 2}, "Full"))
		}
	}
	return nil
}

// TestBackend has a backend of the test's own decide, by Data; with PRDR, which tells outcomes in SMTP; and by errors
// and panics, for which the test fails.
func TestOwnBackend(t *testing.T) {
	backend := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		text, err := io.ReadAll(m.Body)
		switch {
		case err != nil:
			return err
		case bytes.Contains(text, []byte("refuse")):
			return proto.Refuse(554, proto.Status{5, 7, 1}, "No")
		case bytes.Contains(text, []byte("error")):
			return errors.New("disk on fire")
		case bytes.Contains(text, []byte("panic")):
			panic("attack")
		}
		return nil
	})
	for _, tt := range []struct{ content, want, failure string }{
		{"accept", "250 ", ""},
		{"refuse", "554 ", ""},
		{"error", "451 ", "disk on fire"},
		{"panic", "421 ", "attack"},
	} {
		for _, allow := range []bool{false, true} {
			rec := &recorder{TB: t}
			srv := servertest.NewServer(rec, &servertest.Options{Memory: true, Backend: backend, AllowErrors: allow})
			p := prototest.NewPeer(t, srv.Dial())
			p.Expect("220 ")
			p.Ask("EHLO client.example", "250-", "MAIL FROM:<a@example.org>", "250 ", "RCPT TO:<b@example.net>", "250 ",
				"DATA", "354 ", tt.content+"\r\n.", tt.want)
			p.Close()
			errs, logs := rec.end()
			if got, want := len(srv.Inbox.All()), tt.want == "250 "; (got == 1) != want {
				t.Errorf("%s: %d messages in the Inbox", tt.content, got)
			}
			failure := tt.failure
			if allow {
				failure = ""
			}
			if (errs == "") != (failure == "") || !strings.Contains(errs, failure) || (logs == "") != (errs == "") {
				t.Errorf("%s: the test fails with %q, want %q; it logs %q", tt.content, errs, failure, logs)
			}
		}
	}
}

// TestOptions finds options that contradict each other.
func TestOptions(t *testing.T) {
	backend := server.MessageFunc(func(context.Context, *server.Message) error { return nil })
	users := map[string]string{"alice": "secret"}
	for _, tt := range []struct {
		opt  servertest.Options
		want string
	}{
		{servertest.Options{NoTLS: true, ImplicitTLS: true}, "NoTLS"},
		{servertest.Options{NoTLS: true, Server: server.Options{TLSConfig: &tls.Config{}}}, "NoTLS"},
		{servertest.Options{Submission: true}, "Submission"},
		{servertest.Options{Submission: true, Users: users, Server: server.Options{Protocol: proto.LMTP}}, "Submission"},
		{servertest.Options{
			Submission: true, Users: users, Server: server.Options{Extensions: []ext.Extension{}},
		}, "Submission"},
		{servertest.Options{Users: users, Backend: backend}, "Users"},
		{servertest.Options{Certificate: 99}, "certificate"},
		{servertest.Options{Server: server.Options{Hostname: "-"}}, "Hostname"},
	} {
		rec := &recorder{TB: t}
		rec.run(func() { servertest.NewServer(rec, &tt.opt) })
		if errs, _ := rec.end(); !strings.Contains(errs, tt.want) {
			t.Errorf("%+v: the test fails with %q, want %q", tt.opt, errs, tt.want)
		}
	}
}

// TestOptionsReach finds that the options of the server, its functions and its log are those of the test.
func TestOptionsReach(t *testing.T) {
	type key struct{}
	var log bytes.Buffer
	var traced []string
	opt := servertest.Options{Memory: true, Server: server.Options{
		Hostname:    "mx.example.org",
		Limits:      server.Limits{MessageSize: 1000},
		BaseContext: func(net.Listener) context.Context { return context.WithValue(context.Background(), key{}, "base") },
		Logger:      slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Trace: &server.Trace{
			Command: func(ctx context.Context, _ *server.Conn, verb, _ string) {
				traced = append(traced, verb+" "+ctx.Value(key{}).(string))
			},
			Reply: func(context.Context, *server.Conn, string, proto.Reply) { traced = append(traced, "reply") },
			Transaction: func(context.Context, *server.Conn, *server.Transaction) {
				traced = append(traced, "transaction")
			},
		},
	}}
	srv := servertest.NewServer(t, &opt)
	p := prototest.NewPeer(t, srv.Dial())
	p.Expect("220 mx.example.org")
	p.Ask("EHLO client.example", "250-", "MAIL FROM:<> SIZE=1001", "552 ", "MAIL FROM:<>", "250 ", "QUIT", "221 ")
	p.ExpectEnd()
	srv.Close()
	want := []string{
		"reply", "EHLO base", "reply", "MAIL base", "reply", "MAIL base", "reply", "QUIT base", "reply", "transaction",
	}
	if !slices.Equal(traced, want) {
		t.Errorf("traced were %q", traced)
	}
	if !strings.Contains(log.String(), "smtp: connected") {
		t.Errorf("the log has %q", log.String())
	}
	if srv.Addr != "mx.example.org:25" || srv.ClientTLS().ServerName != "mx.example.org" {
		t.Errorf("the server is %s, for %s", srv.Addr, srv.ClientTLS().ServerName)
	}
}

// TestTranscripts compares a transcript with the dialogue.
func TestTranscripts(t *testing.T) {
	none := server.Options{Extensions: []ext.Extension{}}
	srv := servertest.NewServer(t, &servertest.Options{Memory: true, Server: none})
	p := prototest.NewPeer(t, srv.Dial())
	p.Expect("220 ")
	p.Ask("EHLO client.example", "250 ")
	p.Send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
	p.Expect("250 ", "250 ", "354 ")
	p.Ask("Subject: hello\r\n\r\n"+strings.Repeat("0123456789\r\n", 100)+".", "250 ", "N\x00OP", "501 ", "QUIT", "221 ")
	p.ExpectEnd()
	srv.Close()
	got := srv.Transcripts()
	want := `S: 220 mail.example ESMTP
C: EHLO client.example
S: 250 mail.example
C: MAIL FROM:<a@example.org>
C: RCPT TO:<b@example.net>
C: DATA
S: 250 Sender ok
S: 250 Recipient ok
S: 354 Start mail input; end with <CRLF>.<CRLF>
C: (1218 octets of content, which begins with "Subject: hello")
C: .
S: 250 Message accepted
C: "N\x00OP"
S: 501
C: QUIT
S: 221 Bye
`
	if len(got) != 1 || !sameBeginnings(got[0], want) {
		t.Errorf("the transcript is\n%s\nwant\n%s", got, want)
	}
}

// sameBeginnings compares lines. The text of a reply is not the affair of these tests.
func sameBeginnings(got, want string) bool {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) {
		return false
	}
	for i := range g {
		if strings.HasPrefix(w[i], "S: ") {
			g[i], w[i] = g[i][:min(6, len(g[i]))], w[i][:6]
		}
		if g[i] != w[i] {
			return false
		}
	}
	return true
}

// TestTranscriptTLS sees what passes inside of TLS, and chunks.
func TestTranscriptTLS(t *testing.T) { synctest.Test(t, testTranscriptTLS) }

func testTranscriptTLS(t *testing.T) {
	srv := servertest.NewServer(t, &servertest.Options{Memory: true})
	p := prototest.NewPeer(t, srv.Dial())
	p.Expect("220 ")
	p.Ask("EHLO client.example", "250-", "STARTTLS", "220 ")
	p.StartTLS(srv.ClientTLS())
	p.Ask("EHLO inside.example", "250-", "MAIL FROM:<a@example.org>", "250 ", "RCPT TO:<b@example.net>", "250 ")
	p.Ask("BDAT 12\r\nSubject: x", "250 ", "BDAT 2 LAST\r\n", "250 ")
	p.Send("NO")
	p.Close()
	synctest.Wait()
	got := srv.Transcripts()[0]
	for _, want := range []string{"C: STARTTLS\nS: 220", "\n-- TLS\nC: EHLO inside.example\nS: 250-",
		"C: BDAT 12\nC: (a chunk of 12 octets)\nS: 250", "C: BDAT 2 LAST\nC: (a chunk of 2 octets)\nS: 250",
		"C: NO (no end of line)"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in the transcript:\n%s", want, got)
		}
	}
	if strings.Contains(got, "S: \"") || strings.Contains(got, "C: \"") {
		t.Errorf("octets of TLS are in the transcript:\n%s", got)
	}
}
