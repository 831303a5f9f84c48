package server_test

import (
	"context"
	"testing"

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

func TestH09_MaxRefusedRcpts(t *testing.T) {
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
