package server_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestC22_HTTP: an HTTP request gets one reply, and nothing in it is carried out.
func TestC22_HTTP(t *testing.T) {
	for _, say := range []string{
		"GET / HTTP/1.1\r\nHost: mail.example\r\n\r\nMAIL FROM:<a@b.example>\r\n",
		"POST /x HTTP/1.0\r\n\r\nEHLO x\r\n",
		"CONNECT mail.example:25 HTTP/1.1\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		p := dial(t, newServer(t, &store{}, server.Options{}))
		p.expect("220 ")
		p.send(say)
		p.expect("421 ")
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
	}
}

// TestO05_RequireTLS: 530 is the reply to commands in plaintext, but for those of RFC 3207 section 4, and for RSET, to
// which RFC 5321 section 4.1.1.5 permits no other than 250.
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

// TestP14_RequireAuth: 530 is the reply, except to the commands of RFC 4954 section 6.
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

// A choosy is a session that chooses replies on its connection in calls to which that has no effect, too.
type choosy struct {
	*session
	c *server.Conn
}

func (s choosy) Data(_ context.Context, r io.Reader) error {
	s.c.Accept("kept")
	_, err := io.Copy(io.Discard, r)
	return err
}

func (s choosy) Help(context.Context, string) (string, error) {
	s.c.Accept("of HELP")
	return "help yourself", nil
}

func (s choosy) ResolveURL(context.Context, string) (io.ReadCloser, int64, error) {
	s.c.Accept("of BURL")
	return io.NopCloser(strings.NewReader("fetched\r\n")), 9, nil
}

func (s choosy) Authenticate(context.Context, string, string) error { return nil }

// dialChoosy dials a server with choosy sessions and the extensions, whose conn is given to each.
func dialChoosy(t *testing.T, opt server.Options) *peer {
	t.Helper()
	st := &store{}
	b := server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return choosy{&session{st}, c}, nil
	})
	p := dial(t, newServer(t, b, opt))
	p.hello()
	return p
}

// TestChoiceOfGuard: what is chosen while a Guard looks at a command between chunks is not the reply to the message.
func TestChoiceOfGuard(t *testing.T) {
	guard := ext.Extension{Guard: func(_ context.Context, x ext.ServerConn, v *proto.Verb, _ string) error {
		if v.Name == "NOOP" {
			x.Session().(choosy).c.Accept("of the guard")
		}
		return nil
	}}
	p := dialChoosy(t, server.Options{Extensions: append(ehlo.Default(), guard)})
	p.begin()
	p.chunk("BDAT 3", "a\r\n", "250 2.0.0 3 octets")
	p.ask("NOOP", "250 2.0.0 OK")
	p.chunk("BDAT 3 LAST", "b\r\n", "250 2.0.0 kept")
	p.quit()
}
