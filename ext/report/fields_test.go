package report

import (
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
)

// Fields are folded at spaces where they can be, and in the middle of a word where they must be (RFC 5322 sections
// 2.1.1, 2.2.3).
func TestField(t *testing.T) {
	name := "X-" + strings.Repeat("a", 70)
	spaces := strings.Repeat(" ", 199)
	for _, tt := range []struct{ name, value, want string }{
		{"X", " a\tb ", "X: a b\r\n"},
		{"X", "", ""},
		{"X", " \r\n ", ""},
		{"X", "a\r\nStatus: 2.0.0", "X: a  Status: 2.0.0\r\n"},
		{"X", "a\x00\x7f\u0085\u2028\u2029\xff", "X: a??????\r\n"},
		{name, "1234567 8", name + ": 1234567\r\n 8\r\n"},
		{"X", strings.Repeat("1234567890 ", 8), "X:" + strings.Repeat(" 1234567890", 6) + "\r\n" + strings.Repeat(" 1234567890", 2) + "\r\n"},
		{"X", strings.Repeat("x", 75) + "  y", "X: " + strings.Repeat("x", 75) + "  y\r\n"},
		{"X", strings.Repeat("x", 500), "X: " + strings.Repeat("x", 499) + "\r\n x\r\n"},
		{"X", "ab" + strings.Repeat("ü", 300), "X: ab" + strings.Repeat("ü", 248) + "\r\n " + strings.Repeat("ü", 52) + "\r\n"},
		{"X", "a" + spaces + spaces + spaces + "b", "X: a" + strings.Repeat(" ", 199) + "b\r\n"},
	} {
		w := fieldWriter{utf8: true}
		w.field(tt.name, tt.value)
		if got := string(w.dst); got != tt.want || !utf8.ValidString(got) {
			t.Errorf("%s: %q: %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
	w := fieldWriter{}
	w.field("X", "jörg")
	if string(w.dst) != "X: j?rg\r\n" || !w.lost {
		t.Errorf("%q, lost: %v", w.dst, w.lost)
	}
}

func TestRecipientFields(t *testing.T) {
	until := time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC)
	for action, want := range map[ehlo.Action]bool{ehlo.Delayed: true, ehlo.Failed: false, ehlo.Relayed: false} { // RFC 3464 section 2.3.9
		w := fieldWriter{}
		w.recipient(&Recipient{Action: action, WillRetryUntil: until})
		if got := strings.Contains(string(w.dst), "Will-Retry-Until: Fri, 27 Nov 2026 04:00:00 +0000\r\n"); got != want {
			t.Errorf("%s:\n%s", action, w.dst)
		}
	}
	w := fieldWriter{}
	w.recipient(&Recipient{
		Original: ehlo.OriginalRecipient{Type: "a b", Address: "c"}, Final: ehlo.OriginalRecipient{Address: "d"}, Action: ehlo.Failed,
		Remote: MTA{Name: "e"}, Diagnostic: Diagnostic{"x;\r\ny", "f"}, Localized: []Localized{{"", "g"}},
	})
	want := "Original-Recipient: unknown; c\r\nFinal-Recipient: unknown; d\r\nAction: failed\r\nStatus: 5.0.0\r\n" +
		"Remote-MTA: dns; e\r\nDiagnostic-Code: x-unknown; f\r\nLocalized-Diagnostic: i-default; g\r\n"
	if string(w.dst) != want {
		t.Errorf("%s\nwant\n%s", w.dst, want)
	}
}

// R13, R17: addresses are written as they are, with all their spaces and whatever else a quoted string may have:
// another one would be another mailbox.
func TestR13R17_Addresses(t *testing.T) {
	long := `"a` + strings.Repeat(" ", 58) + `b"@b.example`
	few := `"a  b   c` + strings.Repeat(" d", 20) + `"@b.example`
	for _, addr := range []string{long, few, `"x (y)"@d.example`, `"x;y"@d.example`, `"\\\"<>"@d.example`, `"ü` + strings.Repeat(" ", 58) + `"@d.example`,
		"\"a\u2028b\"@d.example", "\"a\u0085b\"@d.example", "a\ufffd@d.example"} {
		for _, carries := range []ext.Feature{0, ext.UTF8} {
			m := message(t, "", content)
			if m.From = address(t, addr); !m.From.IsASCII() {
				m.From = address(t, "alice@example.org")
			}
			r := failed(t, addr)
			p := &r.Recipients[0]
			p.Original = p.Final
			if p.Final.Type == "rfc822" {
				p.Original.Address = `"a` + strings.Repeat(" ", 160) + `b"@b.example`
			}
			n := made(t, m, r, &Options{Hostname: "mail.example.org", From: m.From, Carries: carries})
			h, _ := dissect(t, n)
			if want := "<" + m.From.String() + ">"; h.Get("To") != want || h.Get("From") != "Mail Delivery System "+want {
				t.Errorf("%q: to %q from %q", addr, h.Get("To"), h.Get("From"))
			}
			if _, err := n.Body.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got, err := Parse(n.Body)
			if err != nil {
				t.Fatal(err)
			}
			// What is not to be seen stays in the form of RFC 6533 section 3 when it is read.
			want := ehlo.OriginalRecipient{Type: p.Final.Type, Address: p.Final.Address}
			if strings.Map(visible, addr) != addr {
				_, want.Address, _ = strings.Cut(p.Final.ASCII(), ";")
				p.Original = want
			}
			if q := got.Recipients[0]; q.Final != want || q.Original != p.Original {
				t.Errorf("%q: read as %q and %q", addr, q.Final, q.Original)
			}
		}
	}
}
