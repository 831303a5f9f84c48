package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server/servertest"
)

// TestMain fails if anything is left running. In the kill test it runs the program itself.
func TestMain(m *testing.M) { prototest.Main(m) }

// A running is an instance of the program in this process.
type running struct {
	*mta
	t    *testing.T
	log  *lines
	stop func()
}

// start starts an instance on ports of its own. The later flags win.
func start(t *testing.T, set func(*config), args ...string) *running {
	t.Helper()
	args = append([]string{
		"-dir", t.TempDir(), "-mx-addr", "127.0.0.1:0", "-submission-addr", "127.0.0.1:0", "-submissions-addr", "127.0.0.1:0",
		"-odmr-addr", "127.0.0.1:0", "-retry", "10m",
	}, args...)
	c, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	if set != nil {
		set(c)
	}
	r := &running{t: t, log: newLines()}
	if r.mta, err = open(c, slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// addr returns the address of a port: 0 is for strangers, 1 for submission, 2 the same over TLS, 3 for ATRN.
func (r *running) addr(n int) string { return r.ports[n].Addr().String() }

// talk connects to a port and plays lines "command > beginning of the reply".
func (r *running) talk(n int, lines ...string) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr(n))
	if err != nil {
		r.t.Fatal(err)
	}
	p := prototest.NewPeer(r.t, conn)
	p.Expect("220 ")
	p.Ask("EHLO client.example", "250-")
	for _, line := range lines {
		send, want, _ := strings.Cut(line, " > ")
		p.Ask(send, want)
	}
	p.Ask("QUIT", "221 ")
}

