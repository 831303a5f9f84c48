package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/server"
)

// TestSigned: a file arrives with a signature of each key, and the records of the keys are printed.
func TestSigned(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var keys []string
	for _, selector := range []string{"one", "two"} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		path := write(selector, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		keys = append(keys, "-key", "example.org:"+selector+":"+path)
	}
	var out bytes.Buffer
	if err := run(t.Context(), append(keys, "-records"), &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), `._domainkey.example.org. IN TXT ( "v=DKIM1; k=ed25519; p=`); n != 2 {
		t.Errorf("the records are %s", out.String())
	}

	var got string
	address := serve(t, func(_ context.Context, m *server.Message) error {
		p, err := io.ReadAll(m.Body)
		got = string(p)
		return err
	})
	out.Reset()
	file := write("message", []byte("From: alice@example.org\n\nHello\n"))
	args := append(keys, "smtp://"+address+"?tls=none", "alice@example.org", "bob@example.net", file)
	if err := run(t.Context(), args, &out); err != nil || out.String() != "bob@example.net accepted\n" {
		t.Errorf("%v, and it prints %s", err, out.String())
	}
	if strings.Count(got, "DKIM-Signature: ") != 2 || !strings.HasSuffix(got, "From: alice@example.org\r\n\r\nHello\r\n") {
		t.Errorf("the message arrives as %s", got)
	}

	other := write("other", []byte("From: alice@example.net\n\nHello\n"))
	args = append([]string{"-required"}, args...)
	args[len(args)-1] = other
	if err := run(t.Context(), args, &out); err == nil || !strings.Contains(err.Error(), "no key for example.net") {
		t.Errorf("without a key: %v", err)
	}
}

// serve returns the address of a server that runs until the test ends.
func serve(t *testing.T, f server.MessageFunc) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(f, &server.Options{Hostname: "mail.example"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return l.Addr().String()
}
