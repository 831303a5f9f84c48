package server_test

import (
	"context"
	"net"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

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

// withStore is an authStore whose sessions keep what With says of each message.
type withStore struct {
	authStore
	got chan string
}

func (st withStore) NewSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	s, err := st.authStore.NewSession(ctx, c)
	return withSession{s.(authSession), st, c}, err
}

type withSession struct {
	authSession
	st   withStore
	conn *server.Conn
}

func (s withSession) Rcpt(context.Context, proto.Address, proto.Params) error {
	s.st.got <- s.conn.With()
	return nil
}

// TestWith: the names are those that RFC 3848 and RFC 6531 section 4.3 register.
func TestWith(t *testing.T) {
	config, trust := tlsPair(t)
	for _, tt := range []struct {
		name            string
		protocol        proto.Protocol
		hello           string
		tls, auth, utf8 bool
		want            string
	}{
		{"T12 plain", proto.LMTP, "LHLO", false, false, false, "LMTP"},
		{"T12 TLS", proto.LMTP, "LHLO", true, false, false, "LMTPS"},
		{"T12 authenticated", proto.LMTP, "LHLO", false, true, false, "LMTPA"},
		{"T12 both", proto.LMTP, "LHLO", true, true, false, "LMTPSA"},
		{"T12 UTF-8", proto.LMTP, "LHLO", true, true, true, "UTF8LMTPSA"},
		{"HELO", proto.SMTP, "HELO", false, false, false, "SMTP"},
		{"EHLO", proto.SMTP, "EHLO", false, false, false, "ESMTP"},
		{"EHLO TLS", proto.SMTP, "EHLO", true, false, false, "ESMTPS"},
		{"P33 EHLO authenticated", proto.SMTP, "EHLO", false, true, false, "ESMTPA"},
		{"P33 EHLO both", proto.SMTP, "EHLO", true, true, false, "ESMTPSA"},
		{"EHLO UTF-8", proto.SMTP, "EHLO", false, false, true, "UTF8SMTP"},
		{"EHLO UTF-8 TLS", proto.SMTP, "EHLO", true, false, true, "UTF8SMTPS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := withStore{authStore{&store{}}, make(chan string, 1)}
			w := dialWire(t, newServer(t, st, server.Options{Protocol: tt.protocol, TLSConfig: config, AllowInsecureAuth: true}))
			w.ask("", "220 ")
			w.ask(tt.hello+" x\r\n", "250")
			ask := w.ask
			if tt.tls {
				p := w.startTLS(trust)
				ask = func(text, want string) { t.Helper(); p.send(text); p.expect(want) }
				ask(tt.hello+" x\r\n", "250")
			}
			if tt.auth {
				ask(plain("alice", "secret")+"\r\n", "235 ")
			}
			mail := "MAIL FROM:<a@b.example>"
			if tt.utf8 {
				mail += " SMTPUTF8"
			}
			ask(mail+"\r\n", "250 ")
			ask("RCPT TO:<c@d.example>\r\n", "250 ")
			if got := <-st.got; got != tt.want {
				t.Errorf("received with %s, want %s", got, tt.want)
			}
			ask("QUIT\r\n", "221 ")
			<-w.done
		})
	}
}
