package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestAddr checks what Dial makes of addresses.
func TestAddr(t *testing.T) {
	for _, tt := range []struct{ addr, network, dial, host string }{
		{"mail.example.org:25", "tcp", "mail.example.org:25", "mail.example.org"},
		{"[2001:db8::1]:25", "tcp", "[2001:db8::1]:25", "2001:db8::1"},
		{"münchen.example:25", "tcp", "xn--mnchen-3ya.example:25", "xn--mnchen-3ya.example"},
		{"unix:/run/lmtp", "unix", "/run/lmtp", ""},
		{"mail.example.org", "", "", ""},
		{":25", "", "", ""},
		{"mail.example.org:", "", "", ""},
		{"", "", "", ""},
	} {
		network, dial, host, err := target(tt.addr)
		if network != tt.network || dial != tt.dial || host != tt.host || (err == nil) != (tt.network != "") {
			t.Errorf("%q is %q %q of %q, %v", tt.addr, network, dial, host, err)
		}
	}
	for host, want := range map[string]string{"mail.example.": "mail.example", "fe80::1%eth0": "fe80::1", "192.0.2.1": "192.0.2.1"} {
		cfg := &config{}
		if got := cfg.tlsConfig(host); got.ServerName != want || got.MinVersion != tls.VersionTLS12 {
			t.Errorf("for %q: ServerName %q, MinVersion %x", host, got.ServerName, got.MinVersion)
		}
	}
	cfg := &config{Options: Options{TLSConfig: &tls.Config{ServerName: "other.example", MinVersion: tls.VersionTLS13}}}
	if got := cfg.tlsConfig("mail.example"); got.ServerName != "other.example" || got.MinVersion != tls.VersionTLS13 {
		t.Errorf("ServerName %q, MinVersion %x", got.ServerName, got.MinVersion)
	}
	refused := errors.New("no route")
	_, err := Dial(context.Background(), host, &Options{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
	if !errors.Is(err, refused) || !Temporary(err) || !SafeToRetry(err) {
		t.Errorf("a host that cannot be reached: %v", err)
	}
}

// TestUnixSocket delivers by LMTP over a socket in the file system.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lmtp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	srv := clienttest.New(t, `S: 220 mail.example
C: LHLO [127.0.0.1]
S: 250 mail.example
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: x
C: .
S: 250 ok`)
	done := make(chan struct{})
	go func() {
		defer close(done)
		near, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer near.Close()
		far, err := srv.Dial(context.Background(), "", "")
		if err != nil {
			t.Error(err)
			return
		}
		defer far.Close()
		go io.Copy(near, far)
		io.Copy(far, near)
	}()
	err = Send(context.Background(), "unix:"+path, &Options{Hostname: "[127.0.0.1]", Protocol: proto.LMTP, TLS: ext.TLSInsecureNone},
		message("x", "c@d.example"))
	if err != nil {
		t.Error(err)
	}
	<-done
}
