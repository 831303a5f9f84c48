package server_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestP04_Challenges: a challenge is 334, a space and base64, which may be empty (RFC 4954 section 4).
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
		x.AuthOutcome(ext.AuthOutcome{Identity: name})
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

// TestP17Z87_AuthFailures: a client has three attempts, and the fourth ends the connection.
func TestP17Z87_AuthFailures(t *testing.T) {
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

// TestP09_ExchangeLine: a line of 12288 octets is accepted, a longer one refused and skipped (RFC 4954 section 4).
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

// TestChoiceOfHelp: what is chosen for a command of an extension is not the reply to the message that follows.
func TestChoiceOfHelp(t *testing.T) {
	st := &store{}
	b := server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return helpful{&session{st}, c}, nil
	})
	p := dial(t, newServer(t, b, server.Options{}))
	p.hello()
	p.begin()
	p.ask("HELP", "214", "DATA", "354", "a\r\n.", "250 2.0.0 Message accepted")
	p.quit()
}

type helpful struct {
	*session
	c *server.Conn
}

func (s helpful) Help(context.Context, string) (string, error) {
	s.c.Accept("of HELP")
	return "help yourself", nil
}

// TestUTF8OfOneCommand: a command that permits UTF-8 permits it in its own reply only.
func TestUTF8OfOneCommand(t *testing.T) {
	st := &store{mail: func(context.Context, proto.Address, proto.Params) error {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "grüße")
	}}
	x := ext.Extension{
		Keyword: "XUTF",
		Verbs:   []proto.Verb{{Name: "XUTF", In: proto.Session, Last: true}},
		Serve: func(_ context.Context, x ext.Command) (proto.Reply, error) {
			x.PermitUTF8()
			return proto.Reply{Code: 250, Text: "grüße"}, nil
		},
	}
	p := dial(t, newServer(t, st, server.Options{Extensions: append(ehlo.Default(), x)}))
	p.hello()
	p.ask("XUTF", "250 2.0.0 grüße", "MAIL FROM:<a@b.example>", "550 5.7.1 gr?")
	p.quit()
}

// TestUTF8NotBeyondHandover: UTF-8 that was permitted in the reply to a command is not permitted behind a hand-over.
func TestUTF8NotBeyondHandover(t *testing.T) {
	x := ext.Extension{Keyword: "XHAND", Verbs: []proto.Verb{{Name: "XHAND", In: proto.Ready, Last: true, OK: proto.Handover}},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			x.PermitUTF8()
			return proto.Reply{}, x.Handover(ctx, proto.Reply{Code: 220}, func(_ context.Context, nc net.Conn) (net.Conn, error) { return nc, nil })
		}}
	s := newServer(t, &store{mail: func(context.Context, proto.Address, proto.Params) error {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "grüße")
	}}, server.Options{Extensions: append(ehlo.Default(), x)})
	p := dial(t, s)
	p.hello()
	p.ask("XHAND", "220", "EHLO x", "250", "MAIL FROM:<a@b.example>", "550 5.7.1 gr??")
	p.quit()
}
