package server_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A wire is a client's end of a connection that can begin TLS.
type wire struct {
	t    *testing.T
	nc   net.Conn
	done chan error
}

func dialWire(t *testing.T, s *server.Server) *wire {
	t.Helper()
	here, there := net.Pipe()
	w := &wire{t: t, nc: here, done: make(chan error, 1)}
	go func() { w.done <- s.ServeConn(context.Background(), there) }()
	t.Cleanup(func() { w.nc.Close() })
	return w
}

// ask sends text and checks that the reply begins with want. It reads no more than the reply.
func (w *wire) ask(text, want string) {
	w.t.Helper()
	if text != "" { // a write of nothing to a pipe waits for a read
		if _, err := io.WriteString(w.nc, text); err != nil {
			w.t.Fatal(err)
		}
	}
	var got, line []byte
	for len(line) < 4 || line[3] == '-' {
		line = nil
		for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b...) {
			if _, err := w.nc.Read(b); err != nil {
				w.t.Fatalf("the server says %q to %q, then %v", got, text, err)
			}
		}
		got = append(got, line...)
	}
	if !strings.HasPrefix(string(got), want) {
		w.t.Fatalf("the server says %q to %q, want %q", got, text, want)
	}
}

// startTLS goes on inside TLS.
func (w *wire) startTLS(config *tls.Config) *peer {
	w.t.Helper()
	w.ask("STARTTLS\r\n", "220 ")
	tc := tls.Client(w.nc, config)
	if err := tc.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	p := newPeer(w.t, tc)
	p.done = w.done
	return p
}

func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

// TestO03_StartTLS: what was said in clear is forgotten (RFC 3207 section 4.2).
func TestO03_StartTLS(t *testing.T) {
	config, trust := tlsPair(t)
	st := &store{}
	var conn *server.Conn
	st.newSession = func(_ context.Context, c *server.Conn) error {
		conn = c
		return nil
	}
	srv := newServer(t, authStore{st}, server.Options{TLSConfig: config})
	w := dialWire(t, srv)
	w.ask("", "220 ")
	w.ask("EHLO before\r\n", "250-")
	if conn.TLS() != nil || conn.Hello() != "before" {
		t.Errorf("TLS is %v and Hello %q before STARTTLS", conn.TLS(), conn.Hello())
	}
	p := w.startTLS(trust)
	p.ask("MAIL FROM:<a@b.example>", "503 5.5.1")
	if got, want := st.calls(), "new, close, new"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
	if conn.TLS() == nil || conn.Hello() != "" || conn.Extended() {
		t.Errorf("TLS is %v and Hello %q after STARTTLS", conn.TLS(), conn.Hello())
	}
	p.send("EHLO after\r\n")
	if got := p.reply(); strings.Contains(got, "STARTTLS") || !strings.Contains(got, "AUTH PLAIN") {
		t.Errorf("the server says %q inside TLS", got)
	}
	p.ask("STARTTLS", "503 ", plain("alice", "wrong"), "535 ", plain("alice", "secret"), "235 ")
	if conn.Identity() != "alice" {
		t.Errorf("Identity is %q", conn.Identity())
	}
	p.begin()
	p.ask("DATA", "354 ", strings.Repeat("12345678\r\n", 100_000)+".", "250 ")
	p.quit()
	if got := st.messages(); len(got) != 1 || len(got[0]) != 1_000_000 {
		t.Errorf("got %d messages, want one of 1,000,000 octets", len(got))
	}
}

// TestO04_StartTLSInjection: what stands behind STARTTLS is part of the handshake, which it breaks, and nothing follows
// in clear (CVE-2011-0411).
func TestO04_StartTLSInjection(t *testing.T) {
	config, _ := tlsPair(t)
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{TLSConfig: config}))
	p.hello()
	p.send("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@b.example>\r\n")
	p.expect("220 ")
	for got := p.reply(); got != ""; got = p.reply() {
		if strings.Contains(got, "250") || strings.Contains(got, "50") {
			t.Errorf("the server says %q after a broken handshake", got)
		}
	}
	if err := <-p.done; err == nil {
		t.Error("ServeConn returned nil")
	}
	if got := st.calls(); got != "new, close" {
		t.Errorf("called %s", got)
	}
}

