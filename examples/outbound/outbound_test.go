package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gomsgauth "github.com/emersion/go-msgauth/dkim"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/dkim"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestMain fails if anything is left running.
func TestMain(m *testing.M) { prototest.Main(m) }

// A letter is what the mail exchanger has got.
type letter struct {
	to, text string
	tls      bool
}

// TestOutbound sends mail to the program as a queue does: for its own domain, for one with DANE, one whose MTA-STS
// policy cannot be fetched, one whose policy an earlier run has kept, and one that takes no mail. A report on yesterday
// is due. Then the program ends, and closes its connections.
func TestOutbound(t *testing.T) {
	var logged lines
	log.SetOutput(&logged)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	cert, _ := prototest.Certificate(t, "mx.example.net")
	letters, port := exchanger(t, cert)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := dkim.Key{Domain: "example.org", Selector: "one", Signer: private}
	record, err := key.Record()
	if err != nil {
		t.Fatal(err)
	}
	names := dnstest.New(fmt.Sprintf(`
		%s  TXT  "%s"
		example.net             MX    10 mx.example.net
		mx.example.net          A     127.0.0.1
		_%d._tcp.mx.example.net TLSA  3 0 1 %x
		_smtp._tls.example.net  TXT   "v=TLSRPTv1; rua=mailto:tls@example.net"
		policy.example          MX    10 mx.policy.example
		mx.policy.example       A     127.0.0.1
		_mta-sts.policy.example TXT   "v=STSv1; id=1;"
		mta-sts.policy.example  A     SERVFAIL
		mta-sts.policy.example  AAAA  SERVFAIL
		strict.example          MX    10 mx.strict.example
		mx.strict.example       A     127.0.0.1
		_mta-sts.strict.example TXT   "v=STSv1; id=1;"
		mta-sts.strict.example  A     SERVFAIL
		mta-sts.strict.example  AAAA  SERVFAIL
		null.example            MX    0 .
	`, record.Name, record.Value, port, sha256.Sum256(cert.Certificate[0])))
	names.Secure("example.net", ".")
	names.Insecure("policy.example", "strict.example")

	c := &config{domain: "example.org", mailboxes: t.TempDir(), state: t.TempDir(), port: port}
	c.dns.Servers = []string{names.Serve(t)}
	c.client.Hostname = "mail.example.org"
	var conns open
	c.client.DialContext = conns.dial
	keep(t, c, &mtasts.Entry{Domain: "strict.example", ID: "1", Fetched: time.Now(), Policy: &mtasts.Policy{
		Mode: mtasts.Enforce, MX: []string{"other.example"}, MaxAge: 24 * time.Hour,
	}})
	c.dkim.Keys = []dkim.Key{key}
	c.tlsrpt = tlsrpt.Options{Organization: "Example", Contact: "postmaster@example.org", MaxDelay: -1}
	now := time.Now()
	before := collector(t, c)
	before.Record(tlsrpt.Event{Domain: "example.net", Time: now.Add(-24 * time.Hour)})
	if err := before.Save(); err != nil {
		t.Fatal(err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx, l) }()

	report := <-letters
	if report.to != "tls@example.net" || !report.tls || !strings.Contains(report.text, "TLS-Report-Domain: example.net") {
		t.Errorf("the report is %+v", report)
	}
	verify(t, names, report.text)

	got := submit(t, l.Addr().String(), "bob@example.org", "carol@example.net", "dave@policy.example", "erin@null.example",
		"later@example.net", "frank@strict.example")
	want := "bob@example.org 0 \ncarol@example.net 0 \ndave@policy.example 0 \n" +
		"erin@null.example 550 5.1.10\nlater@example.net 450 4.7.1\n" +
		"frank@strict.example 450 4.7.5\n"
	if got != want {
		t.Errorf("the outcomes are\n%swant\n%s", got, want)
	}
	for range 2 {
		m := <-letters
		if m.to != "carol@example.net" && m.to != "dave@policy.example" || !m.tls {
			t.Errorf("it came as %+v", m)
		}
		verify(t, names, m.text)
	}
	files, _ := filepath.Glob(filepath.Join(c.mailboxes, "example.org", "bob", "new", "*"))
	if len(files) != 1 {
		t.Errorf("the mailbox has %d messages", len(files))
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("at the end: %v", err)
	}
	if made, left := conns.count(); made < 2 || left != 0 {
		t.Errorf("of %d connections to mail exchangers, %d are open", made, left)
	}
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("it takes mail after its end")
	}
	for _, want := range []string{
		"carol@example.net by mx.example.net (127.0.0.1:", "policy DANE, TLS true: 250 ", "policy.example: smtp: MTA-STS",
		"report on example.net sent to mailto:tls@example.net",
	} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, logged.String())
		}
	}
	if strings.Contains(logged.String(), "no DANE") {
		t.Errorf("the log says\n%s", logged.String())
	}
	var counted []string
	for _, r := range collector(t, c).Reports(now) {
		for _, p := range r.Policies {
			counted = append(counted, fmt.Sprint(r.Domain, " ", p.Policy.Type, p.Summary))
		}
	}
	want = "example.net tlsa{1 0}; policy.example no-policy-found{1 0}; policy.example sts{0 1}; " +
		"strict.example sts{0 1}"
	if got := strings.Join(counted, "; "); got != want {
		t.Errorf("for the next reports it has kept: %s", got)
	}
}

