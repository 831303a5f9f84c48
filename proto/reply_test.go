package proto

import (
	"bytes"
	"errors"
	"slices"
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

// TestG03_AppendReplyFolds checks that no line has more than 512 octets, whatever it is made of (RFC 5321
// section 4.5.3.1.5).
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

func TestParseReply(t *testing.T) {
	none := Status{}
	tests := []struct {
		name   string
		in     string
		status bool
		want   Reply
	}{
		{"one line", "250 OK\r\n", false, Reply{250, none, "OK"}},
		{"several lines", "250-First line\r\n250-234 x\r\n250 The last\r\n", false, Reply{250, none, "First line\n234 x\nThe last"}},
		{"G08 no text", "250\r\n", false, Reply{250, none, ""}},
		{"A09 a space and no text", "220 \r\n", false, Reply{220, none, ""}},
		{"e.7-123 lines without text", "550-\r\n550\r\n", false, Reply{550, none, "\n"}},
		{"G07 unknown code", "299 hm\r\n", false, Reply{299, none, "hm"}},
		{"highest code", "599 x\r\n", false, Reply{599, none, "x"}},
		{"any octet but CR and LF", "550 \x00\x1b\xff%s\r\n", false, Reply{550, none, "\x00\x1b\xff%s"}},
		{"Q06 RFC 2034 section 6", "551-5.7.1 Forwarding disabled\r\n551 5.7.1 Select another host\r\n", true,
			Reply{551, Status{5, 7, 1}, "Forwarding disabled\nSelect another host"}},
		{"Q06 status not looked for", "550 5.1.1 x\r\n", false, Reply{550, none, "5.1.1 x"}},
		{"Q06 address", "550 10.0.0.1 bad\r\n", true, Reply{550, none, "10.0.0.1 bad"}},
		{"Q06 address that begins like a status", "550 5.1.1.1 bad\r\n", true, Reply{550, none, "5.1.1.1 bad"}},
		{"Q06 status of another class", "550 2.1.1 x\r\n", true, Reply{550, none, "2.1.1 x"}},
		{"status and nothing else", "250 2.0.0\r\n", true, Reply{250, Status{2, 0, 0}, ""}},
		{"status on the last line only", "550-bad\r\n550 5.1.1 x\r\n", true, Reply{550, Status{5, 1, 1}, "bad\nx"}},
		{"status on the first line only", "550-5.1.1 bad\r\n550 x\r\n", true, Reply{550, Status{5, 1, 1}, "bad\nx"}},
		{"two statuses: the first counts", "551-5.7.1 a\r\n551 5.1.6 b\r\n", true, Reply{551, Status{5, 7, 1}, "a\nb"}},
		{"a status and one of another class", "550-5.1.1 a\r\n550 2.1.1 b\r\n", true, Reply{550, Status{5, 1, 1}, "a\n2.1.1 b"}},
		{"no status after 3yz", "354 2.0.0 x\r\n", true, Reply{354, none, "2.0.0 x"}},
		{"spaces after a status", "214 2.0.0   QUIT\r\n", true, Reply{214, Status{2, 0, 0}, "  QUIT"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, n, err := ParseReply([]byte(tt.in+"250 next\r\n"), tt.status, Limits{})
			if err != nil || n != len(tt.in) || r.Reply() != tt.want || r.Code != tt.want.Code || r.Status != tt.want.Status {
				t.Errorf("ParseReply(%q) = %+v, %d, %v, want %+v, %d", tt.in, r.Reply(), n, err, tt.want, len(tt.in))
			}
			var lines []string
			for line := range r.Lines() {
				lines = append(lines, string(line))
			}
			if got := strings.Join(lines, "\n"); got != tt.want.Text {
				t.Errorf("Lines() has %q, want %q", got, tt.want.Text)
			}
			for i := range tt.in {
				if _, n, err := ParseReply([]byte(tt.in[:i]), tt.status, Limits{}); n != 0 || err != nil {
					t.Errorf("ParseReply(%q) = %d, %v, but it is not complete", tt.in[:i], n, err)
				}
			}
		})
	}
}

func TestParseReplyErrors(t *testing.T) {
	small := Limits{ReplyLine: 10, ReplyLines: 3, Reply: 25}
	tests := []struct {
		name string
		in   string // up to the octet that is wrong
		lim  Limits
		want string
	}{
		{"e.7-121 two digits", "25\r", Limits{}, `smtp: bad reply: line 1 begins with "25\r", which is no reply code`},
		{"e.7-121 four digits", "2500", Limits{}, `smtp: bad reply: line 1 has "0" after the code: a space, a hyphen or CRLF must follow it`},
		{"e.7-121 no digits", "a", Limits{}, `smtp: bad reply: line 1 begins with "a", which is no reply code`},
		{"e.7-121 empty line", "\r", Limits{}, `smtp: bad reply: line 1 begins with "\r", which is no reply code`},
		{"e.7-121 underscore", "250_", Limits{}, `smtp: bad reply: line 1 has "_" after the code: a space, a hyphen or CRLF must follow it`},
		{"e.7-121 sign", "-", Limits{}, `smtp: bad reply: line 1 begins with "-", which is no reply code`},
		{"e.7-121 tab", "250\t", Limits{}, `smtp: bad reply: line 1 has "\t" after the code: a space, a hyphen or CRLF must follow it`},
		{"e.7-121 other digits", "\xd9", Limits{}, `smtp: bad reply: line 1 begins with "\xd9", which is no reply code`},
		{"G09 1yz", "1", Limits{}, `smtp: bad reply: line 1 begins with "1", which is no reply code`},
		{"G09 6yz", "6", Limits{}, `smtp: bad reply: line 1 begins with "6", which is no reply code`},
		{"A13 another protocol", "H", Limits{}, `smtp: bad reply: line 1 begins with "H", which is no reply code`},
		{"G10 two codes", "250-a\r\n251", Limits{}, "smtp: bad reply: line 2 has the code 251, line 1 has 250"},
		{"continued by something else", "250-a\r\nb", Limits{}, `smtp: bad reply: line 2 begins with "b", which is no reply code`},
		{"LF after the code", "250\n", Limits{}, "smtp: bad reply: line 1 has an LF without CR"},
		{"G12 bare LF", "250 ok\n", Limits{}, "smtp: bad reply: line 1 has an LF without CR"},
		{"bare CR", "250-ok\r\n250 a\rb", Limits{}, "smtp: bad reply: line 2 has a CR without LF"},
		{"CR CR LF", "250 ok\r\r", Limits{}, "smtp: bad reply: line 1 has a CR without LF"},
		{"G11 line", "250 567890", small, "smtp: bad reply: line 1 has more than 10 octets"},
		{"G11 line, CR at the limit", "250 56789\r", small, "smtp: bad reply: line 1 has more than 10 octets"},
		{"G11 lines", "250-\r\n250-\r\n250-\r\n", small, "smtp: bad reply: more than 3 lines"},
		{"G11 octets", "250-5678\r\n250-5678\r\n250 5", small, "smtp: bad reply: more than 25 octets"},
		{"G11 default line", "250 " + strings.Repeat("x", 4092), Limits{}, "smtp: bad reply: line 1 has more than 4096 octets"},
		{"G11 default lines", strings.Repeat("250-\r\n", 1000), Limits{}, "smtp: bad reply: more than 1000 lines"},
		{"G11 default octets", strings.Repeat("250-"+strings.Repeat("x", 122)+"\r\n", 512), Limits{}, "smtp: bad reply: more than 65536 octets"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, n, err := ParseReply([]byte(tt.in[:len(tt.in)-1]), true, tt.lim); n != 0 || err != nil {
				t.Errorf("ParseReply(%.40q…) = %d, %v before the octet that is wrong", tt.in[:len(tt.in)-1], n, err)
			}
			for _, more := range []string{"", "\n", " more\r\n250 more\r\n"} {
				_, n, err := ParseReply([]byte(tt.in+more), true, tt.lim)
				if err == nil || !errors.Is(err, ErrReply) || n != 0 || err.Error() != tt.want {
					t.Errorf("ParseReply(%.40q…) = %d, %v, want %s", tt.in+more, n, err, tt.want)
				}
			}
		})
	}
}

