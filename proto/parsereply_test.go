package proto

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

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

func BenchmarkParseReply(b *testing.B) {
	in := []byte("250 2.1.5 Recipient ok\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, n, err := ParseReply(in, true, Limits{}); n != len(in) || err != nil {
			b.Fatal(n, err)
		}
	}
}
