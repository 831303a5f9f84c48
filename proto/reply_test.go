package proto

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendReply(t *testing.T) {
	tests := []struct {
		name         string
		r            Reply
		status, utf8 bool
		want         string
	}{
		{"one line", Reply{Code: 250, Text: "OK"}, false, false, "250 OK\r\n"},
		{"G02 RFC 5321 section 4.2.1", Reply{Code: 250, Text: "First line\nSecond line\n234 Text beginning with numbers\nThe last line"},
			false, false, "250-First line\r\n250-Second line\r\n250-234 Text beginning with numbers\r\n250 The last line\r\n"},
		{"G05 no text", Reply{Code: 334}, false, false, "334 \r\n"},
		{"no text but a status", Reply{Code: 250}, true, false, "250 2.0.0 \r\n"},
		{"Q02 RFC 2034 section 6", Reply{551, Status{5, 7, 1}, "Forwarding to remote hosts disabled\nSelect another host to act as your forwarder"},
			true, false, "551-5.7.1 Forwarding to remote hosts disabled\r\n551 5.7.1 Select another host to act as your forwarder\r\n"},
		{"status not wanted", Reply{551, Status{5, 7, 1}, "no"}, false, false, "551 no\r\n"},
		{"status by default", Reply{Code: 503, Text: "no"}, true, false, "503 5.5.1 no\r\n"},
		{"Q03 status of another class", Reply{250, Status{5, 1, 1}, "x"}, true, false, "250 2.1.1 x\r\n"},
		{"status out of range", Reply{450, Status{4, 1000, 1}, "x"}, true, false, "450 4.2.1 x\r\n"},
		{"Q04 354", Reply{354, Status{2, 0, 0}, "go on"}, true, false, "354 go on\r\n"},
		{"Q04 334", Reply{Code: 334, Text: "VXNlcm5hbWU6"}, true, false, "334 VXNlcm5hbWU6\r\n"},
		{"G01 code 0", Reply{Code: 0, Text: "x"}, true, false, "451 4.3.0 x\r\n"},
		{"G01 code 199", Reply{199, Status{2, 0, 0}, "x"}, true, false, "451 4.3.0 x\r\n"},
		{"G01 code 600", Reply{Code: 600, Text: "x"}, false, false, "451 x\r\n"},
		{"G01 negative code", Reply{Code: -250, Text: "x"}, false, false, "451 x\r\n"},
		{"G04 injected line", Reply{Code: 550, Text: "x\r\n250 ok"}, false, false, "550-x\r\n550 250 ok\r\n"},
		{"G04 bare CR and controls", Reply{Code: 550, Text: "a\rb\x00c\x1bd\x7fe\vf"}, false, true, "550 a?b?c?d?e?f\r\n"},
		{"tab", Reply{Code: 214, Text: "a\tb"}, false, false, "214 a\tb\r\n"},
		{"LF CR", Reply{Code: 250, Text: "a\n\rb\r"}, false, false, "250-a\r\n250 ?b?\r\n"},
		{"empty lines", Reply{Code: 250, Text: "\n\n"}, false, false, "250-\r\n250-\r\n250 \r\n"},
		{"G06 UTF-8 not allowed", Reply{Code: 250, Text: "é€😀"}, false, false, "250 ???\r\n"},
		{"UTF-8 allowed", Reply{Code: 250, Text: "é€😀\u00a0"}, false, true, "250 é€😀\u00a0\r\n"},
		{"invalid UTF-8", Reply{Code: 250, Text: "a\xffb\xc3"}, false, true, "250 a?b?\r\n"},
		{"e.1-15 line ends of others", Reply{Code: 250, Text: "a\u0085b\u2028c\u2029d\u009b"}, false, true, "250 a?b?c?d?\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendReply([]byte("before "), tt.r, tt.status, tt.utf8)
			if string(got) != "before "+tt.want {
				t.Errorf("AppendReply(%+v) = %q, want %q after what was there", tt.r, got, tt.want)
			}
		})
	}
}

