package report

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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

func TestDefaultText(t *testing.T) {
	r := &Report{ReportingMTA: DNS("mail.example.org"), EnvelopeID: "QQ314159"}
	for _, tt := range []struct {
		add           Recipient
		subject, text string
	}{
		{Recipient{Final: rfc822("a@x"), Action: ehlo.Delivered}, "Delivered mail", "<a@x>\n\n"},
		{Recipient{Final: rfc822("b@x"), Action: ehlo.Delayed, WillRetryUntil: time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC)}, "Delayed mail",
			"<b@x>\n    Attempts are made until Fri, 27 Nov 2026 04:00 +0000.\n\n"},
		{Recipient{Final: rfc822("c@x"), Original: rfc822("c@x"), Action: ehlo.Relayed}, "Delayed mail", "<c@x>\n\n"},
		{Recipient{Final: rfc822("d@x"), Original: rfc822("e@x"), Action: ehlo.Failed, Comment: "full", Diagnostic: Diagnostic{"smtp", "550 no"}},
			"Undelivered mail", "<d@x>, sent to <e@x>\n    full\n    The reason:\n        550 no\n\n"},
		{Recipient{Final: rfc822("g@x"), Action: ehlo.Failed, Remote: DNS("mx"), Diagnostic: Diagnostic{"smtp", "550-No such user 550-5.1.1 550 5.1.1 " +
			strings.Repeat("really ", 9) + "not"}}, "Undelivered mail", "<g@x>\n    The server mx said:\n        550-No such user\n        550-5.1.1\n" +
			"        550 5.1.1 really really really really really really really really\n        really not\n\n"},
		{Recipient{Final: rfc822("h@x"), Action: ehlo.Failed, Diagnostic: Diagnostic{"x-unix", "550-a 550 b"}}, "Undelivered mail",
			"<h@x>\n    The reason:\n        550-a 550 b\n\n"},
		{Recipient{Final: rfc822("f@x"), Action: ehlo.Delayed}, "Undelivered mail", "<f@x>\n\n"},
	} {
		r.Recipients = append(r.Recipients, tt.add)
		text := DefaultText(r)
		if got := DefaultSubject(r); got != tt.subject {
			t.Errorf("%s: %s, want %s", tt.add.Final, got, tt.subject)
		}
		if !strings.Contains(text, "\n\n"+tt.text) || !strings.HasPrefix(text, "This is the mail system at mail.example.org.\n") ||
			!strings.HasSuffix(text, "You gave the message the name QQ314159.\n") {
			t.Errorf("%s:\n%s", tt.add.Final, text)
		}
	}
}
