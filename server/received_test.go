package server_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/proxyproto"
)

// A relay is a backend that keeps messages with a Received field on top. Its sessions know the user alice, and
// priorities.
type relay struct {
	*store
	change func(r *tracefield.Received)
}

func (b relay) NewSession(_ context.Context, c *server.Conn) (server.Session, error) {
	return &relaySession{authSession{&session{b.store}}, c, b.change}, nil
}

type relaySession struct {
	authSession
	conn   *server.Conn
	change func(r *tracefield.Received)
}

func (s *relaySession) PriorityPolicy() string         { return "" }
func (s *relaySession) HighestPriority() ehlo.Priority { return 9 }

func (s *relaySession) Data(ctx context.Context, r io.Reader) error {
	field := server.Received(s.conn)
	if s.change != nil {
		s.change(&field)
	}
	return s.authSession.Data(ctx, tracefield.Prepend(tracefield.CheckLoop(r, nil), field.String()))
}

// with has the names of RFC 3848 section 1 and RFC 6531 section 4.3, as the registry lists them: by the protocol, and
// by which of SMTPUTF8, STARTTLS and AUTH are in use.
var with = map[string]string{
	"HELO": "SMTP", "EHLO": "ESMTP", "EHLO AUTH": "ESMTPA", "EHLO STARTTLS": "ESMTPS", "EHLO STARTTLS AUTH": "ESMTPSA",
	"LHLO": "LMTP", "LHLO AUTH": "LMTPA", "LHLO STARTTLS": "LMTPS", "LHLO STARTTLS AUTH": "LMTPSA",
	"EHLO SMTPUTF8": "UTF8SMTP", "EHLO SMTPUTF8 AUTH": "UTF8SMTPA", "EHLO SMTPUTF8 STARTTLS": "UTF8SMTPS",
	"EHLO SMTPUTF8 STARTTLS AUTH": "UTF8SMTPSA",
	"LHLO SMTPUTF8":               "UTF8LMTP", "LHLO SMTPUTF8 AUTH": "UTF8LMTPA", "LHLO SMTPUTF8 STARTTLS": "UTF8LMTPS",
	"LHLO SMTPUTF8 STARTTLS AUTH": "UTF8LMTPSA",
}

var (
	withClause = regexp.MustCompile(`\swith\s+(\S+)\s`)
	tlsClause  = regexp.MustCompile(`\stls\s+TLS_[A-Z0-9_]+\s+group\s+\S+;`)
	randomID   = regexp.MustCompile(`\sid\s+([a-z2-7]{26})\b`)
)

// TestJ04_With: for each way in which a message can come, the field has the registered name.
func TestJ04_With(t *testing.T) {
	config, trust := tlsPair(t)
	for way, want := range with {
		t.Run(way, func(t *testing.T) {
			hello, _, _ := strings.Cut(way, " ")
			opt := server.Options{TLSConfig: config, AllowInsecureAuth: true}
			if hello == "LHLO" {
				opt.Protocol = proto.LMTP
			}
			st := &store{}
			w := dialWire(t, newServer(t, relay{store: st}, opt))
			w.ask("", "220 ")
			w.ask(hello+" client.example\r\n", "250")
			ask := w.ask
			if strings.Contains(way, "STARTTLS") {
				p := w.startTLS(trust)
				ask = func(text, want string) { t.Helper(); p.send(text); p.expect(want) }
				ask(hello+" client.example\r\n", "250")
			}
			mail := "MAIL FROM:<a@b.example>"
			if strings.Contains(way, "AUTH") {
				ask(plain("alice", "secret")+"\r\n", "235 ")
			}
			if strings.Contains(way, "SMTPUTF8") {
				mail += " SMTPUTF8"
			}
			ask(mail+"\r\n", "250 ")
			ask("RCPT TO:<c@d.example>\r\n", "250 ")
			ask("DATA\r\n", "354 ")
			ask("text\r\n.\r\n", "250 ")
			ask("QUIT\r\n", "221 ")
			got := st.messages()[0]
			if m := withClause.FindStringSubmatch(got); m == nil || m[1] != want {
				t.Errorf("with %q, want %s, in\n%s", m, want, got)
			}
			if tlsClause.MatchString(got) != strings.Contains(way, "STARTTLS") {
				t.Errorf("the clause tls is wrong in\n%s", got)
			}
		})
	}
}