// TestLastEvents checks that what the Deliverer records while it is being closed is kept for the next start.
func TestLastEvents(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &config{domain: "example.org", mailboxes: t.TempDir(), state: t.TempDir()}
	c.dns.Servers = []string{dnstest.New("").Serve(t)}
	c.client.Hostname = "mail.example.org"
	c.dkim.Keys = []dkim.Key{{Domain: "example.org", Selector: "one", Signer: private}}
	c.tlsrpt = tlsrpt.Options{Organization: "Example", Contact: "postmaster@example.org"}
	o, err := c.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	record := func() { o.reports.Record(tlsrpt.Event{Domain: "example.net", Time: now}) }
	if err := o.close(&awaited{t.Context(), sync.OnceFunc(record)}); err != nil {
		t.Error(err)
	}
	if got := collector(t, c).Reports(now); len(got) != 1 || got[0].Domain != "example.net" {
		t.Errorf("it has kept %+v", got)
	}
}

// awaited is a context that calls a function before somebody waits for it, as Close of a Deliverer does.
type awaited struct {
	context.Context
	before func()
}

func (c *awaited) Done() <-chan struct{} {
	c.before()
	return c.Context.Done()
}

// open counts connections.
type open struct {
	mu         sync.Mutex
	made, left int
}

func (o *open) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made++
	o.left++
	return &openConn{Conn: conn, closed: sync.OnceFunc(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.left--
	})}, nil
}

func (o *open) count() (made, left int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.made, o.left
}

type openConn struct {
	net.Conn
	closed func()
}

func (c *openConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// keep puts a policy where an earlier run of the program would have left it.
func keep(t *testing.T, c *config, e *mtasts.Entry) {
	t.Helper()
	store, err := mtasts.DirStore(filepath.Join(c.state, "mta-sts"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Save(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// collector returns one with what the program keeps for reports.
func collector(t *testing.T, c *config) *tlsrpt.Collector {
	t.Helper()
	opt := c.tlsrpt
	opt.Store = tlsrpt.FileStore(filepath.Join(c.state, "tlsrpt"))
	r, err := tlsrpt.New(&opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// submit sends a message to the program by LMTP, and returns the code and status of each recipient.
func submit(t *testing.T, addr string, to ...string) string {
	t.Helper()
	m, err := client.NewMessage("alice@example.org", to, strings.NewReader("From: alice@example.org\r\n\r\nHello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	opt := &client.Options{Protocol: proto.LMTP, TLS: ext.TLSInsecureNone}
	result, _ := client.DialSender(addr, opt).Send(t.Context(), m)
	var b strings.Builder
	for _, r := range result.Recipients {
		refused := &proto.Error{}
		if r.Err != nil && !errors.As(r.Err, &refused) {
			t.Error(r.Err)
		}
		fmt.Fprintln(&b, r.Address, refused.Code, refused.Status)
	}
	return b.String()
}

// verify has another implementation look at the signature.
func verify(t *testing.T, names dns.Resolver, text string) {
	t.Helper()
	found, err := gomsgauth.VerifyWithOptions(strings.NewReader(text), &gomsgauth.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) {
			answer, err := names.Lookup(t.Context(), name, dns.TXT)
			if err != nil {
				return nil, err
			}
			return answer.TXT, nil
		},
	})
	if err != nil || len(found) != 1 || found[0].Err != nil || found[0].Domain != "example.org" {
		t.Errorf("the signature: %v %v of\n%s", found, err, text)
	}
}

// A peer is a session of the mail exchanger, which does not take mail for later yet.
type peer struct {
	conn    *server.Conn
	letters chan<- letter
	to      []string
}

func (p *peer) Mail(context.Context, proto.Address, proto.Params) error {
	p.to = nil
	return nil
}

func (p *peer) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	if to.Local == "later" {
		return proto.Refuse(450, proto.Status{4, 7, 1}, "later")
	}
	p.to = append(p.to, to.String())
	return nil
}

func (p *peer) Data(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		p.letters <- letter{strings.Join(p.to, " "), string(text), p.conn.TLS() != nil}
	}
	return err
}

// exchanger serves a mail exchanger until the test ends. It returns what that gets, and its port.
func exchanger(t *testing.T, cert tls.Certificate) (<-chan letter, uint16) {
	t.Helper()
	letters := make(chan letter, 100)
	srv, err := server.New(server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return &peer{conn: c, letters: letters}, nil
	}), &server.Options{Hostname: "mx.example.net", TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return letters, uint16(l.Addr().(*net.TCPAddr).Port)
}

// lines is a log that several goroutines write.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