func TestO21_ALPN(t *testing.T) {
	config, trust := tlsPair(t)
	srv := newServer(t, &store{}, server.Options{TLSConfig: config})
	addr, served := listen(t, srv.ServeTLS)
	for proto, fine := range map[string]bool{"smtp": true, "h2": false, "": true} {
		c := trust.Clone()
		if proto != "" {
			c.NextProtos = []string{proto}
		}
		nc, err := tls.Dial("tcp", addr, c)
		if (err == nil) != fine {
			t.Errorf("a client that speaks %q gets %v", proto, err)
		}
		if err == nil {
			p := newPeer(t, nc)
			p.expect("220 ")
			p.quit()
		}
	}
	_ = srv.Shutdown(t.Context())
	<-served
}

// TestO05_RequireTLS: 530 is the reply to commands in clear, but for those of RFC 3207 section 4, and for RSET, to which
// RFC 5321 section 4.1.1.5 permits no other than 250.
func TestO05_RequireTLS(t *testing.T) {
	config, trust := tlsPair(t)
	srv := newServer(t, &store{}, server.Options{TLSConfig: config, RequireTLS: true})
	w := dialWire(t, srv)
	w.ask("", "220 ")
	w.ask("MAIL FROM:<a@b.example>\r\n", "503 ") // the sequence comes first
	w.ask("EHLO x\r\n", "250-")
	w.ask("MAIL FROM:<a@b.example>\r\n", "530 5.7.0")
	w.ask("VRFY x\r\n", "530 5.7.0")
	w.ask("HELP\r\n", "530 5.7.0")
	w.ask("AUTH PLAIN\r\n", "530 5.7.0")
	w.ask("HELO x\r\n", "530 ")
	w.ask("NOOP\r\n", "250 ")
	w.ask("RSET\r\n", "250 ")
	p := w.startTLS(trust)
	p.ask("EHLO x", "250-")
	p.begin()
	p.quit()
}

// TestP14_RequireAuth: 530 is the reply but to the commands of RFC 4954 section 6.
func TestP14_RequireAuth(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, authStore{st}, server.Options{RequireAuth: true, AllowInsecureAuth: true}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "530 5.7.0", "VRFY x", "530 5.7.0", "EXPN x", "530 5.7.0", "HELP", "530 5.7.0",
		"NOOP", "250 ", "RSET", "250 ", "HELO client.example", "250 ", "EHLO client.example", "250-",
		plain("alice", "wrong"), "535 5.7.8", plain("alice", "secret"), "235 2.7.0")
	p.begin()
	p.quit()
	if got := st.calls(); strings.Count(got, "mail") != 1 {
		t.Errorf("called %s, want no MAIL before authentication", got)
	}
}

// TestP17_AuthFailures: there are three attempts at least, and not many more.
func TestP17_AuthFailures(t *testing.T) {
	p := dial(t, newServer(t, authStore{&store{}}, server.Options{AllowInsecureAuth: true}))
	p.hello()
	for range 3 {
		p.ask(plain("alice", "wrong"), "535 ")
	}
	p.ask(plain("alice", "wrong"), "421 4.7.0")
	if p.ended() == nil {
		t.Error("ServeConn returned nil")
	}
}

// TestP09_ExchangeLine: 12288 octets of it are taken, and what is longer is refused and skipped (RFC 4954 section 4).
func TestP09_ExchangeLine(t *testing.T) {
	p := dial(t, newServer(t, authStore{&store{}}, server.Options{AllowInsecureAuth: true}))
	p.hello()
	p.ask("AUTH PLAIN", "334 ", strings.Repeat("A", 12288), "5",
		"AUTH PLAIN", "334 ", strings.Repeat("A", 12292), "500 5.5.6",
		"AUTH PLAIN "+strings.Repeat("A", 12288), "535 ",
		"AUTH PLAIN "+strings.Repeat("A", 13000), "500 ",
		"AUTH PLAIN", "334 ", "*", "501 ", "NOOP", "250 ")
	p.quit()
}

