package server_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// dialFrom dials a server from an address.
func dialFrom(t *testing.T, srv interface {
	ServeConn(context.Context, net.Conn) error
}, addr string) *peer {
	t.Helper()
	here, there := net.Pipe()
	a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	done := make(chan error, 1)
	go func() { done <- srv.ServeConn(context.Background(), hosted{there, a}) }()
	p := newPeer(t, here)
	p.done = done
	return p
}

// greeted connects from an address, checks the greeting and leaves.
func greeted(t *testing.T, srv *server.Server, addr, want string) {
	t.Helper()
	p := dialFrom(t, srv, addr)
	p.expect(want)
	if strings.HasPrefix(want, "220") {
		p.quit()
	} else if err := p.ended(); err == nil {
		t.Error("ServeConn returned nil for a connection that was refused")
	}
}

// TestI10_ConnsPerMinute: a network may make so many connections in a minute, at once or evenly.
func TestI10_ConnsPerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var refused []string
		srv := newServer(t, &store{}, server.Options{
			Limits: server.Limits{ConnsPerMinute: 3},
			Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:ffff::/48")},
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Trace: &server.Trace{Refused: func(_ context.Context, _ *server.Conn, e *proto.Error) {
				refused = append(refused, e.Error())
			}},
		})
		const over = "421 mail.example Too many connections in a short time"
		for _, c := range []struct{ name, within, beyond string }{
			{"IPv4", "192.0.2.1:1", "192.0.2.1:2"},
			{"mapped", "192.0.2.2:1", "[::ffff:192.0.2.2]:1"},
			{"IPv6", "[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::1]:1"},
		} {
			for range 3 {
				greeted(t, srv, c.within, "220 ")
			}
			greeted(t, srv, c.beyond, over)
		}
		greeted(t, srv, "192.0.2.3:1", "220 ")
		greeted(t, srv, "[2001:db8:0:2::1]:1", "220 ")
		for range 10 {
			for _, exempt := range []string{"198.51.100.7:1", "[2001:db8:ffff:1::1]:1", "127.0.0.1:1", "[::1]:1"} {
				greeted(t, srv, exempt, "220 ")
			}
		}
		<-time.After(20 * time.Second) // for one connection
		greeted(t, srv, "192.0.2.1:1", "220 ")
		greeted(t, srv, "192.0.2.1:1", over)
		<-time.After(time.Minute)
		for range 3 {
			greeted(t, srv, "192.0.2.1:1", "220 ")
		}
		greeted(t, srv, "192.0.2.1:1", over)
		synctest.Wait()
		if s := srv.Stats(); s.ConnsOverRate != 5 || s.ConnsRefused != 5 || len(refused) != 5 {
			t.Errorf("%d and %d are counted, and %q traced; want 5", s.ConnsOverRate, s.ConnsRefused, refused)
		}
		if n := strings.Count(log.String(), "connection refused"); n != 5 {
			t.Errorf("%d records in the log, want 5:\n%s", n, &log)
		}
	})
}

