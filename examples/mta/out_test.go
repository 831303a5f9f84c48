package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gomsgauth "github.com/emersion/go-msgauth/dkim"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/dkim"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// peer starts another server.
func peer(t *testing.T, opt servertest.Options) *servertest.Server {
	t.Helper()
	opt.Wait = 30 * time.Second
	return servertest.NewServer(t, &opt)
}

// TestWays sends by a smarthost, by a route, and by LMTP to the mailboxes, each with what belongs to it. What users
// submit is signed, and what a stranger has forwarded is not.
func TestWays(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	smart := peer(t, servertest.Options{Submission: true, Users: map[string]string{"us": "password"}})
	routed := peer(t, servertest.Options{})
	boxes := peer(t, servertest.Options{NoTLS: true, Server: server.Options{Protocol: proto.LMTP}})
	a := start(t, func(c *config) { c.smarthost.Options.TLSConfig = smart.ClientTLS() },
		"-hostname", "mx.a.example", "-domain", "a.example", "-user", "alice:secret", "-alias", "out=x@elsewhere.example",
		"-smarthost", "smtp://us:password@"+smart.Addr, "-route", "routed.example="+routed.Addr, "-lmtp", boxes.Addr,
		"-dkim", "a.example:one:"+file)
	record, err := dkim.Key{Domain: "a.example", Selector: "one", Signer: private}.Record()
	if err != nil {
		t.Fatal(err)
	}
	signed := func(text []byte) bool {
		t.Helper()
		found, err := gomsgauth.VerifyWithOptions(strings.NewReader(string(text)), &gomsgauth.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return []string{record.Value}, nil },
		})
		if err != nil || len(found) > 0 && found[0].Err != nil {
			t.Errorf("%v %v", found, err)
		}
		return len(found) > 0
	}
	if err := a.submit("alice", "secret", "alice@a.example", "x@elsewhere.example bob@routed.example alice@a.example",
		letter); err != nil {
		t.Fatal(err)
	}
	m := smart.Inbox.Wait(servertest.To("x@elsewhere.example"))
	if m.Identity != "us" || len(m.To) != 1 || !signed(m.Raw) {
		t.Errorf("the smarthost has got %v, as %q", m, m.Identity)
	}
	if m := routed.Inbox.Wait(); len(m.To) != 1 || m.TLS == nil || m.Hello != "mx.a.example" || !signed(m.Raw) {
		t.Errorf("the route has got %v, from %q", m, m.Hello)
	}
	if m := boxes.Inbox.Wait(); len(m.To) != 1 || m.To[0].Address.String() != "alice@a.example" {
		t.Errorf("the mailboxes have got %v", m)
	}
	a.talk(0, "MAIL FROM:<forger@client.example> > 250 ", "RCPT TO:<out@a.example> > 250 ", "DATA > 354 ",
		"From: alice@a.example\r\n\r\nPay.\r\n. > 250 ")
	if m := smart.Inbox.Wait(servertest.From("forger@client.example")); signed(m.Raw) {
		t.Errorf("it has signed %s", m.Raw)
	}
}

// TestHold has a message wait until it is released, and one that has no more time come back.
func TestRequests(t *testing.T) {
	a, b := pair(t)
	held := func(m *client.Message) { m.Mail = ehlo.Hold{For: time.Hour}.AddTo(m.Mail) }
	if err := a.submit("alice", "secret", "alice@a.example", "bob@b.example", letter, held); err != nil {
		t.Fatal(err)
	}
	urgent := func(m *client.Message) {
		m.Mail = ehlo.By{In: time.Minute, Return: true}.AddTo(ehlo.Priority(6).AddTo(m.Mail))
		m.To[0].Params = ehlo.DSNRcpt{Notify: ehlo.NotifySuccess}.AddTo(nil)
	}
	if err := a.submit("alice", "secret", "alice@a.example", "bob@b.example", letter, urgent); err != nil {
		t.Fatal(err)
	}
	b.log.wait(t, 1, `msg="smtp: delivered" .*to=<bob@b.example>`)
	a.log.wait(t, 1, `msg="smtp: delivered" .*to=<alice@a.example>`) // the report of b
	u, err := a.queue.Usage(t.Context())
	if err != nil || u.Messages != 1 || len(b.box("bob@b.example")) != 1 {
		t.Errorf("%v messages wait: %v", u, err)
	}
}

