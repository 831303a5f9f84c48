package server_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

func TestC23_MaxErrors(t *testing.T) {
	for _, c := range []struct {
		say, want string
		n         int
	}{
		{"FOO", "500 ", 20},
		{"", "500 ", 20},
		{"EHLO", "501 ", 20},
		{"MAIL FROM:<", "501 ", 20},
		{"MAIL FROM:<a@b.example> FOO=1", "555 5.5.4", 20},
		{"MAIL FROM:<reject@b.example>", "550 ", 20},
		{"RCPT TO:<c@d.example>", "503 ", 999}, // MAIL may have been refused, and this have been sent with it
		{"DATA", "503 ", 999},
		{"NOOP", "250 ", 999}, // EHLO is one of the thousand
		{"RSET", "250 ", 999},
		{"EHLO x", "250-", 999},
		{"VRFY x", "252 ", 999},
	} {
		t.Run(c.say, func(t *testing.T) {
			st := &store{mail: func(_ context.Context, from proto.Address, _ proto.Params) error {
				if from.Local == "reject" {
					return &proto.Error{Code: 550, Text: "no"}
				}
				return nil
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			for range c.n {
				p.ask(c.say, c.want)
			}
			p.ask(c.say, "421 ")
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
		})
	}
}

func TestH09Z150_MaxRefusedRcpts(t *testing.T) {
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		if to.Local == "reject" {
			return &proto.Error{Code: 550, Text: "no"}
		}
		return nil
	}}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	// H09: refused recipients are no reason to close, unless there are too many without a message.
	for range 2 {
		p.begin()
		for range 100 {
			p.ask("RCPT TO:<reject@d.example>", "550 ")
		}
		p.ask("DATA", "354 ", ".", "250 ")
	}
	p.begin()
	for range 100 {
		p.ask("RCPT TO:<reject@d.example>", "550 ")
	}
	p.ask("RCPT TO:<reject@d.example>", "421 4.7.0")
	<-p.done
}

// TestTooManyRecipientsAreJunk: one recipient more than a transaction may have is neither an error nor a bad recipient,
// but it cannot be named for ever.
func TestTooManyRecipientsAreJunk(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{Rcpts: 1, Junk: 2, RefusedRcpts: 1, Errors: 1}}))
	p.expect("220 mail.example")
	p.ask("EHLO client.example", "250-mail.example") // the first
	p.begin()
	p.ask("RCPT TO:<e@d.example>", "452 4.5.3", "RCPT TO:<e@d.example>", "421 4.7.0 Too many errors")
	if err := p.ended(); err == nil {
		t.Error("ServeConn returned nil")
	}
}

// TestAuthFailuresAreNotForgotten: an accepted message is no reason to forget attempts to authenticate.
func TestAuthFailuresAreNotForgotten(t *testing.T) {
	x := ext.Extension{
		Keyword: "XFAIL",
		Verbs:   []proto.Verb{{Name: "XFAIL", In: proto.Ready}},
		Serve: func(_ context.Context, x ext.Command) (proto.Reply, error) {
			denied, _ := x.AuthOutcome(ext.AuthOutcome{Denied: true, Err: errors.New("no")})
			return proto.Reply{Code: 250, Text: strconv.Itoa(denied)}, nil
		},
	}
	p := dial(t, newServer(t, &store{}, server.Options{Extensions: append(ehlo.Default(), x)}))
	p.hello()
	p.ask("XFAIL", "250 2.0.0 1")
	p.begin()
	p.ask("DATA", "354", "a\r\n.", "250", "XFAIL", "250 2.0.0 2")
	p.quit()
}

// TestReply421IsTheSessions: the 421 of a session is not replaced by that of a budget.
func TestReply421IsTheSessions(t *testing.T) {
	n := 0
	st := &store{rcpt: func(context.Context, proto.Address, proto.Params) error {
		if n++; n == 2 {
			return proto.Refuse(421, proto.Status{4, 3, 0}, "go away")
		}
		return proto.Refuse(550, proto.Status{5, 1, 1}, "no")
	}}
	p := dial(t, newServer(t, st, server.Options{Limits: server.Limits{RefusedRcpts: 1}}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", "550", "RCPT TO:<c@d.example>", "421 4.3.0 go away")
	_ = p.ended()
}
