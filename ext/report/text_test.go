package report

import (
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
)

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
