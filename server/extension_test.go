package server_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// greeter is an extension as a stranger might write it: a keyword, a parameter and verbs.
func greeter() ext.Extension {
	const states = proto.Ready | proto.Mail | proto.Rcpt
	return ext.Extension{
		Keyword: "XGREETER",
		Verbs: []proto.Verb{
			{Name: "XGREET", In: states},
			{Name: "XASK", In: proto.Ready, Last: true, More: proto.Exchange},
			{Name: "XTAKE", In: proto.Ready, Last: true, OK: proto.Handover},
			{Name: "XNEVER", In: states, OK: proto.Never},
			{Name: "XNOBODY", In: states},
		},
		Mail:      []ext.Param{{Key: "XMOOD", MaxLength: 20, Values: []string{"GOOD", "BAD"}}},
		Advertise: func(x ext.ServerConn) (string, bool) { return "for " + x.Hostname(), x.Hello() != "stranger" },
		CheckMail: func(_ context.Context, _ ext.ServerConn, from proto.Address, p proto.Params) error {
			if mood, _ := p.Get("XMOOD"); strings.EqualFold(mood, "BAD") {
				return &proto.Error{Code: 550, Text: "cheer up, " + from.Local}
			}
			return nil
		},
		CheckRcpt: func(_ context.Context, x ext.ServerConn, to proto.Address, _ proto.Params) error {
			if x.MailParams().Has("XMOOD") && to.Local == "grump" {
				return errors.New("secret")
			}
			return nil
		},
		Guard: func(_ context.Context, x ext.ServerConn, v *proto.Verb, args string) error {
			if v.Name == "NOOP" && args == "twice" {
				return &proto.Error{Code: 450, Text: "once is enough"}
			}
			return nil
		},
		Serve: serveGreeter,
	}
}

func serveGreeter(ctx context.Context, x ext.Command) (proto.Reply, error) {
	switch x.Verb().Name {
	case "XGREET":
		return proto.Reply{Code: 250, Text: "hello " + x.Args()}, nil
	case "XASK":
		name, err := x.Challenge(ctx, proto.Reply{Code: 334, Text: "your name?"})
		if err != nil {
			return proto.Reply{}, err
		}
		x.Authenticated(name)
		return proto.Reply{Code: 250, Text: "hello " + name}, nil
	case "XTAKE":
		if x.Args() == "slowly" {
			<-time.After(time.Second)
		}
		yours := proto.Reply{Code: 220, Text: "yours"}
		return proto.Reply{}, x.Handover(ctx, yours, func(_ context.Context, nc net.Conn) (net.Conn, error) {
			if x.Args() == "nothing" {
				return nil, nil
			}
			b := make([]byte, 3)
			if _, err := nc.Read(b); err != nil || string(b) != "abc" {
				return nil, errors.Join(err, errors.New("not what was sent behind"))
			}
			return nc, nil
		})
	}
	return proto.Reply{}, nil // XNEVER cannot have that; XNOBODY can
}

func greeterServer(t *testing.T, st *store) *server.Server {
	return newServer(t, st, server.Options{Extensions: append(ehlo.Default(), greeter())})
}

func TestExtension(t *testing.T) {
	st := &store{}
	p := dial(t, greeterServer(t, st))
	p.expect("220 ")
	p.send("EHLO client.example\r\n")
	if got := p.reply(); !strings.Contains(got, "XGREETER for mail.example\r\n") {
		t.Errorf("the server says %q to EHLO", got)
	}
	p.ask("XGREET world", "250 2.0.0 hello world",
		"XASK", "334 your name?", "bob", "250 2.0.0 hello bob",
		"XNOBODY", "250 ",
		"NOOP twice", "450 4.", "NOOP once", "250 ",
		"MAIL FROM:<a@b.example> XMOOD=BAD", "550 5.0.0 cheer up, a",
		"MAIL FROM:<a@b.example> XMOOD=UGLY", "501 5.5.4",
		"MAIL FROM:<a@b.example> XMOOD=good", "250 ",
		"XASK", "503 ",
		"RCPT TO:<grump@d.example>", "451 4.3.0 Local error",
		"RCPT TO:<c@d.example>", "250 ", "DATA", "354 ", ".", "250 ")
	p.ask("EHLO stranger", "250-", "MAIL FROM:<a@b.example> XMOOD=GOOD", "555 5.5.4")
	// A reply that the verb cannot have is a mistake that nothing can be made of.
	p.ask("XNEVER", "421 4.3.0")
	<-p.done
	if got := st.calls(); strings.Count(got, "mail") != 1 || strings.Count(got, "rcpt") != 1 {
		t.Errorf("called %s, want nothing of what was refused", got)
	}
}

func TestExtensionUnknownWithoutIt(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Extensions: []ext.Extension{}}))
	p.expect("220 ")
	p.ask("EHLO x", "250 mail.example", // a single line: there is nothing on offer
		"XGREET x", "500 ", "VRFY x", "500 ", "BDAT 0", "500 ", "AUTH PLAIN", "500 ",
		"MAIL FROM:<a@b.example> SIZE=1", "555 ",
		"MAIL FROM:<a@b.example>", "250 Sender OK", // and so no status codes
		"FOO", "500 Command")
	p.quit()
}

