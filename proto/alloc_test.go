package proto_test

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

// feed hands text to the engine's buffer.
func feed(e interface {
	Space() []byte
	Filled(int)
}, text string) {
	for len(text) > 0 {
		n := copy(e.Space(), text)
		e.Filled(n)
		text = text[n:]
	}
}

// TestReceiverAllocs counts the allocations of a transaction on a server's engine: none.
func TestReceiverAllocs(t *testing.T) {
	rx := proto.NewReceiver(table(t, proto.SMTP), proto.Limits{})
	out := make([]byte, 0, 4096)
	var refused *proto.Error
	pump := func() {
		for {
			ev := rx.Next()
			switch ev.Kind {
			case proto.Command:
				refused = ev.Err
			case proto.NeedInput:
				return
			case proto.NeedReply:
				r := proto.Reply{Code: 250, Status: proto.Status{2, 1, 0}, Text: "fine"}
				switch {
				case refused != nil:
					r = refused.Reply()
				case ev.Verb.OK == proto.Never:
					r = proto.Reply{Code: 354, Text: "go on"}
				}
				var err error
				if out, err = rx.AppendReply(out[:0], r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	rx.SetStatus(true)
	if _, err := rx.AppendReply(nil, proto.Reply{Code: 220}); err != nil {
		t.Fatal(err)
	}
	feed(rx, "EHLO x\r\n")
	pump()
	const group = "MAIL FROM:<a@b> SIZE=10\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n"
	content := strings.Repeat("..line\r\nanother\r\n", 100) + ".\r\n"
	allocs := testing.AllocsPerRun(100, func() {
		feed(rx, group)
		pump()
		feed(rx, content)
		pump()
		feed(rx, "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nNOPE\r\nRSET\r\n")
		pump()
	})
	if allocs != 0 || rx.State() != proto.Ready {
		t.Errorf("%v allocations for a transaction, want none (state %v)", allocs, rx.State())
	}
}

// TestSenderAllocs counts those of a transaction on a client's engine.
func TestSenderAllocs(t *testing.T) {
	tab := table(t, proto.SMTP)
	tx := proto.NewSender(tab, proto.Limits{})
	tx.SetGroups(true)
	tx.SetStatus(true)
	mail, rcpt, data := tab.Lookup("MAIL"), tab.Lookup("RCPT"), tab.Lookup("DATA")
	from, to := []byte("FROM:<a@b>"), []byte("TO:<c@d>")
	body := []byte(strings.Repeat(".line\r\nanother\r\n", 100))
	out := make([]byte, 0, 8192)
	answers := 0
	answer := func(text string) {
		feed(tx, text)
		for {
			ev := tx.Next()
			if ev.Kind != proto.Answer {
				if ev.Kind == proto.Fatal {
					t.Fatal(ev.Err)
				}
				return
			}
			for range ev.Reply.Lines() {
				answers++
			}
		}
	}
	must := func(b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out = b
	}
	answer("220 x\r\n")
	must(tx.AppendCommand(out[:0], tab.Lookup("EHLO"), to))
	answer("250-x\r\n250 PIPELINING\r\n")
	answers = 0
	const runs = 100
	allocs := testing.AllocsPerRun(runs, func() {
		must(tx.AppendCommand(out[:0], mail, from))
		must(tx.AppendCommand(out, rcpt, to))
		must(tx.AppendCommand(out, data, nil))
		answer("250 2.1.0 fine\r\n250-2.1.5 fine\r\n250 2.1.5 fine\r\n354 go on\r\n")
		must(tx.AppendBody(out[:0], body))
		must(tx.AppendEnd(out))
		answer("250 2.0.0 queued\r\n")
	})
	if allocs != 0 || answers != 5*(runs+1) {
		t.Errorf("%v allocations for a transaction, want none (%d lines of replies)", allocs, answers)
	}
}