// TestG03_AppendReplyFolds checks that no line has more than 512 octets, whatever it is made of
// (RFC 5321 section 4.5.3.1.5).
func TestG03_AppendReplyFolds(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name   string
		text   string
		status bool
		want   string
	}{
		{"fits exactly", x(506), false, "250 " + x(506) + "\r\n"},
		{"one too many", x(507), false, "250-" + x(506) + "\r\n250 x\r\n"},
		{"fits exactly with status", x(500), true, "250 2.0.0 " + x(500) + "\r\n"},
		{"one too many with status", x(501), true, "250-2.0.0 " + x(500) + "\r\n250 2.0.0 x\r\n"},
		{"at a space", "aa " + x(300) + " " + x(300), false, "250-aa " + x(300) + "\r\n250 " + x(300) + "\r\n"},
		{"at the last octet", x(506) + " y", false, "250-" + x(506) + "\r\n250 y\r\n"},
		{"not at a leading space", " " + x(506), false, "250- " + x(505) + "\r\n250 x\r\n"},
		{"not inside a character", x(505) + "é", false, "250-" + x(505) + "\r\n250 é\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendReply(nil, Reply{Code: 250, Text: tt.text}, tt.status, true)
			if string(got) != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRawReplyZero(t *testing.T) {
	var r RawReply
	for line := range r.Lines() {
		t.Errorf("the zero value has the line %q", line)
	}
	if got := r.Reply(); got != (Reply{}) {
		t.Errorf("Reply() = %+v", got)
	}
}

func TestReplyAllocs(t *testing.T) {
	r := Reply{Code: 550, Status: Status{5, 1, 1}, Text: "first\n" + strings.Repeat("é ", 400)}
	dst := make([]byte, 0, 4096)
	raw := AppendReply(nil, r, true, true)
	octets := 0
	for name, f := range map[string]func(){
		"AppendReply": func() { dst = AppendReply(dst[:0], r, true, true) },
		"ParseReply":  func() { _, octets, _ = ParseReply(raw, true, Limits{}) },
		"Lines": func() {
			parsed, _, _ := ParseReply(raw, true, Limits{})
			for line := range parsed.Lines() {
				octets += len(line)
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if !bytes.Equal(dst, raw) || octets <= len(raw)/2 {
		t.Errorf("%d octets were looked at, of %d", octets, len(raw))
	}
}

func FuzzAppendReply(f *testing.F) {
	f.Add(250, uint16(2), uint16(0), uint16(0), "OK\nmore", true, false)
	f.Add(550, uint16(2), uint16(1), uint16(1000), "x\r\n250 ok\x00\u0085\xff", true, true)
	f.Add(334, uint16(0), uint16(0), uint16(0), "", true, true)
	f.Add(7, uint16(9), uint16(9), uint16(9), strings.Repeat("é", 600)+" "+strings.Repeat("x", 600), false, true)
	f.Fuzz(func(t *testing.T, code int, class, subject, detail uint16, text string, status, unicode bool) {
		r := Reply{code, Status{class, subject, detail}, text}
		out := AppendReply(nil, r, status, unicode)
		if code < 200 || code > 599 {
			code = 451
		}
		parsed, n, err := ParseReply(out, status, Limits{ReplyLine: 512, ReplyLines: 1 << 30, Reply: 1 << 30})
		if err != nil || n != len(out) || parsed.Code != code {
			t.Fatalf("AppendReply(%+v) = %q, which reads as %+v, %d, %v", r, out, parsed.Reply(), n, err)
		}
		if wantStatus := status && code/100 != 3; wantStatus == parsed.Status.IsZero() {
			t.Fatalf("status of %q is %v", out, parsed.Status)
		}
		checkReplyText(t, out, unicode)
		if again := AppendReply(nil, parsed.Reply(), status, unicode); !bytes.Equal(again, out) {
			t.Fatalf("appended again, %q is %q", out, again)
		}
	})
}

// checkReplyText checks the octets of a reply against textstring (RFC 5321 section 4.2, RFC 6531 section 3.7.4).
func checkReplyText(t *testing.T, out []byte, unicode bool) {
	t.Helper()
	if !utf8.Valid(out) {
		t.Fatalf("%q is not UTF-8", out)
	}
	for line := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte("\r\n")), []byte("\r\n")) {
		for _, r := range string(line) {
			if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r > 0x7f && !unicode {
				t.Fatalf("%q contains %q", line, r)
			}
		}
	}
}

func BenchmarkAppendReply(b *testing.B) {
	r := Reply{Code: 250, Status: Status{2, 1, 5}, Text: "Recipient ok"}
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendReply(dst[:0], r, true, false)
	}
}
