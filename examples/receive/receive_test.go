package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestReceive sends messages to the drop over TLS and looks at what is on disk.
func TestReceive(t *testing.T) {
	dir := t.TempDir()
	cert, roots, err := prototest.NewCertificate("localhost")
	if err != nil {
		t.Fatal(err)
	}
	drop, err := openDrop(dir)
	if err != nil {
		t.Fatal(err)
	}
	no, err := proto.ParseAddress("no@d.example")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(&backend{drop: drop, users: map[string]string{"alice": "secret"}, reject: []proto.Address{no}},
		&server.Options{
			Hostname: "localhost", RequireAuth: true, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
			Logger: slog.New(slog.DiscardHandler),
		})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	c, err := client.Dial(t.Context(), l.Addr().String(), &client.Options{
		TLSConfig:   &tls.Config{RootCAs: roots, ServerName: "localhost"},
		Credentials: auth.Password("alice", "secret"),
		Hostname:    "client.example",
	})
	if err != nil {
		t.Fatal(err)
	}
	const text = "Subject: x\r\n\r\n.dot\r\n..\r\n\r\n\xe9\r\nend"
	m, err := client.NewMessage("a@b.example", []string{"c@d.example", "NO@D.example", "no@D.example"}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Send(t.Context(), m)
	if err == nil || res.Recipients[0].Err != nil || res.Recipients[1].Err != nil || res.Recipients[2].Reply.Code != 550 {
		t.Errorf("%+v, %v: want the third recipient refused, and NO is somebody else", res, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, server.ErrServerClosed) {
		t.Error(err)
	}

	got, err := os.ReadFile(filepath.Join(dir, "000001.eml"))
	if err != nil || string(got) != text {
		t.Errorf("on disk is %q, %v", got, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "000001.json"))
	if err != nil {
		t.Fatal(err)
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	if e.From != "a@b.example" || strings.Join(e.To, " ") != "c@d.example NO@D.example" || e.Auth != "alice" || e.TLS == nil ||
		e.TLS.Version != "TLS 1.3" || e.Hello != "client.example" || e.Params["BODY"] != "8BITMIME" || e.Size != int64(len(text)) {
		t.Errorf("the envelope is %s", data)
	}
}

// TestNumbers has a message that does not come to its end, of which nothing is left, and two processes with one
// directory.
func TestNumbers(t *testing.T) {
	dir := t.TempDir()
	d, err := openDrop(dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := d.put(broken, &envelope{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if name, err := d.put(strings.NewReader("whole"), &envelope{}); err != nil || name != "000001" {
		t.Errorf("the next one is %q, %v", name, err)
	}
	other, err := openDrop(dir)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := other.put(strings.NewReader("another"), &envelope{}); err != nil || name != "000002" {
		t.Errorf("after a restart the next one is %q, %v", name, err)
	}
	// The first one does not know about that.
	if name, err := d.put(strings.NewReader("third"), &envelope{}); err != nil || name != "000003" {
		t.Errorf("beside another process the next one is %q, %v", name, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "000002.eml")); err != nil || string(got) != "another" {
		t.Errorf("the message of the other process is %q, %v", got, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 6 {
		t.Errorf("the directory has %v, %v: want three messages with envelopes", entries, err)
	}
}
