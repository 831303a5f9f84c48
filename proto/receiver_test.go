package proto_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// serve is a server with no opinion but these: a recipient called no is refused, so is content with a bare CR or LF in
// it, and an exchange ends with the line "done".
func serve(ev proto.Event) proto.Reply {
	switch {
	case ev.Err != nil:
		return ev.Err.Reply()
	case ev.Verb == nil:
		return proto.Reply{Code: 500}
	case ev.Kind == proto.Line && string(ev.Data) == "done":
		return proto.Reply{Code: 235}
	case ev.Verb.More == proto.Exchange:
		return proto.Reply{Code: 334}
	case ev.Verb.Name == "RCPT" && bytes.Contains(ev.Args, []byte("<no@")):
		return proto.Reply{Code: 550, Text: "no"}
	case ev.Verb.OK == proto.Handover:
		return proto.Reply{Code: 220}
	}
	return prototest.Accept(ev)
}

// codes returns the reply codes in an outcome of Drive, without those of continuation lines.
func codes(outcome string) string {
	var list []string
	for _, line := range strings.Split(outcome, "\r\n") {
		line = line[strings.LastIndexByte(line, '\n')+1:]
		if len(line) > 3 && line[3] == ' ' && strings.Trim(line[:3], "0123456789") == "" {
			list = append(list, line[:3])
		}
	}
	return strings.Join(list, " ")
}