// TestJ01J07_Received: the field stands on top, has all that is known, and changes nothing of the message.
func TestJ01J07_Received(t *testing.T) {
	const message = "received : from x\r\nReceived: from a by b; date\r\nReturn-Path: <x@y>\r\nReceived: c\r\n" +
		"Subject: \xff\r\n\r\n.\r\nReceived: d\r\n"
	synctest.Test(t, func(t *testing.T) {
		st := &store{}
		named := func(r *tracefield.Received) { r.ID = "4XyZ17" }
		p := dial(t, newServer(t, relay{store: st, change: named}, server.Options{}))
		p.hello()
		p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ", "DATA", "354 ")
		p.send(strings.ReplaceAll(message, "\n.", "\n..") + ".\r\n")
		p.expect("250 ")
		p.quit()
		const field = "Received: from client.example by mail.example with ESMTP id 4XyZ17\r\n" +
			" for <c@d.example>; Sat, 01 Jan 2000 00:00:00 +0000\r\n"
		if got := st.messages()[0]; got != field+message {
			t.Errorf("got\n%q, want\n%q", got, field+message)
		}
	})
}

// TestReceivedFor: the recipient is named if there is one alone.
func TestReceivedFor(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rcpts []string
		want  string
	}{
		{"J03 one", []string{"c@d.example"}, "<c@d.example>"},
		{"J03 two", []string{"c@d.example", "e@f.example"}, ""},
		{"J03 the same twice", []string{"c@d.example", "c@d.example"}, ""},
		{"J03 one refused before it", []string{"refused@d.example", "c@d.example"}, "<c@d.example>"},
		{"J03 one refused behind it", []string{"c@d.example", "refused@d.example"}, "<c@d.example>"},
		{"J03 a quoted one", []string{`"c\ d"@d.example`}, `<"c d"@d.example>`},
		{"J03 postmaster", []string{"postmaster"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
					if to.Local == "refused" {
						return proto.Refuse(550, proto.Status{5, 1, 1}, "no")
					}
					return nil
				}}
				p := dial(t, newServer(t, relay{store: st}, server.Options{}))
				p.hello()
				// What an earlier transaction had is forgotten.
				p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<earlier@d.example>", "250 ", "RSET", "250 ")
				p.ask("MAIL FROM:<a@b.example>", "250 ")
				for _, to := range tt.rcpts {
					p.send("RCPT TO:<" + to + ">\r\n")
					p.reply()
				}
				p.ask("DATA", "354 ", "text\r\n.", "250 ")
				p.quit()
				text := st.messages()[0]
				_, got, _ := strings.Cut(text[:strings.Index(text, ";")], " for ")
				if got != tt.want {
					t.Errorf("for %q, want %q, in\n%s", got, tt.want, text)
				}
				for _, to := range []string{"c@d", "e@f", "earlier", "refused"} {
					if tt.want == "" && strings.Contains(text, to) {
						t.Errorf("%q is in\n%s", to, text)
					}
				}
			})
		})
	}
}

// TestReceivedOutside: when no transaction is open, nothing of the last one is in the field.
func TestReceivedOutside(t *testing.T) {
	var got tracefield.Received
	p := dialLooker(t, func(_ context.Context, c *server.Conn) { got = server.Received(c) })
	p.ask("MAIL FROM:<a@b.example> SMTPUTF8", "250", "RCPT TO:<c@d.example>", "250", "RSET", "250")
	p.quit()
	if !got.For.IsNull() || got.UTF8 || got.With != "ESMTP" || got.Hello != "client.example" {
		t.Errorf("Reset sees %+v", got)
	}
}

