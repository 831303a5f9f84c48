package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// memory is a connection in memory that plays a client: the input is given by turns, and each is over when the server
// reads on. It does without goroutines and memory of its own.
type memory struct {
	turns  chan []byte
	idle   chan struct{} // the server has dealt with the turn
	rest   []byte
	began  bool
	last   []byte // what the server wrote last
	writes int
}

func newMemory() *memory {
	return &memory{turns: make(chan []byte), idle: make(chan struct{}), last: make([]byte, 0, 64<<10)}
}

func (m *memory) Read(p []byte) (int, error) {
	if len(m.rest) == 0 {
		if m.began {
			m.idle <- struct{}{}
		}
		m.began = true
		var ok bool
		if m.rest, ok = <-m.turns; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

func (m *memory) Write(p []byte) (int, error) {
	m.last = append(m.last[:0], p...)
	m.writes++
	return len(p), nil
}

// turn gives input to the server and waits until it wants more.
func (m *memory) turn(input []byte) {
	m.turns <- input
	<-m.idle
}

func (m *memory) Close() error { return nil }

func (m *memory) LocalAddr() net.Addr { return nil }

func (m *memory) RemoteAddr() net.Addr { return nil }

func (m *memory) SetDeadline(time.Time) error { return nil }

func (m *memory) SetReadDeadline(time.Time) error { return nil }

func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// serveMemory serves m, past EHLO, until the function returned is called.
func serveMemory(t testing.TB, srv *server.Server, m *memory) (stop func()) {
	t.Helper()
	return serveAs(srv, m, m)
}

// serveAs is serveMemory for a connection nc to which m belongs.
func serveAs(srv *server.Server, m *memory, nc net.Conn) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeConn(context.Background(), nc)
	}()
	m.turn([]byte("EHLO client.example\r\n"))
	return func() {
		close(m.turns)
		<-done
	}
}

// TestL02L05_OneWritePerGroup: the replies to a pipelined group leave in one write (RFC 2920 section 3.2).
func TestL02L05_OneWritePerGroup(t *testing.T) {
	m := newMemory()
	defer serveMemory(t, discardServer(t), m)()
	group := "MAIL FROM:<a@b.example>\r\n" + strings.Repeat("RCPT TO:<c@d.example>\r\n", 50) + "DATA\r\n"
	for _, c := range []struct {
		name, say string
		replies   int
		writes    int
	}{
		{"MAIL, 50 RCPT and DATA", group, 52, 1},
		{"a message of 1000 lines", strings.Repeat("12345678\r\n", 1000) + ".\r\n", 1, 1},
		{"half a group", "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRC", 2, 1},
		{"the other half", "PT TO:<c@d.example>\r\n", 1, 1},
		// Of these, 354 cannot wait.
		{"one after the other", "DATA\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", 4, 2},
		{"what cannot wait", "NOOP\r\nFOO\r\nRSET\r\n", 3, 3},
	} {
		before := m.writes
		m.turn([]byte(c.say))
		if got := m.writes - before; got != c.writes {
			t.Errorf("%s: %d writes, want %d", c.name, got, c.writes)
		}
		if got := bytes.Count(m.last, []byte("\r\n")); c.writes == 1 && got != c.replies {
			t.Errorf("%s: %d replies, want %d", c.name, got, c.replies)
		}
	}
}

// TestZ188_PendingRepliesAreBounded: a client that sends without end and never waits does not make the server hold its
// replies without end.
func TestZ188_PendingRepliesAreBounded(t *testing.T) {
	m := newMemory()
	defer serveMemory(t, discardServer(t), m)()
	m.turn([]byte("MAIL FROM:<a@b.example>\r\n"))
	before := m.writes
	m.turn(bytes.Repeat([]byte("RCPT TO:<c@d.example>\r\n"), 900))
	if m.writes == before || cap(m.last) > 200<<10 {
		t.Errorf("900 replies took %d writes, with one of %d octets", m.writes-before, cap(m.last))
	}
}