// TestReplyLimitsReached checks that what is exactly as large as allowed is accepted.
func TestReplyLimitsReached(t *testing.T) {
	for _, in := range []string{"250 5678\r\n", "250-\r\n250-\r\n250-\r\n"[:12] + "250\r\n", "250-567\r\n250-567\r\n250\r\n"} {
		lim := Limits{ReplyLine: 10, ReplyLines: 3, Reply: 23}
		if _, n, err := ParseReply([]byte(in), false, lim); n != len(in) || err != nil {
			t.Errorf("ParseReply(%q) = %d, %v", in, n, err)
		}
	}
}

// TestReplySequence feeds three replies, of several lines each, at every cut: lines of one reply are never taken for
// several (RFC 2920 section 3.1).
func TestReplySequence(t *testing.T) {
	const in = "250-x\r\n250 y\r\n550-5.1.1 z\r\n550 5.1.1 \r\n354\r\n"
	want := []Reply{{250, Status{}, "x\ny"}, {550, Status{5, 1, 1}, "z\n"}, {354, Status{}, ""}}
	for cut := range len(in) + 1 {
		got, err := feed([]byte(in), []int{cut}, true, Limits{})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("cut at %d: %+v, %v, want %+v", cut, got, err, want)
		}
	}
}

// feed gives in to a parser, in pieces that end at cuts, and returns the replies found.
func feed(in []byte, cuts []int, status bool, lim Limits) (got []Reply, err error) {
	var s replyParser
	begin := 0
	for _, end := range append(cuts, len(in)) {
		for {
			r, n, err := s.parse(in[begin:end], status, lim)
			if err != nil {
				return got, err
			}
			if n == 0 {
				break
			}
			got = append(got, r.Reply())
			begin += n
		}
	}
	return got, nil
}

