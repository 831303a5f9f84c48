package proto_test

import (
	"errors"
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

// greeted returns a Sender of a session in which EHLO has been answered.
func greeted(t *testing.T, tab *proto.Table) *proto.Sender {
	t.Helper()
	tx := proto.NewSender(tab, proto.Limits{})
	answered(t, tx, "220 mail.example\r\n", 1)
	send(t, tx, tab, "EHLO", "client.example")
	answered(t, tx, "250 mail.example\r\n", 1)
	return tx
}

// send appends a command, which must be allowed, and returns what was appended.
func send(t *testing.T, tx *proto.Sender, tab *proto.Table, name, args string) string {
	t.Helper()
	out, err := tx.AppendCommand(nil, tab.Lookup(name), []byte(args))
	if err != nil {
		t.Fatalf("%s %s: %v", name, args, err)
	}
	return string(out)
}

// answered gives text to tx, and finds as many Answers in it as are wanted. It returns what the last one was.
func answered(t *testing.T, tx *proto.Sender, text string, want int) (verb *proto.Verb, reply proto.Reply) {
	t.Helper()
	feed(tx, text)
	for got := 0; ; got++ {
		ev := tx.Next()
		if ev.Kind != proto.Answer {
			if got != want {
				t.Fatalf("%q has %d answers, want %d; then comes %+v", text, got, want, ev)
			}
			return verb, reply
		}
		verb, reply = ev.Verb, ev.Reply.Reply()
	}
}

// TestSenderArguments finds that nothing which could end a line or a command early is sent, and that a refused command
// leaves no trace.
func TestSenderArguments(t *testing.T) {
	tab := table(t, proto.SMTP)
	tx := greeted(t, tab)
	long := strings.Repeat("x", 512-len("NOOP \r\n"))
	for _, args := range []string{
		"a\r\nRCPT TO:<evil@x>", "a\n", "a\r", "\x00", "\x7f", "\t", "\xff", "\xed\xa0\x80", long + "x",
	} {
		out, err := tx.AppendCommand([]byte("before"), tab.Lookup("NOOP"), []byte(args))
		if err == nil || string(out) != "before" || tx.Outstanding() != 0 {
			t.Errorf("%.40q: %q, %v, with %d outstanding", args, out, err, tx.Outstanding())
		}
	}
	other := table(t, proto.SMTP)
	if _, err := tx.AppendCommand(nil, other.Lookup("NOOP"), nil); err == nil {
		t.Error("a verb of another table was accepted")
	}
	for _, args := range []string{"", "x", "é", long} {
		want := strings.TrimSuffix("NOOP "+args, " ") + "\r\n"
		if got := send(t, tx, tab, "NOOP", args); got != want {
			t.Errorf("%.40q is sent as %q", args, got)
		}
		answered(t, tx, "250 ok\r\n", 1)
	}
}

// TestSenderMustWait has commands before the replies to earlier ones, with and without PIPELINING.
func TestSenderMustWait(t *testing.T) {
	tab := table(t, proto.SMTP)
	tx := greeted(t, tab)
	refused := func(name, args string, want error) {
		t.Helper()
		if out, err := tx.AppendCommand(nil, tab.Lookup(name), []byte(args)); !errors.Is(err, want) || len(out) != 0 {
			t.Errorf("%s: %q, %v, want %v", name, out, err, want)
		}
	}
	refused("RCPT", "TO:<c@d>", proto.ErrSequence)
	send(t, tx, tab, "MAIL", "FROM:<a@b>")
	refused("RCPT", "TO:<c@d>", proto.ErrMustWait)
	tx.SetGroups(true)
	send(t, tx, tab, "RCPT", "TO:<c@d>")
	send(t, tx, tab, "DATA", "")
	refused("RSET", "", proto.ErrMustWait) // DATA ends the group
	if _, err := tx.AppendBody(nil, []byte("x")); !errors.Is(err, proto.ErrSequence) {
		t.Errorf("content before 354: %v", err)
	}
	if tx.State() != proto.Ready || tx.Ahead() != proto.Content || tx.Outstanding() != 3 {
		t.Errorf("in %v, ahead %v, %d outstanding", tx.State(), tx.Ahead(), tx.Outstanding())
	}
	answered(t, tx, "250 ok\r\n250 ok\r\n354 go on\r\n", 3)
	out, err := tx.AppendBody(nil, []byte(".dot\nlast"))
	if err == nil {
		out, err = tx.AppendEnd(out)
	}
	if err != nil || string(out) != "..dot\r\nlast\r\n.\r\n" {
		t.Errorf("content is sent as %q, %v (RFC 5321 section 4.5.2)", out, err)
	}
}

// TestSenderPayload has a chunk whose octets are too few, too many and right.
func TestSenderPayload(t *testing.T) {
	tab := table(t, proto.SMTP)
	tx := greeted(t, tab)
	tx.SetGroups(true)
	send(t, tx, tab, "MAIL", "FROM:<a@b>")
	send(t, tx, tab, "RCPT", "TO:<c@d>")
	send(t, tx, tab, "BDAT", "5 LAST")
	if out, err := tx.AppendPayload(nil, []byte("123")); string(out) != "123" || err != nil {
		t.Fatalf("%q, %v", out, err)
	}
	if _, err := tx.AppendCommand(nil, tab.Lookup("RSET"), nil); !errors.Is(err, proto.ErrPayload) {
		t.Errorf("RSET with two octets missing: %v", err)
	}
	if out, err := tx.AppendPayload([]byte("b"), []byte("456")); string(out) != "b" || !errors.Is(err, proto.ErrPayload) {
		t.Errorf("an octet too many: %q, %v", out, err)
	}
	if _, err := tx.AppendPayload(nil, []byte("45")); err != nil {
		t.Error(err)
	}
	answered(t, tx, "250 ok\r\n250 ok\r\n250 ok\r\n", 3)
	if tx.State() != proto.Ready || tx.Rcpts() != 1 {
		t.Errorf("in %v with %d recipients", tx.State(), tx.Rcpts())
	}
}

// TestSenderFatal has servers that break the protocol, each on a connection of its own.
func TestSenderFatal(t *testing.T) {
	tab := table(t, proto.SMTP)
	for _, tt := range []struct {
		name, said string
		want       error
	}{
		{"a reply to nothing", "250 ok\r\n", proto.ErrOutOfStep},
		{"not a reply", "HTTP/1.1 200 OK\r\n", proto.ErrReply},
		{"LF without CR", "250 ok\n", proto.ErrReply},
	} {
		tx := greeted(t, tab)
		feed(tx, tt.said)
		for range 2 { // it stays so
			if ev := tx.Next(); ev.Kind != proto.Fatal || !errors.Is(ev.Err, tt.want) {
				t.Errorf("%s: %+v, want %v", tt.name, ev, tt.want)
			}
		}
		if _, err := tx.AppendCommand(nil, tab.Lookup("NOOP"), nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: a command afterwards: %v", tt.name, err)
		}
	}
	tx := greeted(t, tab)
	send(t, tx, tab, "MAIL", "FROM:<a@b>")
	feed(tx, "354 go on\r\n")
	if ev := tx.Next(); ev.Kind != proto.Fatal || !errors.Is(ev.Err, proto.ErrOutOfStep) {
		t.Errorf("354 to MAIL: %+v", ev)
	}
	tx = greeted(t, tab)
	if verb, r := answered(t, tx, "421 closing\r\n", 1); r.Code != 421 || verb != nil || tx.State() != proto.Closed {
		t.Errorf("421 to nothing: %+v to %v in %v (RFC 5321 section 3.8)", r, verb, tx.State())
	}
}

// TestSenderLeftover has a reply behind that to STARTTLS, in plaintext: it belongs to the TLS handshake.
func TestSenderLeftover(t *testing.T) {
	tab := table(t, proto.SMTP)
	tx := greeted(t, tab)
	send(t, tx, tab, "STARTTLS", "")
	answered(t, tx, "220 go ahead\r\n250-mail.example\r\n250 AUTH PLAIN\r\n", 1)
	if ev := tx.Next(); ev.Kind != proto.End {
		t.Errorf("after the hand-over comes %+v", ev)
	}
	if got := string(tx.Leftover()); got != "250-mail.example\r\n250 AUTH PLAIN\r\n" {
		t.Errorf("leftover is %q", got)
	}
	if got := tx.Leftover(); len(got) != 0 {
		t.Errorf("leftover is there twice: %q", got)
	}
	tx.Restart(proto.Hello)
	if _, err := tx.AppendCommand(nil, tab.Lookup("MAIL"), []byte("FROM:<a@b>")); !errors.Is(err, proto.ErrSequence) {
		t.Errorf("MAIL before EHLO: %v (RFC 3207 section 4.2)", err)
	}
}

// TestSenderStatus finds that status codes are only told from the text of replies after SetStatus (RFC 2034 section 4).
func TestSenderStatus(t *testing.T) {
	tab := table(t, proto.SMTP)
	tx := greeted(t, tab)
	for _, want := range []proto.Reply{
		{Code: 250, Text: "2.1.0 fine"},
		{Code: 250, Status: proto.Status{2, 1, 0}, Text: "fine"},
	} {
		tx.SetStatus(!want.Status.IsZero())
		send(t, tx, tab, "NOOP", "")
		if _, got := answered(t, tx, "250 2.1.0 fine\r\n", 1); got != want {
			t.Errorf("reply is %+v, want %+v", got, want)
		}
	}
}
