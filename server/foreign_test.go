package server_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/server"
)

// TestC27_Foreign: a client of another protocol gets one reply with nothing of its own in it, is logged once, and the
// connection ends.
func TestC27_Foreign(t *testing.T) {
	const evil = "evil.example"
	for _, c := range []struct{ name, say, reply, logged string }{
		{"SSH", "SSH-2.0-" + evil + "\r\n\x00\x00\x05\xdc\x0a\x14", "500 5.5.2 SSH ", "SSH where a command was expected"},
		{"SSH with LF", "SSH-1.99-" + evil + "\n", "500 5.5.2 SSH ", "SSH where a command was expected"},
		{"HTTP", "GET /" + evil + " HTTP/1.1\r\nHost: " + evil + "\r\n\r\n",
			"421 4.7.0 This is not a web server", "This is not a web server"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "421 4.7.0 This is not a web server", "This is not a web server"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + evil + "\r\n",
			"500 5.5.2 TLS ", "TLS handshake where a command was expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			s := newServer(t, &store{}, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			p := dial(t, s)
			p.expect("220 ")
			p.send(c.say)
			if got := p.reply(); !strings.HasPrefix(got, c.reply) || strings.Contains(got, evil) {
				t.Errorf("the server says %q, want %q", got, c.reply)
			}
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, c.logged) ||
				!strings.Contains(got, "level=INFO") || strings.Contains(got, evil) {
				t.Errorf("the log is %q, want one line with %q", got, c.logged)
			}
		})
	}
}

// TestC27_NotForeign: nothing that a client of SMTP says is taken for another protocol.
func TestC27_NotForeign(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.expect("220 ")
	p.ask("SSH", "500 ", "SS", "500 ", "ssh-2.0", "500 ", "NOOP SSH-2.0", "250 ", "HELO SSH-2.0-x", "250 ")
	p.ask("MAIL FROM:<SSH-2.0@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ",
		"DATA", "354 ", "SSH-2.0\r\nGET / HTTP/1.1\r\n\x16\x03\r\n.", "250 ")
	p.quit()
}

// TestC27_RealTLS: the client of crypto/tls gets an error from a plain port at once.
func TestC27_RealTLS(t *testing.T) {
	s := newServer(t, &store{}, server.Options{})
	addr, served := listen(t, s.Serve)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("the handshake was made")
	}
	_, _ = io.Copy(io.Discard, nc) // until the server closes
	nc.Close()
	_ = s.Shutdown(t.Context())
	<-served
}