// TestReceivedFrom: the client is the one that the connection has, or that a trusted proxy has told.
func TestReceivedFrom(t *testing.T) {
	trusted := netip.MustParsePrefix("127.0.0.0/8")
	for _, tt := range []struct{ name, proxy, xclient, hello, want string }{
		{"J02 the client", "", "", "client.example", "client.example ([127.0.0.1])"},
		{"J02 a literal", "", "", "[192.0.2.1]", "[192.0.2.1] ([127.0.0.1])"},
		{"J02 a hostile name", "", "", "a)by\\b;(", `[127.0.0.1] ([127.0.0.1]) (helo=a\)by\\b;\()`},
		{"J02 PROXY", "PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", "", "client.example", "client.example ([IPv6:2001:db8::1])"},
		{"J02 XCLIENT", "", "ADDR=192.0.2.1 NAME=host.example", "client.example", "client.example (host.example [192.0.2.1])"},
		{"J02 XCLIENT without a name", "", "ADDR=192.0.2.1 NAME=[UNAVAILABLE]", "client.example", "client.example ([192.0.2.1])"},
		{"J02 XCLIENT for later", "", "ADDR=192.0.2.1 NAME=[TEMPUNAVAIL]", "client.example", "client.example ([192.0.2.1])"},
		{"J02 XCLIENT without an address", "", "ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE]", "client.example", "client.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := &store{}
			srv := newServer(t, relay{store: st}, server.Options{Extensions: append(ehlo.Default(), ehlo.XCLIENT(trusted))})
			addr, served := listen(t, func(l net.Listener) error {
				if tt.proxy != "" {
					l = proxyproto.NewListener(l, &proxyproto.Options{Trusted: []netip.Prefix{trusted}})
				}
				return srv.Serve(l)
			})
			p := connect(t, addr)
			p.send(tt.proxy)
			p.hello()
			if tt.xclient != "" {
				p.ask("XCLIENT "+tt.xclient, "220 ")
			}
			p.ask("EHLO "+tt.hello, "250-")
			p.begin()
			p.ask("DATA", "354 ", "text\r\n.", "250 ", "QUIT", "221 ")
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			<-served
			text := strings.ReplaceAll(st.messages()[0], "\r\n", "")
			if want := "Received: from " + tt.want + " by mail.example with ESMTP id "; !strings.HasPrefix(text, want) {
				t.Errorf("got %q, want %q", text, want)
			}
		})
	}
}

// TestReceivedPriority: the field has the priority of MAIL, or what the session has made of it.
func TestReceivedPriority(t *testing.T) {
	five := 5
	for _, tt := range []struct {
		name, params string
		assigned     *int
		want         string
	}{
		{"J16 none", "", nil, "for <c@d.example>;"},
		{"J16 of MAIL", " MT-PRIORITY=-3", nil, "priority -3;"},
		{"J16 zero", " MT-PRIORITY=0", nil, "priority 0;"},
		{"J16 assigned", "", &five, "priority 5;"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := &store{}
			p := dial(t, newServer(t, relay{store: st, change: func(r *tracefield.Received) {
				if tt.assigned != nil {
					r.Priority = tt.assigned
				}
			}}, server.Options{}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>"+tt.params, "250 ", "RCPT TO:<c@d.example>", "250 ")
			p.ask("DATA", "354 ", "text\r\n.", "250 ")
			p.quit()
			if text := st.messages()[0]; !strings.Contains(text, tt.want) {
				t.Errorf("no %q in\n%s", tt.want, text)
			}
		})
	}
}

// TestJ09_Loop: a message that has been received a hundred times before is refused for good, and the session goes on.
func TestJ09_Loop(t *testing.T) {
	const field = "Received: from a.example by b.example; Sat, 01 Jan 2000 00:00:00 +0000\r\n"
	st := &store{}
	p := dial(t, newServer(t, relay{store: st}, server.Options{}))
	p.hello()
	for fields, reply := range []string{100: "250 ", 101: "554 5.4.6 "} {
		if reply == "" {
			continue
		}
		p.begin()
		p.ask("DATA", "354 ")
		p.send(strings.Repeat(field, fields) + "\r\ntext\r\n.\r\n")
		p.expect(reply)
	}
	p.begin()
	p.ask("DATA", "354 ", "text\r\n.", "250 ")
	p.quit()
	if n := len(st.messages()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

// TestReceivedID: the random name differs each time, and is one that the clause ID can have.
func TestReceivedID(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, relay{store: st}, server.Options{}))
	p.hello()
	seen := make(map[string]bool)
	for range 3 {
		p.begin()
		p.ask("DATA", "354 ", "text\r\n.", "250 ")
	}
	p.quit()
	for _, text := range st.messages() {
		m := randomID.FindStringSubmatch(text)
		if m == nil || seen[m[1]] {
			t.Fatalf("the ID %q in\n%s", m, text)
		}
		seen[m[1]] = true
	}
}
