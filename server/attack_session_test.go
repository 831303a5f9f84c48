package server_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/server"
)

// TestZ40_Injection slips commands in around STARTTLS: behind it in the same segment, and between the reply to it and
// the handshake. They break the handshake, and none is carried out.
func TestZ40_Injection(t *testing.T) {
	config, trust := tlsPair(t)
	for _, injected := range []string{
		"RSET\r\n", "EHLO x\r\nMAIL FROM:<e@v.example>\r\n",
		"EHLO x\r\nMAIL FROM:<e@v.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n",
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%.10q, late %v", injected, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st := &store{}
					w := dialWire(t, newServer(t, st, server.Options{TLSConfig: config}))
					w.ask("", "220 ")
					w.ask("EHLO x\r\n", "250-")
					if late {
						w.ask("STARTTLS\r\n", "220 ")
						_, _ = io.WriteString(w.nc, injected) // the server need not read it all
					} else {
						w.ask("STARTTLS\r\n"+injected, "220 ")
					}
					if err := tls.Client(w.nc, trust).Handshake(); err == nil {
						t.Error("the handshake was made")
					}
					w.nc.Close()
					if err := <-w.done; err == nil {
						t.Error("ServeConn returned nil")
					}
					if calls := st.calls(); calls != "new, close" {
						t.Errorf("called %s", calls)
					}
				})
			})
		}
	}
}

// TestZ42_TransactionBeforeTLS: a transaction is not taken along into TLS. STARTTLS is refused in it, and nothing of
// one that was given up is left.
func TestZ42_TransactionBeforeTLS(t *testing.T) {
	config, trust := tlsPair(t)
	st := &store{}
	w := dialWire(t, newServer(t, st, server.Options{TLSConfig: config}))
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	w.ask("MAIL FROM:<evil@b.example>\r\n", "250 ")
	w.ask("RCPT TO:<c@d.example>\r\n", "250 ")
	w.ask("STARTTLS\r\n", "503 ")
	w.ask("EHLO x\r\n", "250-")
	p := w.startTLS(trust)
	p.ask("DATA", "503 ", "RCPT TO:<c@d.example>", "503 ", "EHLO y", "250-",
		"DATA", "503 ", "RCPT TO:<c@d.example>", "503 ")
	p.chunk("BDAT 2 LAST", "x\n", "503 ")
	p.quit()
	if got, want := st.calls(), "new, mail evil@b.example, rcpt c@d.example, reset, close, new, close"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
}

// anyName is a cache of TLS sessions that offers the last one to a server of any name.
type anyName struct{ tls.ClientSessionCache }

func (c anyName) Get(string) (*tls.ClientSessionState, bool) { return c.ClientSessionCache.Get("") }
func (c anyName) Put(_ string, session *tls.ClientSessionState) {
	c.ClientSessionCache.Put("", session)
}

// TestZ46_TicketOfAnotherName has a client offer the session that it has with one name of the server to another one. It
// cannot, for the server sends no tickets, unless an option asks for them.
func TestZ46_TicketOfAnotherName(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config, trust := tlsPair(t)
		trust.MaxVersion = version
		trust.InsecureSkipVerify = true // the names are not the certificate's
		trust.ClientSessionCache = anyName{tls.NewLRUClientSessionCache(1)}
		srv := newServer(t, &store{}, server.Options{TLSConfig: config})
		addr, served := listen(t, srv.Serve)
		for _, name := range []string{"one.example", "two.example"} {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			w := &wire{t: t, nc: nc}
			w.ask("", "220 ")
			w.ask("EHLO x\r\n", "250-")
			trust.ServerName = name
			p := w.startTLS(trust)
			p.ask("EHLO x", "250-") // behind which a ticket would have come
			if p.nc.(*tls.Conn).ConnectionState().DidResume {
				t.Errorf("%x: the session of another name was resumed", version)
			}
			p.quit()
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-served
	}
}