func TestVerbWithoutServe(t *testing.T) {
	e := ext.Extension{Keyword: "XIDLE", Verbs: []proto.Verb{{Name: "XIDLE", In: proto.Session}}}
	p := dial(t, newServer(t, &store{}, server.Options{Extensions: []ext.Extension{e}}))
	p.expect("220 ")
	p.ask("XIDLE", "502 ")
	p.quit()
}

func TestHandover(t *testing.T) {
	t.Run("with what was sent behind", func(t *testing.T) {
		st := &store{}
		p := dial(t, greeterServer(t, st))
		p.hello()
		p.ask("XASK", "334 ", "bob", "250 ")
		p.send("XTAKE\r\nabc")
		p.expect("220 ")
		p.ask("MAIL FROM:<a@b.example>", "503 ", "EHLO x", "250-")
		p.begin()
		p.quit()
		if got, want := st.calls(), "new, close, new, "; !strings.HasPrefix(got, want) {
			t.Errorf("called %s, want %s", got, want)
		}
	})
	t.Run("with what was sent before its time", func(t *testing.T) {
		inBubble(t, time.Second, func(t *testing.T) {
			p := dial(t, greeterServer(t, &store{}))
			p.hello()
			p.send("XTAKE slowly\r\n")
			<-time.After(time.Second / 2)
			p.send("abc")
			p.expect("220 ")
			p.ask("EHLO x", "250-")
			p.quit()
		})
	})
	for _, c := range []struct{ name, say string }{
		{"refused", "XTAKE\r\nxyz"},
		{"not given back", "XTAKE nothing\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dial(t, greeterServer(t, &store{}))
			p.hello()
			p.send(c.say)
			p.expect("220 ")
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
		})
	}
}

// TestHello: what a client can say of itself, and what follows from it.
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

// TestQ01_StatusCodes: replies carry them before any greeting and after EHLO, and not after HELO (RFC 2034 section 4).
func TestQ01_StatusCodes(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.expect("220 mail.example ESMTP")
	p.ask("NOOP", "250 2.0.0 OK", "EHLO x", "250-mail.example", "NOOP", "250 2.0.0 OK", "FOO", "500 5.5.1 ",
		"HELO x", "250 mail.example", "NOOP", "250 OK", "MAIL FROM:<a@b.example> SIZE=1", "555 The",
		"EHLO x", "250-mail.example", "MAIL FROM:<a@b.example> SIZE=1", "250 2.1.0 ")
	p.quit()
}

// TestUTF8: addresses that are not ASCII have to be announced (RFC 6531 section 3.4), and replies are ASCII but for the
// addresses in 251 and 551 where they were (section 3.7.4.1).
func TestUTF8(t *testing.T) {
	const mailUTF8 = "MAIL FROM:<jörg@bücher.example> SMTPUTF8"
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		code, err := strconv.Atoi(to.Domain.ASCII()[:3])
		return errors.Join(err, &proto.Error{Code: code, Text: "see <" + strings.ReplaceAll(to.Local, "j", "müller") + "@c.example>"})
	}}
	for _, c := range []struct {
		name string
		ask  []string
	}{
		{"S03 announced", []string{mailUTF8, "250 ", "RCPT TO:<jörg@250.example>", "250 "}},
		{"S03 sender", []string{"MAIL FROM:<jörg@b.example>", "550 5.6.7"}},
		{"S03 domain", []string{"MAIL FROM:<j@bücher.example>", "550 5.6.7"}},
		{"S03 recipient", []string{"MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<jörg@250.example>", "553 5.6.7"}},
		{"S05 in 251", []string{mailUTF8, "250 ", "RCPT TO:<j@251.example>", "251 2.1.5 see <müller@c.example>\r\n"}},
		{"S05 in 551", []string{mailUTF8, "250 ", "RCPT TO:<j@551.example>", "551 5.1.6 see <müller@c.example>\r\n"}},
		{"S05 nowhere else", []string{mailUTF8, "250 ", "RCPT TO:<j@550.example>", "550 5.0.0 see <m?ller@c.example>\r\n",
			"RCPT TO:<j@250.example>", "250 2.1.5 see <m?ller@c.example>\r\n"}},
		{"S05 not announced", []string{"MAIL FROM:<a@b.example>", "250 ",
			"RCPT TO:<j@251.example>", "250 2.1.5 The message will be forwarded\r\n",
			"RCPT TO:<j@551.example>", "550 5.1.6 The user has another address now\r\n",
			"RCPT TO:<j@553.example>", "553 5.1.3 see <m?ller@c.example>\r\n"}},
		{"S05 not needed", []string{"MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<x@251.example>", "251 2.1.5 see <x@c.example>\r\n"}},
		{"S05 not any more", []string{mailUTF8, "250 ", "RSET", "250 ", "MAIL FROM:<a@b.example>", "250 ",
			"RCPT TO:<j@551.example>", "550 5.1.6 The user"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			p.ask(c.ask...)
			p.quit()
		})
	}
}

func TestC14C15_Lax(t *testing.T) {
	for _, c := range []struct {
		lax  bool
		want string
	}{{false, "501 "}, {true, "250 "}} {
		p := dial(t, newServer(t, &store{}, server.Options{Lax: c.lax}))
		p.hello()
		p.ask("MAIL FROM: <a@b.example>", c.want)
		p.quit()
	}
}
