package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestTransactionIsTraced checks what the Trace and the log are told of transactions: one that succeeds, one that is
// refused, and one that the client gives up.
func TestTransactionIsTraced(t *testing.T) {
	var log bytes.Buffer
	var got []string
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		if to.Local == "bad" {
			return proto.Refuse(550, proto.Status{5, 1, 1}, "no such user")
		}
		return nil
	}}
	trace := &server.Trace{Transaction: func(_ context.Context, c *server.Conn, a *server.Transaction) {
		var to []string
		for _, r := range a.To {
			to = append(to, r.Address.String())
		}
		size, _ := a.Params.Get("SIZE")
		got = append(got, fmt.Sprint(a.From, " ", size, " ", to, " ", a.RcptsRefused, " ", a.Octets, " ", a.Reply.Code, " ",
			len(a.Verdicts)))
		st.note("traced")
	}}
	var conn *server.Conn
	st.newSession = func(_ context.Context, c *server.Conn) error { conn = c; return nil }
	st.mail = func(context.Context, proto.Address, proto.Params) error {
		conn.Record(server.Verdict{Method: "spf", Result: "pass"})
		return nil
	}
	srv := newServer(t, st, server.Options{
		Trace: trace, Limits: server.Limits{MessageSize: 10},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	p := dial(t, srv)
	p.hello()
	p.ask("MAIL FROM:<a@b.example> SIZE=5", "250 ", "RCPT TO:<c@d.example>", "250 ", "RCPT TO:<bad@d.example>", "550 ",
		"RCPT TO:<e@f.example>", "250 ", "DATA", "354 ", "hello\r\n.", "250 ",
		"MAIL FROM:<>", "250 ", "RCPT TO:<c@d.example>", "250 ", "DATA", "354 ", "much too long\r\n.", "552 ",
		"MAIL FROM:<a@b.example>", "250 ", "RSET", "250 ")
	p.quit()
	want := []string{
		"a@b.example 5 [c@d.example e@f.example] 1 7 250 1",
		"  [c@d.example] 0 15 552 1",
		"a@b.example  [] 0 0 0 1",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("traced are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if calls := st.calls(); !strings.Contains(calls, "traced, reset") || strings.Contains(calls, "reset, traced") {
		t.Errorf("the calls are %s", calls)
	}
	for _, want := range []string{
		`msg="smtp: connected"`, `msg="smtp: closed"`, `from=a@b.example rcpts=2 refused=1 octets=7 code=250`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, &log)
		}
	}
}

// TestStats checks the counters against what happened on the wire.
func TestStats(t *testing.T) {
	config, _ := tlsPair(t)
	var refused []string
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		if to.Local == "panic" {
			panic("on purpose")
		}
		return nil
	}}
	srv := newServer(t, st, server.Options{
		TLSConfig: config, Limits: server.Limits{Conns: 1, MessageSize: 10}, Logger: quiet,
		Trace: &server.Trace{Refused: func(_ context.Context, _ *server.Conn, e *proto.Error) {
			refused = append(refused, e.Text)
		}},
	})
	p := dial(t, srv)
	p.hello()
	q := dial(t, srv)
	q.expect("421 ")
	if err := q.ended(); err == nil {
		t.Error("ServeConn says that the client said QUIT")
	}
	if got := srv.Stats(); got.Open != 1 {
		t.Errorf("%d connections are open", got.Open)
	}
	p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ", "RCPT TO:<c d>", "501 ", "DATA", "354 ",
		"hello\r\n.", "250 ",
		"MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ", "DATA", "354 ", "much too long\r\n.", "552 ",
		"STARTTLS", "220 ", "no handshake", "")
	p.ended()
	p = dial(t, srv)
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<panic@d.example>", "421 ")
	p.ended()
	want := server.Stats{
		Conns: 2, ConnsRefused: 1, HandshakesFailed: 1, Messages: 1, MessagesRefused: 1, Octets: 7 + 15, Rcpts: 2,
		RcptsRefused: 1, Panics: 1,
	}
	if got := srv.Stats(); got != want {
		t.Errorf("the counters are\n%+v, want\n%+v", got, want)
	}
	if len(refused) != 1 || !strings.Contains(refused[0], "Too many connections") {
		t.Errorf("refused were %q", refused)
	}
	if b, err := json.Marshal(srv.Stats()); err != nil || !strings.Contains(string(b), `"Messages":1`) {
		t.Errorf("as JSON that is %s, %v", b, err)
	}
}

// TestRefusedPanics checks that a panic in the Trace of a connection over the limit ends that connection, and no other.
func TestRefusedPanics(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{
		Limits: server.Limits{Conns: 1}, Logger: quiet,
		Trace: &server.Trace{Refused: func(context.Context, *server.Conn, *proto.Error) { panic("on purpose") }},
	})
	p := dial(t, srv)
	p.hello()
	q := dial(t, srv)
	for q.reply() != "" {
	}
	<-q.done
	p.quit()
}