// submit sends a message as a user of the instance, and returns the error.
func (r *running) submit(name, password, from, to, text string, change ...func(*client.Message)) error {
	r.t.Helper()
	m, err := client.NewMessage(from, strings.Fields(to), strings.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range change {
		f(m)
	}
	return client.Send(r.t.Context(), r.addr(1), &client.Options{
		TLSConfig: &tls.Config{InsecureSkipVerify: true}, AllowUnverifiedAuth: true,
		Credentials: auth.Password(name, password),
		Extensions:  ehlo.Submission(ehlo.SubmissionPolicy{}),
	}, m)
}

// box returns the messages of a Maildir.
func (r *running) box(address string) (all []string) {
	r.t.Helper()
	user, at, _ := strings.Cut(address, "@")
	names, err := filepath.Glob(filepath.Join(r.config.maildir, at, user, "new/*"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

// pair starts two instances, with and a network in which the addresses of their mail exchangers stand for theirs.
func pair(t *testing.T) (a, b *running) {
	t.Helper()
	names := dnstest.New(`
		a.example     MX  10 mx.a.example
		mx.a.example  A   192.0.2.1
		b.example     MX  10 mx.b.example
		mx.b.example  A   192.0.2.2
		null.example  MX  0 .
	`)
	var mu sync.Mutex
	at := map[string]string{}
	set := func(c *config) {
		c.client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			to, ok := at[addr]
			mu.Unlock()
			if !ok {
				return nil, fmt.Errorf("there is nobody at %s", addr)
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}
	}
	resolver := names.Serve(t)
	a = start(t, set, "-hostname", "mx.a.example", "-domain", "a.example", "-user", "alice:secret", "-resolver", resolver,
		"-alias", "info=alice", "-alias", "away=bob@b.example", "-alias", "copy=copy@b.example", "-alias", "copy=alice")
	b = start(t, set, "-hostname", "mx.b.example", "-domain", "b.example", "-user", "bob:secret", "-resolver", resolver,
		"-alias", "copy=copy@a.example", "-queue", "dir")
	mu.Lock()
	defer mu.Unlock()
	at["192.0.2.1:25"], at["192.0.2.2:25"] = a.addr(0), b.addr(0)
	return a, b
}

const letter = "From: Alice <alice@a.example>\r\nTo: bob@b.example\r\nSubject: Hello\r\n\r\nHow are you?\r\n"

// TestTwo has two instances deliver to each other: a message, the answer, and one that comes back.
func TestTwo(t *testing.T) {
	a, b := pair(t)
	if err := a.submit("alice", "secret", "alice@a.example", "bob@b.example", letter); err != nil {
		t.Fatal(err)
	}
	b.log.wait(t, 1, `msg="smtp: delivered" .*to=<bob@b.example>`)
	const want = `^Return-Path: <alice@a\.example>\nDelivered-To: bob@b\.example\n` +
		`Received: from mx\.a\.example \(.*\) by mx\.b\.example\n? with ESMTPS(.*\n[ \t])*.*\n` +
		`Received: from .* by mx\.a\.example(.*\n[ \t])* with ESMTPSA(.*\n[ \t])*.*\n` +
		`From: Alice <alice@a\.example>\n(.*\n)*Message-ID: (.*\n)*\nHow are you\?\n$`
	got := b.box("bob@b.example")
	if len(got) != 1 || !regexp.MustCompile(want).MatchString(got[0]) {
		t.Errorf("bob has %q", got)
	}
	if err := b.submit("bob", "secret", "bob@b.example", "info@a.example", letter); err != nil {
		t.Fatal(err)
	}
	a.log.wait(t, 1, `msg="smtp: delivered" .*to=<alice@a.example>`)

	// Mail that nobody takes comes back, and says why.
	err := a.submit("alice", "secret", "alice@a.example", "nobody@b.example x@null.example", letter)
	if err != nil {
		t.Fatal(err)
	}
	a.log.wait(t, 3, `msg="smtp: delivered" .*to=<alice@a.example>`)
	failed := map[string]string{}
	for _, text := range a.box("alice@a.example") {
		n, err := report.Parse(strings.NewReader(text))
		if err != nil {
			continue
		}
		for _, r := range n.Recipients {
			failed[r.Final.String()] = fmt.Sprint(r.Action, " ", r.Status)
		}
	}
	if len(failed) != 2 || failed["rfc822;nobody@b.example"] != "failed 5.1.1" ||
		failed["rfc822;x@null.example"] != "failed 5.1.10" {
		t.Errorf("the reports have %v", failed)
	}
}

const (
	from = "MAIL FROM:<carol@client.example> > 250 "
	data = "DATA > 354 "
	text = "Subject: x\r\n\r\nHello\r\n. > 250 2.0.0 Queued as "
)

// TestStrangers says what port 25 takes, and what not.
func TestStrangers(t *testing.T) {
	a, _ := pair(t)
	a.talk(0, from, "RCPT TO:<x@elsewhere.example> > 550 5.7.1 ", "RCPT TO:<nobody@a.example> > 550 5.1.1 ",
		"RCPT TO:<alice%elsewhere.example@a.example> > 550 5.7.1 ", "DATA > 503 ")
	a.talk(0, "MAIL FROM:<> > 250 ", "RCPT TO:<Alice@A.example> > 250 ", data, text)
	a.log.wait(t, 1, `msg="smtp: delivered" .*to=<Alice@A.example>`)
	a.talk(0, from, "RCPT TO:<Postmaster> > 250 ", "RCPT TO:<postmaster@a.example> > 250 ", data, text)
	a.log.wait(t, 1, `msg="smtp: delivered" .*to=<alice@a.example>`)
	if got := a.box("alice@a.example"); len(got) != 2 {
		t.Errorf("alice has %q", got)
	}
	a.talk(0, "AUTH PLAIN AGFsaWNlAHNlY3JldA== > 50", "MAIL FROM:<x@a.example> HOLDFOR=60 > 555 ",
		"MAIL FROM:<x@client.example> MT-PRIORITY=4 > 250 2.3.6 0 ")
}

// TestStop says that a client which waits is told of the end, and one at work may finish.
func TestStop(t *testing.T) {
	a, _ := pair(t)
	dial := func() *prototest.Peer {
		conn, err := net.Dial("tcp", a.addr(0))
		if err != nil {
			t.Fatal(err)
		}
		p := prototest.NewPeer(t, conn)
		p.Expect("220 ")
		p.Ask("EHLO client.example", "250-")
		return p
	}
	idle, busy := dial(), dial()
	busy.Ask("MAIL FROM:<x@client.example>", "250 ", "RCPT TO:<alice@a.example>", "250 ", "DATA", "354 ")
	go a.stop()
	idle.Expect("421 ")
	busy.Ask("Subject: x\r\n\r\nHello\r\n.", "250 ")
	busy.Expect("421 ")
	a.stop()
	if got := a.box("alice@a.example"); len(got) > 1 {
		t.Errorf("alice has %q", got)
	}
}

// TestHung has a server that does not answer when the program ends: the attempt is broken off, and the mail kept.
func TestHung(t *testing.T) {
	deaf := peer(t, servertest.Options{})
	stalled := deaf.Stall("MAIL")
	dir := t.TempDir()
	a := start(t, func(c *config) { c.grace = 100 * time.Millisecond }, "-dir", dir, "-hostname", "mx.a.example",
		"-domain", "a.example", "-user", "alice:secret", "-route", "deaf.example="+deaf.Addr)
	if err := a.submit("alice", "secret", "alice@a.example", "x@deaf.example", letter); err != nil {
		t.Fatal(err)
	}
	for stalled.Hits() == 0 {
		runtime.Gosched()
	}
	a.stop()
	a.log.wait(t, 1, `msg="broken off" what="attempts to deliver"`)
	if left := stored(t, []string{"-dir", dir}); len(left) != 1 {
		t.Errorf("the queue has %v", left)
	}
}

// TestRestart says that mail which waits is there after the program was started again, and is delivered then.
func TestRestart(t *testing.T) {
	away := peer(t, servertest.Options{})
	flags := []string{"-dir", t.TempDir(), "-hostname", "mx.a.example", "-domain", "a.example", "-user", "alice:secret",
		"-route", "away.example=" + away.Addr}
	a := start(t, nil, flags...)
	away.Fail("MAIL", 451).Times(1)
	if err := a.submit("alice", "secret", "alice@a.example", "x@away.example", letter); err != nil {
		t.Fatal(err)
	}
	a.log.wait(t, 1, `msg="smtp: not delivered by this attempt" .*x@away.example`)
	a.stop()
	a = start(t, nil, flags...)
	a.talk(0, "ETRN away.example > 253 ")
	if m := away.Inbox.Wait(); len(m.To) != 1 || m.To[0].Address.String() != "x@away.example" {
		t.Errorf("it sends %v", m)
	}
}

// TestReadme says that the flags in README.md, and those of the documentation of the program, are flags of the program.
func TestReadme(t *testing.T) {
	n := 0
	for _, file := range []string{"../../README.md", "main.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		joined := regexp.MustCompile(`\\\n(//)?\s+`).ReplaceAllString(string(text), " ")
		command := regexp.MustCompile(`(?m)^(?://\s+)?(?:go run \.|mta) (-hostname .*)$`)
		for _, m := range command.FindAllStringSubmatch(joined, -1) {
			n++
			words := regexp.MustCompile(` -dkim \S+`).ReplaceAllString(m[1], "") // whose file is not there
			if _, err := parse(strings.Fields(words)); err != nil {
				t.Errorf("%s: %v", m[1], err)
			}
		}
	}
	if n != 4 {
		t.Errorf("%d commands", n)
	}
}