func TestExchangeLost(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, authStore{st}, server.Options{AllowInsecureAuth: true}))
	p.hello()
	p.ask("AUTH LOGIN", "334 ", base64.StdEncoding.EncodeToString([]byte("alice")), "334 ")
	p.nc.Close()
	<-p.done
	if got := st.calls(); strings.Contains(got, "authenticate") {
		t.Errorf("called %s, want no check of half an answer", got)
	}
}

// TestO07_RefusedAfterStartTLS: a session that the backend refuses then has no greeting to say so (RFC 3207 section 4.1).
func TestO07_RefusedAfterStartTLS(t *testing.T) {
	config, trust := tlsPair(t)
	for _, c := range []struct {
		err  error
		want string
	}{
		{&proto.Error{Code: 554, Status: proto.Status{5, 7, 0}, Text: "cipher too weak"}, "554 "},
		{errors.New("secret"), "421 "},
	} {
		st := &store{newSession: func(_ context.Context, conn *server.Conn) error {
			if conn.TLS() != nil {
				return c.err
			}
			return nil
		}}
		w := dialWire(t, newServer(t, st, server.Options{TLSConfig: config}))
		w.ask("", "220 ")
		w.ask("EHLO x\r\n", "250-")
		p := w.startTLS(trust)
		if c.want == "421 " {
			p.ask("EHLO x", c.want)
			<-p.done
			continue
		}
		p.ask("EHLO x", c.want, "NOOP", c.want, "MAIL FROM:<a@b.example>", c.want, "RSET", c.want, "FOO", c.want)
		p.quit()
	}
}

// TestOwnCertificates: a session learns which certificate the client was shown, however the handshake came about.
func TestOwnCertificates(t *testing.T) {
	config, trust := tlsPair(t)
	cert := config.Certificates[0]
	made := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
	told := make(chan string, 3)
	st := &store{newSession: func(_ context.Context, c *server.Conn) error {
		var raw string
		for _, own := range c.OwnCertificates() {
			raw += string(own.Raw)
		}
		told <- raw
		return nil
	}}
	srv := newServer(t, st, server.Options{TLSConfig: made})
	addr, served := listen(t, srv.ServeTLS)
	nc, err := tls.Dial("tcp", addr, trust)
	if err != nil {
		t.Fatal(err)
	}
	implicit := newPeer(t, nc)
	implicit.expect("220 ")
	implicit.quit()

	w := dialWire(t, srv)
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	p := w.startTLS(trust)
	p.ask("EHLO x", "250-")
	p.quit()
	want := string(cert.Certificate[0])
	for i, want := range []string{want, "", want} {
		if got := <-told; got != want {
			t.Errorf("session %d learns %x, want %x", i, got, want)
		}
	}

	// A client that names no host is shown the first one that it can use.
	other, _ := tlsPair(t)
	for name, config := range map[string]*tls.Config{
		"GetCertificate": made, "several": {Certificates: []tls.Certificate{cert, other.Certificates[0]}},
	} {
		w := dialWire(t, newServer(t, st, server.Options{TLSConfig: config}))
		w.ask("", "220 ")
		<-told
		w.ask("EHLO x\r\n", "250-")
		w.startTLS(&tls.Config{InsecureSkipVerify: true}).ask("EHLO x", "250-")
		if got := <-told; got != want {
			t.Errorf("%s: a session whose client names no host learns %x, want %x", name, got, want)
		}
	}

	failing := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("the disk is on fire") }
	none := newServer(t, st, server.Options{TLSConfig: &tls.Config{GetCertificate: failing}})
	w = dialWire(t, none)
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	w.ask("STARTTLS\r\n", "220 ")
	if err := tls.Client(w.nc, trust).Handshake(); err == nil {
		t.Error("a server without a certificate made a handshake")
	}
	_ = srv.Shutdown(t.Context())
	<-served
}
