package proto_test

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

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
