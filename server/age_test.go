package server_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// traceLimited records what Trace.Limited is told.
func traceLimited(limited *[]string) *server.Trace {
	return &server.Trace{Limited: func(_ context.Context, _ *server.Conn, e *proto.Error) {
		*limited = append(*limited, e.Error())
	}}
}

// TestI14_Age: a connection that is too old ends between transactions, whether its client is silent or not, and not in
// the middle of one.
func TestI14_Age(t *testing.T) {
	const old = "421 4.4.2 Connection has lasted too long"
	inBubble(t, 2*time.Hour, func(t *testing.T) { // by default
		p := dial(t, newServer(t, &store{}, server.Options{}))
		p.hello()
		for range 29 {
			<-time.After(4 * time.Minute)
			p.ask("NOOP", "250 ")
		}
		p.expect(old) // while it is silent
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
	})
	inBubble(t, 12*time.Minute, func(t *testing.T) {
		st := &store{}
		var limited []string
		srv := newServer(t, st, server.Options{
			Timeouts: server.Timeouts{Age: 10 * time.Minute}, Trace: traceLimited(&limited),
		})
		p := dial(t, srv)
		p.hello()
		for range 3 {
			<-time.After(3 * time.Minute)
			p.begin()
			p.ask("DATA", "354 ")
			if time.Now().Minute() == 9 {
				<-time.After(3 * time.Minute) // in the middle of the content
			}
			p.ask(".", "250 ")
		}
		p.expect(old)
		_ = p.ended()
		if n := len(st.messages()); n != 3 {
			t.Errorf("%d messages have arrived, want 3", n)
		}
		if s := srv.Stats(); s.OverAge != 1 || len(limited) != 1 || !strings.Contains(limited[0], old) {
			t.Errorf("%d are counted, and %q traced; want 1", s.OverAge, limited)
		}
	})
	inBubble(t, 11*time.Minute, func(t *testing.T) { // between commands that the server has already
		var limited []string
		st := &store{mail: func(context.Context, proto.Address, proto.Params) error {
			<-time.After(11 * time.Minute)
			return nil
		}}
		srv := newServer(t, st, server.Options{
			Timeouts: server.Timeouts{Age: 10 * time.Minute}, Trace: traceLimited(&limited),
		})
		p := dial(t, srv)
		p.hello()
		p.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRSET\r\nRSET\r\nMAIL FROM:<a@b.example>\r\n")
		p.expect("250 ")
		p.expect("250 ")
		p.expect("250 ")
		p.expect(old)
		_ = p.ended()
		if calls := st.calls(); strings.Count(calls, "mail") != 1 || srv.Stats().OverAge != 1 || len(limited) != 1 {
			t.Errorf("the session was asked %s, and %q traced", calls, limited)
		}
	})
	inBubble(t, 100*time.Hour, func(t *testing.T) {
		p := dial(t, newServer(t, &store{}, server.Options{Timeouts: server.Timeouts{Age: -1, Command: -1}}))
		p.hello()
		<-time.After(100 * time.Hour)
		p.quit()
	})
}

// TestE12_MailsOfASession: the limit is the one that is stated, and refused MAIL commands count.
func TestE12_MailsOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config, client := tlsPair(t)
		var limited []string
		srv := newServer(t, &store{}, server.Options{
			TLSConfig: config, Limits: server.Limits{Mails: 3}, Trace: traceLimited(&limited),
		})
		w := dialWire(t, srv)
		w.ask("", "220 ")
		w.ask("EHLO client.example\r\n", "250-")
		w.ask("MAIL FROM:<a@b.example>\r\n", "250 ")
		w.ask("RSET\r\n", "250 ")
		p := w.startTLS(client) // where a session begins
		p.send("EHLO client.example\r\n")
		if r := p.reply(); !strings.Contains(r, "LIMITS RCPTMAX=1000 MAILMAX=3\r\n") {
			t.Errorf("the server says %q", r)
		}
		p.begin()
		p.ask("DATA", "354 ", "x\r\n.", "250 ", "MAIL FROM:<a", "501 ", "EHLO client.example", "250-",
			"MAIL FROM:<a@b.example>", "250 ", "RSET", "250 ", "MAIL FROM:<a@b.example>", "421 4.7.0 Too many messages")
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
		if s := srv.Stats(); s.OverMails != 1 || len(limited) != 1 || !strings.Contains(limited[0], "4.7.0 Too many mess") {
			t.Errorf("%d are counted, and %q traced; want 1", s.OverMails, limited)
		}
		p = dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{Mails: -1}}))
		p.expect("220 ")
		p.send("EHLO client.example\r\n")
		if r := p.reply(); strings.Contains(r, "MAILMAX") {
			t.Errorf("without a limit the server says %q", r)
		}
		p.quit()
	})
}

// TestI08_AuthFailuresOfAConnection: the limit is an option.
func TestI08_AuthFailuresOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ limit, denied int }{{0, 3}, {5, 5}, {-1, 15}} {
			opt := server.Options{AllowInsecureAuth: true, Limits: server.Limits{AuthFailures: c.limit}}
			p := dial(t, newServer(t, authStore{&store{}}, opt))
			p.hello()
			for range c.denied {
				p.ask(plain("alice", "wrong"), "535 ")
			}
			if c.limit < 0 {
				p.ask(plain("alice", "secret"), "235 ")
				p.quit()
				continue
			}
			p.ask(plain("alice", "wrong"), "421 ")
			_ = p.ended()
		}
	})
}
