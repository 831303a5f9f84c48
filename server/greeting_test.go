package server_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestHello: which arguments of EHLO and HELO are accepted, and what Conn says then.
func TestHello(t *testing.T) {
	for _, c := range []struct{ say, want, hello string }{
		{"EHLO client.example", "250-", "client.example"},
		{"ehlo [192.0.2.1]", "250-", "[192.0.2.1]"},
		{"EHLO [IPv6:2001:db8::1] and more", "250-", "[IPv6:2001:db8::1]"},
		{"HELO box_1", "250 mail.example\r\n", "box_1"},
		{"EHLO", "501 ", ""},
		{"HELO", "501 ", ""},
		{"EHLO  x", "501 ", ""},
		{"EHLO caf\xc3\xa9.example", "501 ", ""},
		{"EHLO " + strings.Repeat("x", 255), "250-", strings.Repeat("x", 255)},
		{"EHLO " + strings.Repeat("x", 256), "501 ", ""},
	} {
		var conn *server.Conn
		st := &store{newSession: func(_ context.Context, c *server.Conn) error {
			conn = c
			return nil
		}}
		p := dial(t, newServer(t, st, server.Options{}))
		p.expect("220 mail.example ESMTP")
		p.ask(c.say, c.want)
		p.ask("NOOP", "250 ")
		if conn.Hello() != c.hello || conn.Extended() != (c.want == "250-") {
			t.Errorf("%q: Hello is %q, Extended %v", c.say, conn.Hello(), conn.Extended())
		}
		p.quit()
	}
}

// TestB12_LaxHello: a lax server takes a name that is missing or not ASCII. What it makes of it is harmless in replies,
// logs and Received.
func TestB12_LaxHello(t *testing.T) {
	for _, c := range []struct{ say, want, hello string }{
		{"HELO", "250 mail.example\r\n", ""},
		{"EHLO", "250-", ""},
		{"EHLO  ", "250-", ""},
		{"HELO  ups-3", "250 ", "ups-3"},
		{"EHLO M\xdcLLER-PC", "250-", "M?LLER-PC"},
		{"EHLO MÜLLER-PC", "250-", "xn--mller-pc-65a"},
		{"EHLO müller.example", "250-", "xn--mller-kva.example"},
		{"EHLO café\u202e)(", "250-", "caf??)("},
		{"HELO \xff\xfe\x80 x", "250 ", "???"},
		{"EHLO a\x00b", "501 ", ""},
		{"EHLO a\x1b[2Jb", "501 ", ""},
		{"EHLO " + strings.Repeat("\xdc", 255), "250-", strings.Repeat("?", 255)},
		{"EHLO " + strings.Repeat("\xdc", 256), "501 ", ""},
	} {
		for _, lax := range []bool{true, false} {
			want, hello := c.want, c.hello
			if !lax {
				want, hello = "501 ", ""
			}
			var conn *server.Conn
			var field string
			st := &store{newSession: func(_ context.Context, c *server.Conn) error {
				conn = c
				return nil
			}, data: func(context.Context, io.Reader) error {
				r := server.Received(conn)
				field = r.String()
				return nil
			}}
			p := dial(t, newServer(t, st, server.Options{Lax: lax}))
			p.expect("220 ")
			p.send(c.say + "\r\n")
			reply := p.reply()
			if !strings.HasPrefix(reply, want) || !isPrintable(reply) {
				t.Errorf("%q, lax %v: the server says %q, want %q", c.say, lax, reply, want)
			}
			p.ask("NOOP", "250 ")
			if conn.Hello() != hello {
				t.Errorf("%q, lax %v: Hello is %q, want %q", c.say, lax, conn.Hello(), hello)
			}
			if want != "501 " {
				p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ", "DATA", "354 ", ".", "250 ")
				if !isPrintable(field) || !strings.HasPrefix(field, "Received: from ") {
					t.Errorf("%q: the field is %q", c.say, field)
				}
			}
			p.quit()
		}
	}
}

// isPrintable reports whether s is printable ASCII in lines.
func isPrintable(s string) bool {
	text := strings.NewReplacer("\r\n", "", "\t", "").Replace(s)
	return strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// TestQ01_StatusCodes: replies carry status codes before EHLO and after it, and not after HELO (RFC 2034 section 4).
func TestQ01_StatusCodes(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.expect("220 mail.example ESMTP")
	p.ask("NOOP", "250 2.0.0 OK", "EHLO x", "250-mail.example", "NOOP", "250 2.0.0 OK", "FOO", "500 5.5.1 ",
		"HELO x", "250 mail.example", "NOOP", "250 OK", "MAIL FROM:<a@b.example> SIZE=1", "555 The",
		"EHLO x", "250-mail.example", "MAIL FROM:<a@b.example> SIZE=1", "250 2.1.0 ")
	p.quit()
}

// TestT01T03_Verbs: LHLO alone introduces a client, and content needs a recipient (RFC 2033 section 4).
func TestT01T03_Verbs(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Protocol: proto.LMTP}))
	p.expect("220 ")
	p.ask("EHLO x", "500 ", "HELO x", "500 ", "LHLO", "501 ", "LHLO x", "250-", "MAIL FROM:<a@b.example>", "250 ",
		"DATA", "503 ")
	p.quit()
}

// TestM01_LimitOfSize: the argument of SIZE is the limit, and missing if there is no limit (RFC 1870 section 4).
func TestM01_LimitOfSize(t *testing.T) {
	for limit, want := range map[int64]string{5000: "SIZE 5000\r\n", -1: "SIZE\r\n", 0: "SIZE 67108864\r\n"} {
		p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{MessageSize: limit}}))
		p.expect("220 ")
		p.send("EHLO client.example\r\n")
		if got := p.reply(); !strings.Contains(got, want) {
			t.Errorf("MaxSize %d: the server says %q, want %q in it", limit, got, want)
		}
		p.quit()
	}
}
