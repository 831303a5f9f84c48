package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// session refuses recipients by their names: no for good, later for now.
type session struct{ got chan<- string }

func (s *session) Mail(context.Context, proto.Address, proto.Params) error { return nil }

func (s *session) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	switch to.Local {
	case "no":
		return proto.Refuse(550, proto.Status{}, "no")
	case "later":
		return proto.Refuse(450, proto.Status{}, "later")
	}
	return nil
}

func (s *session) Data(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		s.got <- string(text)
	}
	return err
}

// A world has one mail exchanger, and domains with every policy for it.
type world struct {
	args []string // -resolver, -port
	host string   // the address and port of the mail exchanger
	ca   string   // a file with its certificate
	got  <-chan string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cert, _, err := prototest.NewCertificate("mx.example")
	if err != nil {
		t.Fatal(err)
	}
	messages := make(chan string, 100)
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &session{messages}, nil
	}), &server.Options{
		Hostname: "mx.example", TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	names := dnstest.New(fmt.Sprintf(`
		plain.example.            MX    10 mx.example.
		other.example.            MX    10 mx.example.
		mx.example.               A     127.0.0.1
		tested.example.           MX    10 mx.example.
		strict.example.           MX    10 mx.example.
		_mta-sts.strict.example.  TXT   "v=STSv1; id=1;"
		null.example.             MX    0 .
		lame.example.             MX    SERVFAIL
		dane.example.             MX    10 mx.dane.example.
		mx.dane.example.          A     127.0.0.1
		_%[1]s._tcp.mx.dane.example.   TLSA  3 0 1 %[2]x
		wrong.example.            MX    10 mx.wrong.example.
		mx.wrong.example.         A     127.0.0.1
		_%[1]s._tcp.mx.wrong.example.  TLSA  3 0 1 %[3]x
		bogus.example.            MX    10 mx.bogus.example.
		mx.bogus.example.         A     127.0.0.1
		_%[1]s._tcp.mx.bogus.example.  TLSA  BOGUS
	`, port, sha256.Sum256(cert.Certificate[0]), sha256.Sum256([]byte("another"))))
	names.Secure("dane.example", "wrong.example", "bogus.example")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	return &world{
		args: []string{"-resolver", names.Serve(t), "-port", port, "-helo", "client.example", "-from", "a@b.example"},
		host: "[127.0.0.1]:" + port, ca: file(t, string(block)), got: messages,
	}
}