// TestI11_MessagesPerMinute: MAIL beyond the limit is refused for a while, whatever connection it comes by, of whatever
// service, and nothing else is.
func TestI11_MessagesPerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var limited []string
		st := &store{}
		opt := server.Options{
			Hostname: "mail.example",
			Limits:   server.Limits{MessagesPerMinute: 4, IPv4Prefix: 24, IPv6Prefix: 56},
			Logger:   slog.New(slog.NewTextHandler(&log, nil)),
			Trace: &server.Trace{Limited: func(_ context.Context, c *server.Conn, e *proto.Error) {
				limited = append(limited, c.RemoteAddr().String()+" "+e.Text)
			}},
		}
		srv := newServer(t, st, opt)
		opt.Limits.MessagesPerMinute = 1 // of no effect: that of New holds
		other, err := srv.Service(st, &opt)
		if err != nil {
			t.Fatal(err)
		}
		p, q := dialFrom(t, srv, "192.0.2.1:1"), dialFrom(t, other, "192.0.2.255:1")
		p.hello()
		q.hello()
		for _, peer := range []*peer{p, q, p, q} {
			peer.ask("MAIL FROM:<a@b.example>", "250 ", "RSET", "250 ")
		}
		const over = "450 4.7.1 Too much mail from your network"
		p.ask("MAIL FROM:<a@b.example>", over, "RCPT TO:<c@d.example>", "503 ", "NOOP", "250 ")
		q.ask("MAIL FROM:<a@b.example>", over)
		if calls := st.calls(); strings.Count(calls, "mail ") != 4 {
			t.Errorf("the sessions were asked %s, want 4 times mail", calls)
		}
		<-time.After(15 * time.Second)
		p.begin()
		p.ask("DATA", "354 ", "x\r\n.", "250 ", "MAIL FROM:<a@b.example>", over)
		p.quit()
		q.quit()
		// Neighbours in the same /56 are one network, and those in the next one another.
		p, q = dialFrom(t, srv, "[2001:db8::1]:1"), dialFrom(t, srv, "[2001:db8:0:100::1]:1")
		p.hello()
		q.hello()
		for range 4 {
			p.ask("MAIL FROM:<a@b.example>", "250 ", "RSET", "250 ")
		}
		p.ask("MAIL FROM:<a@b.example>", over)
		q.ask("MAIL FROM:<a@b.example>", "250 ")
		p.quit()
		q.quit()
		if s := srv.Stats(); s.MessagesOverRate != 4 || len(limited) != 4 ||
			!strings.HasPrefix(limited[1], "192.0.2.255:1 Too much mail") {
			t.Errorf("%d are counted, and %q traced; want 4", s.MessagesOverRate, limited)
		}
		if n := strings.Count(log.String(), `msg="smtp: over a limit"`); n != 4 || !strings.Contains(log.String(), "in=MAIL") {
			t.Errorf("%d records in the log, want 4:\n%s", n, &log)
		}
	})
}

// TestTemporaryRefusalsAreJunk: a client cannot try MAIL again and again for ever.
func TestTemporaryRefusalsAreJunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{Limits: server.Limits{MessagesPerMinute: 1, Junk: 5}})
		p := dialFrom(t, srv, "192.0.2.1:1")
		p.hello() // is one of the five
		p.ask("MAIL FROM:<a@b.example>", "250 ", "RSET", "250 ")
		for range 3 {
			p.ask("MAIL FROM:<a@b.example>", "450 4.7.1")
		}
		p.ask("MAIL FROM:<a@b.example>", "421 4.7.0 Too many commands without mail")
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
	})
}

// TestI08_AuthFailuresPerHour: after so many failures of a network nobody in it can authenticate for a while, whatever
// the password. Others can, and those who do so in time spend nothing.
func TestI08_AuthFailuresPerHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outcomes []string
		st := &store{}
		srv := newServer(t, authStore{st}, server.Options{
			AllowInsecureAuth: true,
			Limits:            server.Limits{AuthFailuresPerHour: 4},
			Trace: &server.Trace{
				Authenticated: func(_ context.Context, _ *server.Conn, o ext.AuthOutcome) {
					outcomes = append(outcomes, o.User)
				},
				Limited: func(_ context.Context, _ *server.Conn, e *proto.Error) { outcomes = append(outcomes, e.Text) },
			},
		})
		from := func(addr string) *peer {
			p := dialFrom(t, srv, addr)
			p.hello()
			return p
		}
		for range 10 {
			p := from("192.0.2.1:1")
			p.ask(plain("alice", "secret"), "235 ")
			p.quit()
		}
		p := from("192.0.2.1:1")
		p.ask(plain("alice", "1"), "535 ", plain("alice", "2"), "535 ", plain("alice", "3"), "535 ")
		q := from("192.0.2.1:2")
		q.ask(plain("alice", "4"), "535 ")
		const over = "454 4.7.0 Too many failed attempts to authenticate from your network"
		st.calls()
		outcomes = nil
		q.ask(plain("alice", "secret"), over, "AUTH PLAIN", over, "NOOP", "250 ")
		if calls := st.calls(); calls != "" {
			t.Errorf("credentials were looked at: %s", calls)
		}
		if len(outcomes) != 2 || !strings.HasPrefix(outcomes[0], "Too many failed") {
			t.Errorf("traced are %q", outcomes)
		}
		p.quit()
		q.quit()
		q = from("192.0.2.2:1")
		q.ask(plain("alice", "secret"), "235 ")
		q.quit()
		<-time.After(15 * time.Minute) // for one attempt
		p = from("192.0.2.1:1")
		p.ask(plain("alice", "5"), "535 ", plain("alice", "secret"), over)
		p.quit()
		<-time.After(15 * time.Minute)
		p = from("192.0.2.1:1")
		p.ask(plain("alice", "secret"), "235 ")
		p.quit()
		if s := srv.Stats(); s.AuthOverRate != 3 {
			t.Errorf("%d are counted, want 3", s.AuthOverRate)
		}
	})
}