// TestReceiverEveryCut plays dialogues at every cut of their bytes. The codes are those that the RFC has for the
// commands, the greeting first.
func TestReceiverEveryCut(t *testing.T) {
	const open = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n" // 220 250 250 250
	const opened = "220 250 250 250"
	for name, c := range map[string]struct{ in, codes, outcome string }{
		"message":           {open + "DATA\r\nhi\r\n..x\r\n.\r\nQUIT\r\n", opened + " 354 250 250", `content "hi\r\n.x\r\n"`},
		"empty":             {open + "DATA\r\n.\r\n", opened + " 354 250", ""},
		"two messages":      {open + "DATA\r\nhi\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nho\r\n.\r\n", opened + " 354 250 250 250 354 250", `content "ho\r\n"`},
		"bare LF":           {open + "DATA\r\nhi\n.\nMAIL\r\n.\r\n", opened + " 354 250", "bare true"},
		"case and space":    {"eHlO x\r\nquit  \t\r\n", "220 250 250", "state Closed"},
		"empty line":        {"\r\nNOOP\r\n", "220 500 250", ""},
		"unknown":           {"FOO\r\nNOOP\r\n", "220 500 250", ""},
		"not a verb":        {"STARTTLSX\r\nMAILFROM:<a@b>\r\n", "220 500 500", ""},
		"LF in command":     {"NOOP\nNOOP\r\nNOOP\r\n", "220 500 250", ""},
		"CR in command":     {"NOOP\rNOOP\r\nNOOP\r\n", "220 501 250", ""},
		"NUL":               {"NOOP \x00\r\n", "220 501", ""},
		"tab":               {"NOOP\tx\r\n", "220 501", ""},
		"telnet":            {"\xff\xf4\xff\xfd\x06\r\nNOOP\r\n", "220 501 250", ""},
		"not UTF-8":         {"NOOP \xc0\x80\r\nNOOP \xc3\xa9\r\n", "220 501 250", ""},
		"CRCRLF":            {"NOOP\r\r\nNOOP\r\n", "220 501 250", ""},
		"order":             {"MAIL FROM:<a@b>\r\nEHLO x\r\nRCPT TO:<a@b>\r\nDATA\r\nMAIL FROM:<>\r\nDATA\r\nMAIL FROM:<>\r\n", "220 503 250 503 503 250 503 503", "state Mail"},
		"512 octets":        {"NOOP " + strings.Repeat("x", 505) + "\r\nNOOP\r\n", "220 250 250", ""},
		"513 octets":        {"NOOP " + strings.Repeat("x", 506) + "\r\nNOOP\r\n", "220 500 250", ""},
		"613 octets":        {"NOOP " + strings.Repeat("x", 606) + "\r\nNOOP\r\n", "220 500 250", ""},
		"6000 octets":       {"NOOP " + strings.Repeat("x", 6000) + "\r\nNOOP\r\n", "220 500 250", ""},
		"grown":             {"EHLO x\r\nAUTH " + strings.Repeat("x", 605) + "\r\ndone\r\n", "220 250 334 235", ""},
		"grown too far":     {"EHLO x\r\nAUTH " + strings.Repeat("x", 606) + "\r\nNOOP\r\n", "220 250 500 250", ""},
		"TLS on plain":      {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03EHLO x\r\n", "220 500", ""},
		"exchange":          {"EHLO x\r\nAUTH PLAIN\r\nMAIL\r\ndone\r\nMAIL FROM:<>\r\n", "220 250 334 334 235 250", `3 AUTH "" "MAIL"`},
		"long exchange":     {"EHLO x\r\nAUTH PLAIN\r\n" + strings.Repeat("x", 12288) + "\r\ndone\r\n", "220 250 334 334 235", ""},
		"too long exchange": {"EHLO x\r\nAUTH PLAIN\r\n" + strings.Repeat("x", 12289) + "\r\nNOOP\r\n", "220 250 334 500 250", "5.5.6"},
		"handover":          {"EHLO x\r\nSTARTTLS\r\nEHLO evil\r\n", "220 250 220", "state Handover"},
		"chunks":            {open + "BDAT 5\r\n\r\n.\r\nBDAT 3 LAST\r\nabcMAIL FROM:<>\r\n", opened + " 250 250 250", `content "\r\n.\r\n"`},
		"chunk 0 last":      {open + "BDAT 2\r\nabBDAT 0 LAST\r\nNOOP\r\n", opened + " 250 250 250", "state Ready"},
		"chunk, no rcpt":    {"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<no@d>\r\nBDAT 6 LAST\r\nNOOP\r\nRSET\r\n", "220 250 250 550 503 250", `content "NOOP\r\n"`},
		"chunk, no mail":    {"BDAT 29\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@dNOOP\r\n", "220 503 250", ""},
		"DATA after chunk":  {open + "BDAT 1\r\nxDATA\r\nBDAT 1 LAST\r\nx", opened + " 250 503 250", ""},
		"chunk after last":  {open + "BDAT 1 LAST\r\nxBDAT 4 LAST\r\nQUITNOOP\r\n", opened + " 250 503 250", ""},
		"chunk junk":        {open + "BDAT 4 LUST\r\nQUITNOOP\r\n", opened + " 501 250", "state Broken"},
		"chunk unknown":     {open + "BDAT x\r\nQUIT\r\n", opened + " 501", ""},
		"chunk hex":         {open + "BDAT 0x10\r\nQUIT\r\n", opened + " 501", ""},
		"chunk negative":    {open + "BDAT -1\r\nQUIT\r\n", opened + " 501", ""},
		"chunk two spaces":  {open + "BDAT  5\r\nQUIT\r\n", opened + " 501", ""},
		"chunk without":     {open + "BDAT\r\nQUIT\r\n", opened + " 501", ""},
		"chunk long line":   {open + "BDAT 4" + strings.Repeat(" ", 600) + "\r\nQUITNOOP\r\n", opened + " 500 250", `content "QUIT"`},
		"chunk longer line": {open + "BDAT 5" + strings.Repeat(" ", 6000) + "\r\nQUIT\r\n", opened + " 501", ""},
		"bare in chunks":    {open + "BDAT 2\r\na\rBDAT 2\r\n\nbBDAT 1 LAST\r\n\r", opened + " 250 250 250", "bare true"},
		"split CRLF":        {open + "BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", opened + " 250 250", "bare false"},
	} {
		t.Run(name, func(t *testing.T) {
			outcome := prototest.EveryCut(t, table(t, proto.SMTP), serve, []byte(c.in))
			if got := codes(outcome); got != c.codes || !strings.Contains(outcome, c.outcome) {
				t.Errorf("codes %s\nwant  %s and %q in\n%s", got, c.codes, c.outcome, outcome)
			}
		})
	}
}

// TestReceiverDroppedLine has a line that never ends: memory stays bounded, and the peer is given up.
func TestReceiverDroppedLine(t *testing.T) {
	rx := proto.NewReceiver(table(t, proto.SMTP), proto.Limits{DroppedLine: 100 << 10})
	total := 0
	if _, err := rx.AppendReply(nil, proto.Reply{Code: 220}); err != nil {
		t.Fatal(err)
	}
	for {
		p := rx.Space()
		if len(p) > 64<<10 {
			t.Fatalf("the buffer has grown to %d octets", len(p))
		}
		for i := range p {
			p[i] = 'x'
		}
		rx.Filled(len(p))
		total += len(p)
		ev := rx.Next()
		if ev.Kind == proto.Fatal {
			break
		}
		if ev.Kind != proto.NeedInput || total > 200<<10 {
			t.Fatalf("event %d after %d octets, want the peer given up after %d", ev.Kind, total, 100<<10)
		}
	}
	if total < 100<<10 {
		t.Errorf("given up after %d octets, want more than %d", total, 100<<10)
	}
	if _, err := rx.AppendReply(nil, proto.Reply{Code: 500}); err != nil {
		t.Error("a last reply must be possible:", err)
	}
	if ev := rx.Next(); ev.Kind != proto.End {
		t.Errorf("event %d, want End", ev.Kind)
	}
}

func TestReceiverLeftover(t *testing.T) {
	rx := proto.NewReceiver(table(t, proto.SMTP), proto.Limits{})
	outcome := prototest.Drive(rx, serve, []byte("EHLO x\r\nSTARTTLS\r\n"), []byte("RSET\r\n\x16\x03"))
	if codes(outcome) != "220 250 220" {
		t.Fatalf("a command behind STARTTLS was answered:\n%s", outcome)
	}
	if got := rx.Leftover(); string(got) != "RSET\r\n\x16\x03" {
		t.Errorf("leftover is %q", got)
	}
	if got := rx.Leftover(); len(got) != 0 {
		t.Errorf("leftover is there twice: %q", got)
	}
	rx.Restart(proto.Hello)
	n := copy(rx.Space(), "MAIL FROM:<a@b>\r\n")
	rx.Filled(n)
	if ev := rx.Next(); ev.Err == nil || ev.Err.Code != 503 {
		t.Errorf("MAIL before EHLO: %+v, want 503 (RFC 3207 section 4.2)", ev)
	}
}

func TestReceiverReplies(t *testing.T) {
	rx := proto.NewReceiver(table(t, proto.SMTP), proto.Limits{})
	rx.SetStatus(true)
	out, err := rx.AppendReply(nil, proto.Reply{Code: 220, Text: "x"})
	if err != nil || string(out) != "220 x\r\n" {
		t.Fatalf("greeting is %q, %v: it has no status code (RFC 2034 section 4)", out, err)
	}
	if out, err = rx.AppendReply(out[:0], proto.Reply{Code: 250}); !errors.Is(err, proto.ErrOutOfStep) || len(out) != 0 {
		t.Errorf("a reply to nothing: %q, %v", out, err)
	}
	for _, c := range []struct{ line, want string }{
		{"EHLO x", "250-x\r\n250 y\r\n"},
		{"NOOP", "250-2.0.0 x\r\n250 2.0.0 y\r\n"},
		{"MAIL FROM:<a@b>", "250-2.0.0 x\r\n250 2.0.0 y\r\n"},
	} {
		rx.Filled(copy(rx.Space(), c.line+"\r\n"))
		if ev := rx.Next(); ev.Kind != proto.Command {
			t.Fatalf("%s: event %d", c.line, ev.Kind)
		}
		out, err = rx.AppendReply(nil, proto.Reply{Code: 250, Status: proto.Status{2, 0, 0}, Text: "x\ny"})
		if err != nil || string(out) != c.want {
			t.Errorf("%s: reply is %q, %v, want %q", c.line, out, err, c.want)
		}
	}
	out, err = rx.AppendReply(nil, proto.Reply{Code: 421, Text: "bye"})
	if err != nil || !strings.HasPrefix(string(out), "421 ") || rx.State() != proto.Closed {
		t.Errorf("421 to nothing: %q, %v in %v", out, err, rx.State())
	}
}

// TestReceiverRefusesHello has EHLO after the session was refused: the reply has no status code either.
func TestReceiverRefusesHello(t *testing.T) {
	rx := proto.NewReceiver(table(t, proto.SMTP), proto.Limits{})
	rx.SetStatus(true)
	if _, err := rx.AppendReply(nil, proto.Reply{Code: 554, Text: "no"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, want string }{{"EHLO x", "503 "}, {"NOOP", "503 5.5.1 "}} {
		rx.Filled(copy(rx.Space(), c.line+"\r\n"))
		ev := rx.Next()
		out, err := rx.AppendReply(nil, ev.Err.Reply())
		if rest, ok := strings.CutPrefix(string(out), c.want); err != nil || !ok || strings.HasPrefix(rest, "5.") {
			t.Errorf("%s: %q, %v, want %s (RFC 2034 section 4)", c.line, out, err, c.want)
		}
	}
}

// TestLend has content that is read into a larger buffer and commands that follow it.
func TestLend(t *testing.T) {
	rx := proto.NewReceiver(table(t, proto.SMTP), proto.Limits{})
	in := []byte("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + strings.Repeat("line\r\n", 20000) + ".\r\nQUIT\r\n")
	own := []byte(nil)
	content := 0
	if _, err := rx.AppendReply(nil, proto.Reply{Code: 220}); err != nil {
		t.Fatal(err)
	}
	for rx.State() != proto.Closed {
		ev := rx.Next()
		switch ev.Kind {
		case proto.NeedInput:
			n := copy(rx.Space(), in)
			rx.Filled(n)
			in = in[n:]
		case proto.Body:
			if own == nil {
				tiny := make([]byte, 0)
				if got := rx.Lend(tiny); len(got) != len(tiny) && rx.Buffered() > 0 {
					t.Fatal("a buffer too small was taken")
				}
			}
			content += len(ev.Data)
		case proto.EndOfBody:
			if back := rx.Lend(own); len(back) != 64<<10 {
				t.Fatalf("got a buffer of %d octets back, want the one lent", len(back))
			}
		case proto.NeedReply:
			if _, err := rx.AppendReply(nil, prototest.Accept(proto.Event{Verb: ev.Verb})); err != nil {
				t.Fatal(err)
			}
			if rx.State() == proto.Content {
				own = rx.Lend(make([]byte, 64<<10))
			}
		}
	}
	if content != 20000*len("line\r\n") {
		t.Errorf("%d octets of content", content)
	}
}

// TestInclude puts octets from elsewhere before, between and behind chunks: a CR and an LF that meet there are the end
// of a line, and those that do not are bare.
func TestInclude(t *testing.T) {
	const states = proto.Rcpt | proto.Chunks
	last := proto.Verb{Name: "XLAST", In: states, OK: proto.Ready, Fail: proto.Ready}
	size := func(args []byte) (int64, *proto.Error) { return int64(args[0] - '0'), nil }
	table, err := proto.NewTable(proto.SMTP, last,
		proto.Verb{Name: "XPART", In: states, OK: proto.Chunks, Fail: proto.Broken},
		proto.Verb{Name: "XBDAT", In: states, OK: proto.Chunks, Fail: proto.Broken, Payload: size})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		parts []string // those that begin with "<" come in chunks
		bare  bool
	}{
		{[]string{"a\r\n", "b\r\n"}, false},
		{[]string{"a\r", "\nb\r\n"}, false},
		{[]string{"<a\r", "\nb\r\n"}, false},
		{[]string{"a\r", "<\nb\r\n", ""}, false},
		{[]string{"a\r", "", "<", "\n"}, false},
		{[]string{"a\r"}, true},
		{[]string{"<a\r", ""}, true},
		{[]string{"\na"}, true},
		{[]string{"<a", "\nb"}, true},
		{[]string{"a\r", "<b", "\n"}, true},
	} {
		rx := proto.NewReceiver(table, proto.Limits{})
		say := func(line string) proto.Event {
			t.Helper()
			rx.Filled(copy(rx.Space(), line))
			ev := rx.Next()
			if ev.Kind != proto.Command || ev.Err != nil {
				t.Fatalf("%q is %+v", line, ev)
			}
			return ev
		}
		answer := func(code int) {
			t.Helper()
			if _, err := rx.AppendReply(nil, proto.Reply{Code: code}); err != nil {
				t.Fatal(err)
			}
		}
		answer(220)
		say("EHLO x\r\n")
		answer(250)
		for range 2 { // the second message knows nothing of the first
			for _, line := range []string{"MAIL FROM:<>\r\n", "RCPT TO:<a@b.example>\r\n"} {
				say(line)
				answer(250)
			}
			for i, part := range tt.parts {
				switch {
				case part != "" && part[0] == '<':
					say("XBDAT " + string(rune('0'+len(part)-1)) + "\r\n" + part[1:])
					for rx.Next().Kind != proto.EndOfBody {
					}
				case i < len(tt.parts)-1:
					say("XPART\r\n")
					rx.Include([]byte(part), false)
				default:
					say("XLAST\r\n")
					rx.Include([]byte(part), false)
					rx.Include(nil, true)
				}
				if i < len(tt.parts)-1 {
					answer(250)
				}
			}
			if rx.BareNewline() != tt.bare {
				t.Errorf("%q: bare is %t", tt.parts, rx.BareNewline())
			}
			answer(250)
		}
	}
}

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

// FuzzReceiver looks for input whose outcome depends on how it is cut (law 3), or that makes the engine panic.
func FuzzReceiver(f *testing.F) {
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n"), []byte{1})
	f.Add([]byte("EHLO x\r\nMAIL F\r\nRCPT T\r\nBDAT 5\r\nhelloBDAT 0 LAST\r\nRSET\r\n"), []byte{7, 3})
	f.Add([]byte("EHLO x\r\nAUTH PLAIN\r\n*\r\ndone\r\nSTARTTLS\r\nEHLO y\r\n"), []byte{9})
	f.Add([]byte("\r\n\n\rNOOP\x00\r\n\x16\x03\x01"), []byte{2})
	f.Fuzz(func(t *testing.T, in, steps []byte) {
		tab := table(t, proto.SMTP)
		lim := proto.Limits{ExchangeLine: 64, DroppedLine: 512}
		want := prototest.Drive(proto.NewReceiver(tab, lim), serve, in)
		var pieces [][]byte
		rest := in
		for i := 0; len(steps) > 0 && len(rest) > 0; i++ {
			n := min(len(rest), 1+int(steps[i%len(steps)]))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		if got := prototest.Drive(proto.NewReceiver(tab, lim), serve, append(pieces, rest)...); got != want {
			t.Errorf("cut:\n%s\nwhole:\n%s", got, want)
		}
	})
}
