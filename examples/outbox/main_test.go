package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server/servertest"
)

// TestMain fails if anything is left running.
func TestMain(m *testing.M) { prototest.Main(m) }

const text = "From: alice@example.org\r\nTo: bob@example.net\r\nSubject: hello\r\n\r\nHow are you?\r\n"

// input has the program read text.
func input(t *testing.T, text string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = f
	t.Cleanup(func() {
		os.Stdin = before
		f.Close()
	})
}

// TestOutbox queues a message while the server is not there, and delivers it by a second run.
func TestOutbox(t *testing.T) {
	srv := servertest.NewServer(t, nil)
	dir := t.TempDir()
	input(t, text)
	ctx, cancel := context.WithCancel(t.Context())
	t.Setenv("MAIL_URL", "smtp://"+hangsUp(t, cancel)+"?tls=none")
	if err := run(ctx, dir, "app.example.org", "alice@example.org", "bob@example.net,carol@example.net"); err != nil {
		t.Fatal(err)
	}
	if n := len(srv.Inbox.All()); n != 0 {
		t.Fatalf("%d messages have come already", n)
	}
	retry(t, dir)
	t.Setenv("MAIL_URL", "smtp://"+srv.Addr+"?tls=none")
	if err := run(t.Context(), dir, "app.example.org", "", ""); err != nil {
		t.Fatal(err)
	}
	m := srv.Inbox.Wait(servertest.To("bob@example.net"))
	if got := string(m.Raw); got != text || len(m.To) != 2 {
		t.Errorf("%v got %q", m.To, got)
	}
	if err := run(t.Context(), dir, "app.example.org", "", ""); err != nil || len(srv.Inbox.All()) != 1 {
		t.Errorf("a third run: %v, %d messages", err, len(srv.Inbox.All()))
	}
}

// hangsUp returns the address of a server that hangs up on its client, and calls f.
func hangsUp(t *testing.T, f func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
			f()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// retry makes the message due, as if minutes had passed.
func retry(t *testing.T, dir string) {
	t.Helper()
	store, err := queue.OpenDir(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	n, err := store.Edit(t.Context(), queue.Filter{}, queue.Edit{Op: queue.Retry, At: time.Now()})
	if n != 1 || err != nil {
		t.Fatal(n, err)
	}
}

// TestMistakes gives the program what it cannot use.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ url, from, to, want string }{
		{"", "", "", "begin with smtp://"},
		{"smtp://127.0.0.1:1?tls=none", "alice", "bob@example.net", "alice"},
	} {
		t.Setenv("MAIL_URL", tt.url)
		input(t, text)
		err := run(t.Context(), t.TempDir(), "app.example.org", tt.from, tt.to)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v", tt.url, err)
		}
	}
}