// TestManyAuthFailuresAtOnce: attempts that are under way when the limit is reached are paid for, and end their
// connections.
func TestManyAuthFailuresAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limited []string
		x := ext.Extension{
			Keyword: "XFAIL",
			Verbs:   []proto.Verb{{Name: "XFAIL", In: proto.Ready}},
			Serve: func(_ context.Context, x ext.Command) (proto.Reply, error) {
				_, last := x.AuthOutcome(ext.AuthOutcome{Denied: true, Err: proto.Refuse(535, proto.Status{5, 7, 8}, "no")})
				if last {
					return proto.Reply{}, proto.Refuse(421, proto.Status{4, 7, 0}, "the last")
				}
				return proto.Reply{}, proto.Refuse(535, proto.Status{5, 7, 8}, "no")
			},
		}
		srv := newServer(t, authStore{&store{}}, server.Options{
			AllowInsecureAuth: true, Extensions: append(ehlo.Default(), x), Limits: server.Limits{AuthFailuresPerHour: 2},
			Trace: traceLimited(&limited),
		})
		for _, want := range []string{"535 ", "535 ", "421 4.7.0 the last", "421 4.7.0 the last"} {
			p := dialFrom(t, srv, "192.0.2.1:1")
			p.hello()
			p.ask("XFAIL", want)
			p.nc.Close()
			<-p.done
		}
		const spent = "421 4.7.0 Too many failed attempts to authenticate from your network"
		if s := srv.Stats(); s.AuthOverRate != 2 || len(limited) != 2 || !strings.Contains(limited[1], spent) {
			t.Errorf("%d are counted, and %q traced; want 2", s.AuthOverRate, limited)
		}
		p := dialFrom(t, srv, "192.0.2.1:1")
		p.hello()
		<-time.After(4 * time.Minute)
		p.ask(plain("alice", "secret"), "454 ")
		p.quit()
		<-time.After(90 * time.Minute)
		p = dialFrom(t, srv, "192.0.2.1:1")
		p.hello()
		p.ask(plain("alice", "secret"), "235 ")
		p.quit()
	})
}

// TestRateOfOrigin: a client behind a proxy that names it is counted by its own network, and so are TLS connections.
func TestRateOfOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := ehlo.XCLIENT(netip.MustParsePrefix("198.51.100.1/32"))
		srv := newServer(t, &store{}, server.Options{
			Extensions: append(ehlo.Default(), x), Limits: server.Limits{MessagesPerMinute: 1},
		})
		for _, c := range []struct{ addr, want string }{
			{"192.0.2.1", "250 "}, {"192.0.2.2", "250 "}, {"192.0.2.1", "450 4.7.1"}, {"IPV6:2001:db8::1", "250 "},
		} {
			p := dialFrom(t, srv, "198.51.100.1:1")
			p.hello()
			p.ask("XCLIENT ADDR="+c.addr, "220 ", "EHLO client.example", "250-", "MAIL FROM:<a@b.example>", c.want)
			p.quit()
		}
	})
}

// TestLimitsThatCannotBe: the error says which option is wrong.
func TestLimitsThatCannotBe(t *testing.T) {
	mapped := netip.MustParsePrefix("::ffff:192.0.2.0/120")
	for want, opt := range map[string]server.Options{
		"Limits.IPv4Prefix is 33":  {Limits: server.Limits{IPv4Prefix: 33}},
		"Limits.IPv4Prefix is -1":  {Limits: server.Limits{IPv4Prefix: -1}},
		"Limits.IPv6Prefix is 129": {Limits: server.Limits{IPv6Prefix: 129}},
		"Limits.IPv6Prefix is -1":  {Limits: server.Limits{IPv6Prefix: -1}},
		"Options.Exempt":           {Exempt: []netip.Prefix{{}}},
		`"::ffff:192.0.2.0/120"`:   {Exempt: []netip.Prefix{mapped}},
	} {
		_, err := server.New(&store{}, &opt)
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one about %s", err, want)
		}
	}
}
