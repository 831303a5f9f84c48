package proto_test

import (
	"testing"

	"smtpkit.example/smtp/proto"
)

// TestInclude puts octets from elsewhere before, between and behind chunks: a CR and an LF that meet there are the end of a
// line, and those that do not are bare.
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
