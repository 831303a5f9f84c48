package prototest

import (
	"math/rand/v2"
	"testing"

	"smtpkit.example/smtp/proto"
)

// TestPair sends a message in two flights, and delivers octet by octet.
func TestPair(t *testing.T) {
	table := smtpTable(t)
	p := NewPair(table)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for !p.Quiet() {
			if err := p.Deliver(1); err != nil {
				t.Fatal(err)
			}
		}
	}
	do(p.Greet())
	do(p.Command(table.Lookup("EHLO"), "x"))
	p.TX.SetGroups(true)
	if err := p.Command(table.Lookup("MAIL"), "FROM:<a@b>"); err != nil || p.Quiet() || p.RX.State() != proto.Ready {
		t.Errorf("a command moves before Deliver: %v, the server is in %v", err, p.RX.State())
	}
	do(p.Command(table.Lookup("RCPT"), "TO:<c@d>"))
	do(p.Command(table.Lookup("DATA"), ""))
	do(p.Content("hi"))
	if p.TX.State() != proto.Ready || p.RX.State() != proto.Ready || p.Replies != 6 {
		t.Errorf("the client is in %v, the server in %v, after %d replies", p.TX.State(), p.RX.State(), p.Replies)
	}
	if err := p.Payload("x"); err == nil {
		t.Error("a payload that no command has announced is sent")
	}
	if err := p.Line("x"); err == nil {
		t.Error("a line is sent without an exchange")
	}
}

func TestRandomDialogue(t *testing.T) {
	args := func(*rand.Rand, *proto.Verb) (string, string) { return "x", "" }
	agreed := RandomDialogue(t, smtpTable(t), rand.New(rand.NewPCG(1, 1)), 20_000, args)
	for _, s := range []proto.State{proto.Hello, proto.Ready, proto.Mail, proto.Rcpt, proto.Content, proto.Closed} {
		if agreed[s] == 0 {
			t.Errorf("the dialogue never came to %v", s)
		}
	}
}
