package server_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// serveSocket calls ListenAndServe with a socket, and returns when somebody can connect.
func serveSocket(t *testing.T, srv *server.Server, path string) (served chan error) {
	t.Helper()
	served = make(chan error, 1)
	go func() { served <- srv.ListenAndServe("unix:" + path) }()
	for {
		nc, err := net.Dial("unix", path)
		if err == nil {
			p := newPeer(t, nc)
			p.expect("220 ")
			p.quit()
			return served
		}
		select {
		case err := <-served:
			t.Fatal(err)
		default:
		}
	}
}

// TestUnixSocket: a server listens on a socket, replaces one that was left behind, and names it in the log.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lmtp.sock")
	// What a program left behind that was killed.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	st := &store{rcpt: refuseAll}
	srv := newServer(t, st, server.Options{Protocol: proto.LMTP, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	served := serveSocket(t, srv, path)
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nc)
	p.expect("220 ")
	p.ask("LHLO x", "250-")
	p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "451 ", "QUIT", "221 ")
	if got := p.reply(); got != "" {
		t.Errorf("the server says %q after QUIT", got)
	}

	// Nobody takes the socket of a server that is there.
	other := newServer(t, &store{}, server.Options{Protocol: proto.LMTP})
	if err := other.ListenAndServe("unix:" + path); err == nil || !strings.HasPrefix(err.Error(), "smtp: listen unix") {
		t.Errorf("a second server: %v", err)
	}
	nc, err = net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the first server lost its socket: %v", err)
	}
	newPeer(t, nc).expect("220 ")

	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != server.ErrServerClosed {
		t.Errorf("ListenAndServe returned %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if want := "remote=unix:" + path + " in=Rcpt"; !strings.Contains(log.String(), want) {
		t.Errorf("the log is %q, want %q in it", &log, want)
	}
}

// TestUnixSocketNot: a file that is no socket stays.
func TestUnixSocketNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := newServer(t, &store{}, server.Options{})
	for _, addr := range []string{path, filepath.Join(path, "below"), ""} {
		if err := srv.ListenAndServe("unix:" + addr); err == nil || !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%q: %v", addr, err)
		}
	}
	if err := srv.ListenAndServe("25"); err == nil || !strings.Contains(err.Error(), `write a port as ":25"`) {
		t.Errorf("a port alone: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "keep" {
		t.Errorf("the file has %q, %v", b, err)
	}
}