// TestParseIsLinear feeds a large reply octet by octet. A parser that begins anew each time would look at two thousand
// million octets.
func TestParseIsLinear(t *testing.T) {
	in := bytes.Repeat([]byte("250-"+strings.Repeat("x", 4090)+"\r\n"), 15)
	in = append(in, "250 end\r\n"...)
	var s replyParser
	for i := 1; i < len(in); i++ {
		if _, n, err := s.parse(in[:i], true, Limits{}); n != 0 || err != nil {
			t.Fatalf("after %d octets: %d, %v", i, n, err)
		}
		if s.seen < i-1 {
			t.Fatalf("after %d octets it will begin again at %d", i, s.seen)
		}
	}
	if _, n, err := s.parse(in, true, Limits{}); n != len(in) || err != nil {
		t.Fatalf("parse = %d, %v", n, err)
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

func FuzzReply(f *testing.F) {
	for _, s := range []string{
		"250 ok\r\n", "250-a\r\n250 b\r\n550 5.1.1 c\r\n", "550-\r\n550\r\n", "250-5.1.1 a\r\n250 2.0.0\r\n", "250 a\r\r\n", "250-a\n250 b\r\n",
		"25x", "250-a\r\n251 b\r\n", "HTTP/1.1 400\r\n", strings.Repeat("250-x\r\n", 9), "250 " + strings.Repeat("y", 40) + "\r\n",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, status bool) {
		lim := Limits{ReplyLine: 32, ReplyLines: 5, Reply: 100}
		want, wantErr := feed(in, nil, status, lim)
		every := make([]int, len(in))
		for i := range in {
			every[i] = i
			got, err := feed(in, []int{i}, status, lim)
			same(t, i, got, want, err, wantErr)
		}
		got, err := feed(in, every, status, lim)
		same(t, -1, got, want, err, wantErr)
		for _, r := range want {
			if r.Code < 200 || r.Code > 599 {
				t.Fatalf("code %d", r.Code)
			}
			if !r.Status.IsZero() && (!status || r.Status.Class() != r.Code/100) {
				t.Fatalf("code %d with status %v", r.Code, r.Status)
			}
		}
	})
}

func same(t *testing.T, cut int, got, want []Reply, err, wantErr error) {
	t.Helper()
	if !slices.Equal(got, want) || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("cut at %d: %+v, %v; uncut: %+v, %v", cut, got, err, want, wantErr)
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

func BenchmarkParseReply(b *testing.B) {
	in := []byte("250 2.1.5 Recipient ok\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, n, err := ParseReply(in, true, Limits{}); n != len(in) || err != nil {
			b.Fatal(n, err)
		}
	}
}