// direct runs the program as the command line would.
func direct(t *testing.T, args ...string) (status int, out string) {
	t.Helper()
	c, err := parseFlags(args)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	c.out = &b
	status = c.run(t.Context())
	return status, b.String()
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "m.eml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// logged returns what is logged until the test ends.
func logged(t *testing.T) *strings.Builder {
	var b strings.Builder
	log.SetOutput(&b)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	return &b
}

func TestStatus(t *testing.T) {
	logged(t)
	w := newWorld(t)
	plain := file(t, "Subject: x\n\nhi\n")
	cache := t.TempDir()
	store, err := mtasts.DirStore(cache, 0)
	if err != nil {
		t.Fatal(err)
	}
	for domain, host := range map[string]string{"strict.example": "mx.example", "tested.example": "not.example"} {
		policy, err := mtasts.Parse([]byte("version: STSv1\nmode: enforce\nmx: " + host + "\nmax_age: 86400\n"))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		e := &mtasts.Entry{Domain: domain, ID: "1", Policy: policy, Fetched: now, Used: now}
		if err := store.Save(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	_, closed, err := net.SplitHostPort(nobody.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args string
		want int
		out  string
	}{
		"no policy":      {"-to c@plain.example", 0, "c@plain.example: mx.example " + w.host + ", TLS 1.3, policy none: 250 "},
		"DANE":           {"-to c@dane.example", 0, "c@dane.example: mx.dane.example " + w.host + ", TLS 1.3, policy DANE: 250 "},
		"wrong TLSA":     {"-to c@wrong.example", 77, "c@wrong.example: 4.7."},
		"bogus TLSA":     {"-to c@bogus.example", 75, "c@bogus.example: 4."},
		"STS":            {"-to c@strict.example -ca " + w.ca + " -sts-cache " + cache, 0, ", TLS 1.3, policy STS: 250 "},
		"STS, no roots":  {"-to c@strict.example -sts-cache " + cache, 77, "c@strict.example: 4.7."},
		"STS, other MX":  {"-to c@tested.example -ca " + w.ca + " -sts-cache " + cache, 77, "c@tested.example: 4.7."},
		"required":       {"-to c@plain.example -tls required -ca " + w.ca, 0, ", TLS 1.3, policy local: 250 "},
		"required, not":  {"-to c@plain.example -tls required", 77, "c@plain.example: 4.7."},
		"REQUIRETLS":     {"-to c@plain.example -requiretls", 77, "c@plain.example: 5.7.30 "},
		"null MX":        {"-to c@null.example", 69, "c@null.example: 5.1.10 "},
		"lame":           {"-to c@lame.example", 75, "c@lame.example: 4.4.3 "},
		"no such domain": {"-to c@nosuch.example", 69, "c@nosuch.example: 5.1.2 "},
		"refused":        {"-to no@plain.example", 69, ", TLS 1.3, policy none: 550 "},
		"later":          {"-to later@plain.example", 75, ", TLS 1.3, policy none: 450 "},
		"later or never": {"-to later@plain.example -to c@null.example", 75, ""},
		"never or later": {"-to c@null.example -to later@plain.example", 75, ""},
		"never, unsafe":  {"-requiretls -to c@plain.example -to c@null.example", 69, "c@plain.example: 5.7.30 "},
		"never":          {"-to no@plain.example -to c@null.example", 69, ""},
		"bad address":    {"-to c@plain.example>", 65, ""},
		"some":           {"-to no@plain.example -to c@other.example", 1, "c@other.example: mx.example "},
		"nobody there":   {"-to c@plain.example -port " + closed, 75, "c@plain.example: "},
		"no such file":   {"-to c@plain.example", 66, ""},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string(nil), w.args...), strings.Fields(c.args)...)
			message := plain
			if c.want == exitNoInput {
				message += ".missing"
			}
			status, out := direct(t, append(args, message)...)
			if status != c.want || !strings.Contains(out, c.out) {
				t.Errorf("status %d, want %d; %q in output %q", status, c.want, c.out, out)
			}
		})
	}
}

// TestContent gives two domains what can be read once.
func TestContent(t *testing.T) {
	w := newWorld(t)
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin := os.Stdin
	os.Stdin = r
	t.Cleanup(func() { os.Stdin = stdin })
	if _, err := pipe.WriteString(".dot\nno end"); err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	status, out := direct(t, append(w.args, "-to", "c@plain.example", "-to", "c@dane.example", "-")...)
	if status != 0 || strings.Count(out, ": 250 ") != 2 || len(w.got) != 2 {
		t.Fatalf("status %d, output %q, and %d messages", status, out, len(w.got))
	}
	for range 2 {
		if text := <-w.got; text != ".dot\r\nno end" {
			t.Errorf("the server got %q", text)
		}
	}
}

// TestVerbose finds the routes, the attempts and the dialogue on standard error.
func TestVerbose(t *testing.T) {
	w := newWorld(t)
	text := logged(t)
	status, _ := direct(t, append(w.args, "-v", "-trace", "-to", "c@plain.example", "-to", "c@null.example", file(t, "x"))...)
	if status != exitSome {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{
		"-- plain.example: 10 mx.example [127.0.0.1]\n",
		"-- plain.example: mx.example " + w.host + ", TLS 1.3, policy none: accepted\n",
		"-- null.example: ", " C: STARTTLS\n", " C: RCPT TO:<c@plain.example>", " S: 250 ", " octets of content\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestVisible makes text of a stranger safe for a terminal.
func TestVisible(t *testing.T) {
	if got := visible("a\x1b[2J\u009bb\nc\u00fc"); got != "a?[2J?b / c\u00fc" {
		t.Errorf("%q", got)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"", "-to a@b", "m", "-to a@b -tls maybe m", "-to a@b -port 0 m", "-to a@b -port 65536 m",
		"-to a@b m n", "-to a@b -ca /nonexistent m"} {
		if _, err := parseFlags(strings.Fields(args)); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	logged(t)
	plain := file(t, "x")
	for _, args := range []string{"-resolver not-an-address", "-sts-cache " + plain, "-resolver 127.0.0.1:1 -helo not..a.name"} {
		if status, _ := direct(t, append(strings.Fields(args), "-to", "a@b.example", plain)...); status != exitUsage {
			t.Errorf("%q: status %d", args, status)
		}
	}
}
