package server_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

func TestE10Z183_MaxRcpts(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{Limits: server.Limits{Rcpts: 100}}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "250 ")
	p.send(strings.Repeat("RCPT TO:<c@d.example>\r\n", 150)) // the same one counts each time
	for range 100 {
		p.expect("250 ")
	}
	for range 50 {
		p.expect("452 4.5.3")
	}
	p.ask("DATA", "354 ", ".", "250 ", "MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ")
	p.quit()
	if got := strings.Count(st.calls(), "rcpt"); got != 101 {
		t.Errorf("the session saw %d recipients, want 101", got)
	}
}

// TestP15_Submitter: who has submitted a message to begin with may be told by anybody, and reaches the session as the
// claim that it is (RFC 4954 section 5).
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

// TestC14C15_Lax: a space behind the colon is taken unless the server is strict, and missing brackets if it is lax. The
// refusal says what is wrong.
func TestC14C15_Lax(t *testing.T) {
	const space = "501 5.1.%d Bad %s address: no space may stand behind the colon\r\n"
	const bracket = "501 5.1.%d Bad %s address: it has to stand"
	for _, c := range []struct {
		opt      server.Options
		from, to string
		want     string // 250, or the refusal
	}{
		{server.Options{}, "FROM: <a@b.example>", "TO: <c@d.example>", "250 "},
		{server.Options{}, "from:   <a@b.example> SIZE=1", "to:  <c@d.example>", "250 "},
		{server.Options{}, "FROM:<a@b.example>", "TO:<c@d.example>", "250 "},
		{server.Options{}, "FROM: a@b.example", "TO: c@d.example", bracket},
		{server.Options{}, "FROM:a@b.example", "TO:c@d.example", bracket},
		{server.Options{Lax: true}, "FROM: <a@b.example>", "TO: <c@d.example>", "250 "},
		{server.Options{Lax: true}, "FROM: a@b.example", "TO: c@d.example", "250 "},
		{server.Options{Strict: true}, "FROM: <a@b.example>", "TO: <c@d.example>", space},
		{server.Options{Strict: true}, "FROM:<a@b.example>", "TO:<c@d.example>", "250 "},
	} {
		st := &store{}
		p := dial(t, newServer(t, st, c.opt))
		p.hello()
		if c.want == "250 " {
			p.ask("MAIL "+c.from, "250 ", "RCPT "+c.to, "250 ", "RSET", "250 ")
			if got := st.calls(); !strings.HasPrefix(got, "new, mail a@b.example, rcpt c@d.example, ") {
				t.Errorf("%s: the session is told %q", c.from, got)
			}
		} else {
			p.ask("MAIL "+c.from, fmt.Sprintf(c.want, 7, "sender"), "MAIL FROM:<a@b.example>", "250 ")
			p.ask("RCPT "+c.to, fmt.Sprintf(c.want, 3, "recipient"))
		}
		p.quit()
	}
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.hello()
	p.ask("MAIL FROM :<a@b.example>", "501 5.5.2 Syntax error: MAIL FROM:<address> expected", "MAIL FROM: <>", "250 ",
		"RCPT TO: <>", "501 ", "RCPT TO: ", "501 ", "RCPT : ", "501 ", "RCPT  ", "501 ", "RCPT TO: <Postmaster>", "250 ")
	p.quit()
}

// smallDisk is a session with room for 500 octets.
type smallDisk struct{ server.Session }

func (smallDisk) CheckSize(_ context.Context, size int64) error {
	if size > 500 {
		return &proto.Error{Code: 452, Status: proto.Status{4, 3, 1}, Text: "Disk full"}
	}
	return nil
}

// TestM03_NoRoom: a session refuses a size for which it has no room now, and accepts a smaller one.
func TestM03_NoRoom(t *testing.T) {
	p := dial(t, newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return smallDisk{discard{}}, nil
	}), server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example> SIZE=501", "452 4.3.1 Disk full", "RCPT TO:<c@d.example>", "503 ",
		"MAIL FROM:<a@b.example> SIZE=500", "250 ")
	p.quit()
}

// TestM07_SizeForRecipient: a recipient may have less room than others (RFC 1870 section 6.4).
func TestM07_SizeForRecipient(t *testing.T) {
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		switch to.Local {
		case "full":
			return &proto.Error{Code: 452, Status: proto.Status{4, 2, 2}, Text: "Mailbox full"}
		case "small":
			return &proto.Error{Code: 552, Status: proto.Status{5, 2, 3}, Text: "Too large"}
		}
		return nil
	}}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example> SIZE=5000", "250 ",
		"RCPT TO:<full@d.example>", "452 4.2.2 Mailbox full",
		"RCPT TO:<small@d.example>", "552 5.2.3 Too large",
		"RCPT TO:<large@d.example>", "250 ", "DATA", "354 ", "text\r\n.", "250 ")
	p.quit()
}

// A resetLooker is a session whose Reset looks at its connection.
type resetLooker struct {
	*session
	reset func(ctx context.Context)
}

func (s resetLooker) Reset(ctx context.Context) { s.reset(ctx) }

func dialLooker(t *testing.T, reset func(context.Context, *server.Conn)) *peer {
	t.Helper()
	b := server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return resetLooker{&session{&store{}}, func(ctx context.Context) { reset(ctx, c) }}, nil
	})
	p := dial(t, newServer(t, b, server.Options{}))
	p.hello()
	return p
}

// TestResetSeesNoTransaction: when Reset is called, the transaction is over.
func TestResetSeesNoTransaction(t *testing.T) {
	var with string
	var params proto.Params
	p := dialLooker(t, func(_ context.Context, c *server.Conn) { with, params = c.With(), c.MailParams() })
	p.ask("MAIL FROM:<a@b.example> SMTPUTF8 BODY=8BITMIME", "250", "RSET", "250")
	p.quit()
	if with != "ESMTP" || params.Has("SMTPUTF8") {
		t.Errorf("Reset sees %q and %v of the transaction", with, params)
	}
}

// TestResetAfterHangup: the context of Reset has ended if the client hung up.
func TestResetAfterHangup(t *testing.T) {
	var cause error
	p := dialLooker(t, func(ctx context.Context, _ *server.Conn) { cause = context.Cause(ctx) })
	p.ask("MAIL FROM:<a@b.example>", "250")
	p.nc.Close()
	<-p.done
	if cause != io.ErrUnexpectedEOF {
		t.Errorf("the context of Reset ended with %v, want %v", cause, io.ErrUnexpectedEOF)
	}
}