// TestOnDemand has mail wait until its customer fetches it.
func TestOnDemand(t *testing.T) {
	a := start(t, nil, "-hostname", "mx.a.example", "-domain", "a.example", "-user", "alice:secret", "-user", "eve:secret",
		"-on-demand", "customer.example=alice")
	a.talk(0, "MAIL FROM:<x@client.example> > 250 ", "RCPT TO:<anybody@customer.example> > 250 ", "DATA > 354 ",
		"Subject: x\r\n\r\nThis waits.\r\n. > 250 ")
	got := make(chan string, 10)
	box, err := server.New(server.MessageFunc(func(_ context.Context, m *server.Message) error {
		text, err := io.ReadAll(m.Body)
		got <- m.To[0].Address.String() + "\n" + string(text)
		return err
	}), &server.Options{Hostname: "mail.customer.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	fetch := func(user string, mechanism ...string) error {
		c, err := client.Dial(t.Context(), a.addr(3), &client.Options{
			TLS: ext.TLSInsecureNone, AllowPlaintextAuth: true, Credentials: auth.Password(user, "secret", mechanism...),
			Extensions: []ext.Extension{ehlo.ATRN(), auth.Auth(), ehlo.EnhancedStatusCodes()},
		})
		if err != nil {
			return err
		}
		defer c.Close()
		domain, err := proto.ParseDomain("customer.example")
		if err != nil {
			t.Fatal(err)
		}
		return ehlo.SendATRN(t.Context(), c, []proto.Domain{domain}, box.ServeConn)
	}
	if err := fetch("alice", "PLAIN"); err == nil {
		t.Error("a password can be sent in clear")
	}
	if err := fetch("eve", "CRAM-MD5"); err == nil {
		t.Error("eve can fetch")
	}
	if err := fetch("alice", "CRAM-MD5"); err != nil {
		t.Error(err)
	}
	if m := <-got; !strings.HasPrefix(m, "anybody@customer.example\n") || !strings.HasSuffix(m, "This waits.\r\n") {
		t.Errorf("the customer has %s", m)
	}
	if err := fetch("alice", "CRAM-MD5"); err == nil {
		t.Error("it is there a second time")
	}
	a.talk(3, "MAIL FROM:<x@client.example> > 550 ")
}

// TestETRN has a server that was away ask for its mail.
func TestETRN(t *testing.T) {
	away := peer(t, servertest.Options{})
	a := start(t, nil, "-hostname", "mx.a.example", "-domain", "a.example", "-user", "alice:secret", "-route",
		"away.example="+away.Addr)
	away.Fail("MAIL", 451).Times(1)
	if err := a.submit("alice", "secret", "alice@a.example", "x@away.example", letter); err != nil {
		t.Fatal(err)
	}
	a.log.wait(t, 1, `msg="smtp: not delivered by this attempt" .*x@away.example`)
	a.talk(0, "ETRN a.example > 459 ", "ETRN away.example > 253 ", "ETRN away.example > 458 ")
	away.Inbox.Wait()
}

// TestPage asks the operator's interface what is queued.
func TestPage(t *testing.T) {
	a := start(t, nil, "-hostname", "mx.a.example", "-domain", "a.example", "-user", "alice:secret", "-http-addr",
		"127.0.0.1:0")
	held := func(m *client.Message) { m.Mail = ehlo.Hold{For: time.Hour}.AddTo(m.Mail) }
	if err := a.submit("alice", "secret", "alice@a.example", "x@b.example", letter, held); err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + a.addr(3) + "/api/jobs")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 || !strings.Contains(string(text), "x@b.example") {
		t.Errorf("%s %v: %s", response.Status, err, text)
	}
}