// TestUTF8: addresses that are not ASCII have to be announced (RFC 6531 section 3.4), and replies are ASCII but for the
// addresses in 251 and 551 where they were (section 3.7.4.1).
func TestUTF8(t *testing.T) {
	const mailUTF8 = "MAIL FROM:<jörg@bücher.example> SMTPUTF8"
	var conn *server.Conn
	st := &store{newSession: func(_ context.Context, c *server.Conn) error { conn = c; return nil }}
	st.rcpt = func(_ context.Context, to proto.Address, _ proto.Params) error {
		code, err := strconv.Atoi(to.Domain.ASCII()[:3])
		r := proto.Reply{Code: code, Text: "see <" + strings.ReplaceAll(to.Local, "j", "müller") + "@c.example>"}
		if code >= 400 {
			return errors.Join(err, r.Err())
		}
		conn.Reply(r)
		return err
	}
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

func TestErrorsBecomeReplies(t *testing.T) {
	noUser := &proto.Error{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no such user"}
	var none *proto.Error
	text := func(text string) func(*server.Conn) { return func(c *server.Conn) { c.Accept(text) } }
	reply := func(code int, text string) func(*server.Conn) {
		return func(c *server.Conn) { c.Reply(proto.Reply{Code: code, Text: text}) }
	}
	for _, c := range []struct {
		name   string
		err    error
		want   string
		choose func(*server.Conn)
	}{
		{"nil", nil, "250 2.1.5 Recipient OK\r\n", nil},
		{"proto.Error", noUser, "550 5.1.1 no such user\r\n", nil},
		{"wrapped", fmt.Errorf("secret: %w", noUser), "550 5.1.1 no such user\r\n", nil},
		{"cause is not sent", &proto.Error{Code: 450, Text: "later", Err: errors.New("secret")},
			"450 4.2.1 later\r\n", nil},
		{"no text", &proto.Error{Code: 550}, "550 5.0.0 Refused\r\n", nil},
		{"success with a text", nil, "250 2.1.5 forwarded\r\n", text("forwarded")},
		{"success without a text", nil, "250 2.1.5 Recipient OK\r\n", text("")},
		{"251", nil, "251 2.1.5 will forward\r\n", reply(251, "will forward")},
		{"252 with a status", nil, "252 2.5.2 will try\r\n", func(c *server.Conn) {
			c.Reply(proto.Reply{Code: 252, Status: proto.Status{2, 5, 2}, Text: "will try"})
		}},
		{"the last choice", nil, "250 2.1.5 two\r\n", func(c *server.Conn) { c.Accept("secret"); c.Accept("two") }},
		{"a choice is taken back", nil, "250 2.1.5 Recipient OK\r\n", func(c *server.Conn) { c.Accept("secret"); c.Reply(proto.Reply{}) }},
		{"a choice and an error", noUser, "550 5.1.1 no such user\r\n", text("secret")},
		{"a refusal is chosen", nil, "451 4.3.0 Local error", reply(550, "secret")},
		{"an intermediate reply is chosen", nil, "451 4.3.0 Local error", reply(354, "secret")},
		{"a reply without a code is chosen", nil, "451 4.3.0 Local error", reply(0, "secret")},
		{"a code of four digits is chosen", nil, "451 4.3.0 Local error", reply(2500, "secret")},
		{"an error of success", &proto.Error{Code: 250, Text: "secret"}, "451 4.3.0 Local error", nil},
		{"plain error", errors.New("secret"), "451 4.3.0 Local error", nil},
		{"intermediate code", &proto.Error{Code: 354, Text: "secret"}, "451 4.3.0 Local error", nil},
		{"no code", &proto.Error{Text: "secret"}, "451 4.3.0 Local error", nil},
		{"code of four digits", &proto.Error{Code: 5000, Text: "secret"}, "451 4.3.0 Local error", nil},
		{"typed nil", none, "451 4.3.0 Local error", nil},
		{"injection", &proto.Error{Code: 550, Text: "a\r\n250 ok\x00"}, "550-5.0.0 a\r\n550 5.0.0 250 ok?\r\n", nil},
		{"421 of a server behind", &proto.Error{Code: 421, Text: "busy", Verb: "RCPT"}, "451 4.3.0 busy\r\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var conn *server.Conn
			st := &store{
				newSession: func(_ context.Context, c *server.Conn) error { conn = c; return nil },
				rcpt: func(context.Context, proto.Address, proto.Params) error {
					if c.choose != nil {
						c.choose(conn)
					}
					return c.err
				},
			}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 2.1.0")
			p.send("RCPT TO:<c@d.example>\r\n")
			got := p.reply()
			if !strings.HasPrefix(got, c.want) || strings.Contains(got, "secret") {
				t.Errorf("the reply is %q, want %q", got, c.want)
			}
			// What decides the state is the class of the reply that was sent.
			want := "503 5.5.1"
			if got[0] == '2' {
				want = "354 "
			}
			p.ask("DATA", want)
		})
	}
}

// TestChoiceHoldsOnce: a reply that a method has chosen answers nothing but that method.
func TestChoiceHoldsOnce(t *testing.T) {
	var conn *server.Conn
	st := &store{
		newSession: func(_ context.Context, c *server.Conn) error {
			conn = c
			c.Accept("secret") // NewSession is no method of the session
			return nil
		},
		mail: func(_ context.Context, from proto.Address, _ proto.Params) error {
			if from.Local == "refused" {
				conn.Accept("secret")
				return &proto.Error{Code: 550, Text: "no"}
			}
			return nil
		},
		rcpt: func(context.Context, proto.Address, proto.Params) error { return nil },
		data: func(_ context.Context, r io.Reader) error {
			conn.Accept("kept")
			_, err := io.Copy(io.Discard, r)
			return err
		},
	}
	p := dial(t, newServer(t, authStore{st}, server.Options{AllowInsecureAuth: true}))
	p.expect("220 mail.example ESMTP ready\r\n")
	p.ask("EHLO client.example", "250-mail.example", plain("alice", "secret"), "235 2.7.0 Authenticated\r\n",
		"MAIL FROM:<refused@b.example>", "550 5.0.0 no\r\n", "MAIL FROM:<a@b.example>", "250 2.1.0 Sender OK\r\n",
		"RCPT TO:<c@d.example>", "250 2.1.5 Recipient OK\r\n")
	// A choice waits for the end of the message, past all that is answered before.
	p.chunk("BDAT 3", "abc", "250 2.0.0 3 octets received\r\n")
	p.ask("NOOP", "250 2.0.0 OK\r\n", "MAIL FROM:<a@b.example>", "503 5.5.1")
	p.chunk("BDAT 3 LAST", "abc", "250 2.0.0 kept\r\n")
	p.ask("NOOP", "250 2.0.0 OK\r\n")
	// A message that is given up takes its choice along, and one that is malformed is refused whatever was chosen.
	p.begin()
	p.chunk("BDAT 3", "abc", "250 2.0.0 3 octets received\r\n")
	p.ask("RSET", "250 2.0.0 OK\r\n", "MAIL FROM:<a@b.example>", "250 2.1.0 Sender OK\r\n",
		"RCPT TO:<c@d.example>", "250 2.1.5 Recipient OK\r\n", "DATA", "354 ", "a\nb\r\n.", "554 5.6.0")
	p.quit()
}

func TestReply421Closes(t *testing.T) {
	st := &store{mail: func(context.Context, proto.Address, proto.Params) error {
		return &proto.Error{Code: 421, Text: "enough"}
	}}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "421 4.")
	var e *proto.Error
	if err := p.ended(); !errors.As(err, &e) || e.Code != 421 {
		t.Errorf("ServeConn returned %v, want the 421", err)
	}
}