// TestAuthAttacks plays the attacks on AUTH. After each the session goes on.
func TestAuthAttacks(t *testing.T) {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	long := func(n int) string { return strings.Repeat("A", n) }
	for _, c := range []struct {
		name  string
		pairs []string
	}{
		{"Z80 in clear", []string{plain("alice", "secret"), "538 5.7.11", plain("alice", "wrong"), "538 5.7.11"}},
		{"Z81 in a transaction", []string{"MAIL FROM:<a@b.example>", "250 ",
			plain("alice", "secret"), "503 ", "RSET", "250 "}},
		{"Z81 twice", []string{plain("alice", "secret"), "235 ", plain("alice", "secret"), "503 "}},
		{"Z82 12289 octets", []string{"AUTH PLAIN", "334 ", long(12289), "500 5.5.6"}},
		{"Z82 1 MiB", []string{"AUTH PLAIN", "334 ", long(1 << 20), "500 5.5.6"}},
		{"Z82 behind the command", []string{"AUTH PLAIN " + long(100_000), "500 "}},
		{"Z83 empty", []string{"AUTH PLAIN =", "535 5.7.8"}},
		{"Z83 nothing but padding", []string{"AUTH PLAIN ====", "501 5.5.2"}},
		{"Z83 padding inside", []string{"AUTH PLAIN AAA=BBB", "501 5.5.2"}},
		{"Z83 asterisk", []string{"AUTH PLAIN *", "501 5.5.2"}},
		{"Z83 NUL", []string{"AUTH PLAIN AGE=\x00", "501 5.5.2"}},
		{"Z84 no NUL", []string{"AUTH PLAIN " + encode("alice"), "535 5.7.8"}},
		{"Z84 one NUL", []string{"AUTH PLAIN " + encode("alice\x00secret"), "535 5.7.8"}},
		{"Z84 three NULs", []string{"AUTH PLAIN " + encode("\x00alice\x00secret\x00"), "535 5.7.8"}},
		{"Z84 another identity", []string{"AUTH PLAIN " + encode("root\x00alice\x00secret"), "535 5.7.8"}},
		{"Z84 LF in the name", []string{"AUTH PLAIN " + encode("\x00alice\n\x00secret"), "535 5.7.8"}},
		{"Z84 control character in the password", []string{"AUTH PLAIN " + encode("\x00alice\x00\x01secret"), "535 5.7.8"}},
		{"Z88 name of 100 KB", []string{"AUTH LOGIN", "334 ", long(100_000), "500 5.5.6"}},
		{"Z88 empty lines", []string{"AUTH LOGIN", "334 ", "", "334 ", "", "535 5.7.8"}},
		{"Z94 CRLF", []string{"MAIL FROM:<a@b.example> AUTH=a+0D+0ARCPT", "501 "}},
		{"Z94 501 octets", []string{"MAIL FROM:<a@b.example> AUTH=" + long(501), "501 "}},
		{"Z95 NTLM", []string{"AUTH NTLM " + long(10_000), "504 ", "AUTH NTLM " + long(100_000), "500 "}},
		{"Z95 EXTERNAL", []string{"AUTH EXTERNAL " + long(10_000), "504 ", "AUTH EXTERNAL " + long(100_000), "500 "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // a refusal takes a second
				st := &store{}
				inClear := strings.HasPrefix(c.name, "Z80")
				p := dial(t, newServer(t, authStore{st}, server.Options{AllowInsecureAuth: !inClear}))
				p.hello()
				p.ask(c.pairs...)
				p.ask("NOOP", "250 ")
				want := strings.Contains(strings.Join(c.pairs, ""), "235 ")
				if calls := st.calls(); strings.Contains(calls, "authenticate") != want {
					t.Errorf("called %s", calls)
				}
				p.quit()
			})
		})
	}
}

// TestZ86_BehindAuth: what follows AUTH in the same segment is a command, and comes when AUTH is over.
func TestZ86_BehindAuth(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, authStore{st}, server.Options{AllowInsecureAuth: true, RequireAuth: true}))
	p.hello()
	p.send(plain("alice", "secret") + "\r\nMAIL FROM:<a@b.example>\r\n")
	p.expect("235 ", "250 2.1.0")
	p.quit()
	if got, want := st.calls(), "new, authenticate alice, mail a@b.example, reset, close"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
}

// TestZ85_HangUpInAuth: who hangs up behind AUTH has not tried to authenticate.
func TestZ85_HangUpInAuth(t *testing.T) {
	for _, say := range []string{"AUTH PLAIN", "AUTH LOGIN"} {
		st := &store{}
		p := dial(t, newServer(t, authStore{st}, server.Options{AllowInsecureAuth: true}))
		p.hello()
		p.ask(say, "334 ")
		p.nc.Close()
		<-p.done
		if calls := st.calls(); calls != "new, close" {
			t.Errorf("%s: called %s", say, calls)
		}
	}
}

// A slowAuth is a session whose check of a password is slow, and ends with its context.
type slowAuth struct {
	*session
	at chan struct{} // gets a value when a check begins
}

func (s slowAuth) Authenticate(ctx context.Context, _, _ string) error {
	s.at <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// TestZ182_ManySlowChecks has 120 clients of one network that authenticate at a time. As many passwords are checked as
// the network may have connections, and each check ends when its client hangs up.
func TestZ182_ManySlowChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := make(chan struct{}, 120)
		srv := newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
			return slowAuth{&session{&store{}}, at}, nil
		}), server.Options{AllowInsecureAuth: true, Limits: server.Limits{ConnsPerMinute: -1}})
		remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1025}
		var peers []*peer
		for range 120 {
			here, there := net.Pipe()
			p := dialOver(t, srv, here, hosted{there, remote})
			peers = append(peers, p)
			if reply := p.reply(); strings.HasPrefix(reply, "421 ") {
				continue
			}
			p.ask("EHLO x", "250-")
			p.send(plain("alice", "secret") + "\r\n")
		}
		synctest.Wait()
		if len(at) != 100 {
			t.Errorf("%d passwords are checked at a time, want 100", len(at))
		}
		for _, p := range peers {
			p.nc.Close()
		}
		for _, p := range peers {
			<-p.done
		}
		if n := srv.Stats().Open; n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}
