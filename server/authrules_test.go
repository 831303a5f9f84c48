package server_test

import (
	"context"
	"encoding/base64"
	"net"
	"testing"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestP04_Challenges: a challenge is 334, a space and base64, which may be of nothing (RFC 4954 section 4).
func TestP04_Challenges(t *testing.T) {
	p := dial(t, newServer(t, authStore{&store{}}, server.Options{AllowInsecureAuth: true}))
	p.hello()
	for _, talk := range [][2]string{
		{"AUTH PLAIN", "334 \r\n"},
		{"*", "501 5.7.0 Cancelled\r\n"},
		{"AUTH LOGIN", "334 VXNlcm5hbWU6\r\n"},
		{base64.StdEncoding.EncodeToString([]byte("alice")), "334 UGFzc3dvcmQ6\r\n"},
		{base64.StdEncoding.EncodeToString([]byte("secret")), "235 2.7.0 Authenticated\r\n"},
	} {
		p.send(talk[0] + "\r\n")
		if got := p.reply(); got != talk[1] {
			t.Errorf("the server says %q to %s, want %q", got, talk[0], talk[1])
		}
	}
	p.quit()
}

// TestP15_Submitter: who has submitted a message to begin with may be told by anybody, and reaches the session as the claim that
// it is (RFC 4954 section 5).
func TestP15_Submitter(t *testing.T) {
	var told []string
	st := &store{mail: func(_ context.Context, _ proto.Address, p proto.Params) error {
		a, ok := auth.ReadSubmitter(p)
		if !ok {
			t.Errorf("%v has no submitter", p)
		}
		told = append(told, a.String())
		return nil
	}}
	p := dial(t, newServer(t, authStore{st}, server.Options{AllowInsecureAuth: true}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example> AUTH=e+3Dmc2@example.com", "250 ", "RSET", "250 ",
		"MAIL FROM:<a@b.example> AUTH=<>", "250 ", "RSET", "250 ",
		plain("alice", "secret"), "235 ", "MAIL FROM:<a@b.example> auth=bob@b.example", "250 ")
	p.quit()
	want := []string{"e=mc2@example.com", "", "bob@b.example"}
	if len(told) != 3 || told[0] != want[0] || told[1] != want[1] || told[2] != want[2] {
		t.Errorf("the session is told %q, want %q", told, want)
	}
}

// watchful is a session that looks at where the client is when it is asked about a password.
type watchful struct {
	server.Session
	conn *server.Conn
	from chan net.Addr
}

func (s watchful) Authenticate(context.Context, string, string) error {
	s.from <- s.conn.RemoteAddr()
	return nil
}

// TestP22_WhereFrom: a session can count failures by the address of the client.
func TestP22_WhereFrom(t *testing.T) {
	from := make(chan net.Addr, 1)
	srv := newServer(t, server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return watchful{discard{}, c, from}, nil
	}), server.Options{AllowInsecureAuth: true})
	addr, served := listen(t, srv.Serve)
	p := connect(t, addr)
	p.hello()
	p.ask(plain("alice", "secret"), "235 ")
	if got, want := (<-from).String(), p.nc.LocalAddr().String(); got != want {
		t.Errorf("the session sees %s, want %s", got, want)
	}
	p.quit()
	_ = srv.Shutdown(t.Context())
	<-served
}
