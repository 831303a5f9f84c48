package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto/prototest"
)

// A failing store cannot be written.
type failing struct{ queue.Store }

func (failing) Add(context.Context, *queue.Entry) error { return errors.New("input/output error") }

// TestStoreFails has a store that cannot be written. The message is put off, and when that has lasted for as long as
// it may, clients are told 421, and the program ends with an error that says what to do.
func TestStoreFails(t *testing.T) {
	c, err := parse([]string{"-dir", t.TempDir(), "-domain", "a.example", "-user", "alice:secret", "-mx-addr",
		"127.0.0.1:0",
		"-submission-addr", "", "-submissions-addr", ""})
	if err != nil {
		t.Fatal(err)
	}
	c.outage = 0
	c.open = func(c *config) (queue.Store, error) {
		s, err := openStore(c)
		return failing{s}, err
	}
	log := newLines()
	m, err := open(c, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- m.run(t.Context()) }()
	connect := func() *prototest.Peer {
		conn, err := net.Dial("tcp", m.ports[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		p := prototest.NewPeer(t, conn)
		p.Expect("220 ")
		p.Ask("EHLO client.example", "250-")
		return p
	}
	idle, p := connect(), connect()
	p.Ask("MAIL FROM:<x@client.example>", "250 ", "RCPT TO:<alice@a.example>", "250 ", "DATA", "354 ", "x\r\n.",
		"452 4.3.1 ")
	idle.Expect("421 ")
	p.Expect("421 ")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("it ends with %v", err)
	}
	log.wait(t, 1, `level=ERROR msg="the queue cannot be written: see to its disk, and start the program again"`)
}

// TestOtherQueue changes -queue while there is mail in the queue. The log names the queue that has it.
func TestOtherQueue(t *testing.T) {
	for before, after := range map[string]string{"dir": "sqlite", "sqlite": "dir"} {
		dir := t.TempDir()
		a := start(t, nil, "-dir", dir, "-queue", before, "-domain", "a.example", "-user", "alice:secret",
			"-on-demand", "customer.example=alice")
		if err := a.submit("alice", "secret", "alice@a.example", "x@customer.example y@customer.example",
			"x\r\n"); err != nil {
			t.Fatal(err)
		}
		a.stop()
		b := start(t, nil, "-dir", dir, "-queue", after, "-domain", "a.example")
		path := filepath.Join(dir, kinds[before].file)
		b.log.wait(t, 1, `level=WARN msg="another queue in -dir has mail .*" queue=`+before+":"+path+` messages=1`)
		b.stop()
		again := start(t, nil, "-dir", dir, "-queue", before+":"+path, "-domain", "a.example")
		again.stop()
		again.log.none(t, "another queue")
	}
}

// TestRefusalsAreLogged has a stranger name recipients who are refused by several checks.
func TestRefusalsAreLogged(t *testing.T) {
	a := start(t, nil, "-domain", "a.example", "-user", "alice:secret")
	a.talk(0, "MAIL FROM:<x@client.example> > 250", "RCPT TO:<nobody@a.example> > 550 5.1.1",
		"RCPT TO:<y@elsewhere.example> > 550 5.7.1")
	a.log.wait(t, 1, `level=INFO msg="recipient refused" client=127.0.0.1:\d+ user="" from=x@client.example `+
		`to=nobody@a.example err=".*550`)
	a.log.wait(t, 1, `msg="recipient refused" .* to=y@elsewhere.example err=".*550`)
}

// TestLogWriter writes lines from many goroutines to a slow writer. After Close all of them are there, whole, and those
// of each goroutine in order. Lines after Close are written too.
func TestLogWriter(t *testing.T) {
	r, pipe := io.Pipe()
	text := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	w := newLogWriter(pipe)
	const writers, lines = 8, 2000
	done := make(chan bool)
	for n := range writers {
		go func() {
			for i := range lines {
				_, _ = w.Write([]byte(strings.Repeat(string(rune('a'+n)), 100) + " " + strings.Repeat("x", i%7) + "\n"))
			}
			done <- true
		}()
	}
	for range writers {
		<-done
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("last\n")); err != nil {
		t.Error(err)
	}
	pipe.Close()
	got := strings.Split(<-text, "\n")
	if n := len(got); n != writers*lines+2 || got[n-2] != "last" {
		t.Fatalf("%d lines, of which the last is %q", n, got[max(n-2, 0)])
	}
	next := map[byte]int{}
	for _, line := range got[:writers*lines] {
		n := line[0]
		if want := strings.Repeat(string(n), 100) + " " + strings.Repeat("x", next[n]%7); line != want {
			t.Fatalf("line %q, want %q", line, want)
		}
		next[n]++
	}
}
