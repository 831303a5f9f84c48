package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
)

// What mail systems in use write, or have written, that the grammar does not have, or that is easily read wrongly.
func TestParseOddities(t *testing.T) {
	one := func(p Recipient) Report { return Report{Recipients: []Recipient{p}} }
	b := rfc822("b@example.com")
	for name, tt := range map[string]struct {
		status string
		want   Report
	}{
		"Postfix": {`Reporting-MTA: dns; mail.example.org
X-Postfix-Queue-ID: 4711
X-Postfix-Sender: rfc822; a@example.org
Arrival-Date: Sun, 22 Nov 2026 03:04:05 +0000 (UTC)

Final-Recipient: rfc822; b@example.com
Original-Recipient: rfc822;b@example.com
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 <b@example.com>: no such user (in
    reply to RCPT TO command)
`, Report{ReportingMTA: DNS("mail.example.org"), Arrival: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC),
			Fields: []Field{{"X-Postfix-Queue-ID", "4711"}, {"X-Postfix-Sender", "rfc822; a@example.org"}},
			Recipients: []Recipient{{Original: b, Final: b, Action: ehlo.Failed, Status: status(5, 1, 1), Remote: DNS("mx.example.com"),
				Diagnostic: Diagnostic{"smtp", "550 5.1.1 <b@example.com>: no such user (in reply to RCPT TO command)"}}}}},
		"Exim": {`Reporting-MTA: dns; mail.example.org

Action: failed
Final-Recipient: rfc822;b@example.com
Status: 5.0.0
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550-first
 550 second
`, Report{ReportingMTA: DNS("mail.example.org"), Recipients: []Recipient{{Final: b, Action: ehlo.Failed, Status: status(5, 0, 0),
			Remote: DNS("mx.example.com"), Diagnostic: Diagnostic{"smtp", "550-first 550 second"}}}}},
		"Exchange": {`Reporting-MTA: dns;EX.example.org
Received-From-MTA: dns;pc.example.org
Arrival-Date: Sun, 22 Nov 2026 03:04:05 +0000

Original-Recipient: rfc822;b@example.com
Final-Recipient: RFC822;b@example.com
Action: failed
Status: 5.7.1
Diagnostic-Code: smtp;550 5.7.1 not here
X-Display-Name: B
`, Report{ReportingMTA: DNS("EX.example.org"), ReceivedFrom: DNS("pc.example.org"), Arrival: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC),
			Recipients: []Recipient{{Original: b, Final: ehlo.OriginalRecipient{Type: "RFC822", Address: "b@example.com"}, Action: ehlo.Failed,
				Status: status(5, 7, 1), Diagnostic: Diagnostic{"smtp", "550 5.7.1 not here"}, Fields: []Field{{"X-Display-Name", "B"}}}}}},
		"everything in one group": {"Reporting-MTA: dns; m\nFinal-Recipient: rfc822; b@example.com\nAction: FAILED (sorry)\nStatus: 5.1.1\n",
			Report{ReportingMTA: DNS("m"), Recipients: []Recipient{{Final: b, Action: ehlo.Failed, Status: status(5, 1, 1)}}}},
		"a group split": {"\n \nReporting-MTA: dns; m\n\nArrival-Date: 22 Nov 26 03:04:05 GMT\n\n\nFinal-Recipient: rfc822; b@example.com\n\nStatus: 5.1.1\n",
			Report{ReportingMTA: DNS("m"), Arrival: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC),
				Recipients: []Recipient{{Final: b, Status: status(5, 1, 1)}}}},
		"brackets and a comment": {"Final-Recipient: rfc822; <b@example.com> (B)\n", one(Recipient{Final: b})},
		"no type":                {"Final-Recipient: b@example.com\n", one(Recipient{Final: b})},
		"parentheses inside":     {"Final-Recipient: rfc822; \"a (b)\"@example.com\n", one(Recipient{Final: rfc822(`"a (b)"@example.com`)})},
		"no comment":             {"Final-Recipient: x400; /G=a/ (b)\n", one(Recipient{Final: ehlo.OriginalRecipient{Type: "x400", Address: "/G=a/ (b)"}})},
		"no address":             {"Reporting-MTA: dns; m\n\nAction: failed\n", Report{ReportingMTA: DNS("m"), Recipients: []Recipient{{Action: ehlo.Failed}}}},
		"part of the name":       {"Final-Recipient: rfc822; b@example.com\nRemote-MTA: dns; m(a)\n", one(Recipient{Final: b, Remote: DNS("m(a)")})},
		"twice":                  {"Final-Recipient: rfc822; b@example.com\nStatus: 5.1.1\nstatus: 5.2.2\nfinal-recipient: rfc822; c\n", one(Recipient{Final: b, Status: status(5, 1, 1)})},
		"what is none":           {"Final-Recipient: rfc822; b@example.com\nStatus: 5.01.1\nLast-Attempt-Date: yesterday\nFinal-Log-ID: a\nnothing\n more\n: x\nWill-Retry-Until:\n", one(Recipient{Final: b, LogID: "a"})},
		"a bare number":          {"Final-Recipient: rfc822; b@example.com\nStatus: #5.1.1 smtp\n", one(Recipient{Final: b, Status: status(5, 1, 1)})},
		"control characters":     {"Final-Recipient: rfc822; b@example.com\nAction: failed\x1b[2J\nFinal-Log-ID: a\x00\xffb\u0085\n", one(Recipient{Final: b, Action: "failed?[2j", LogID: "a??b?"})},
		"S14 utf-8":              {`Final-Recipient: utf-8; j\x{F6}rg@example.com` + "\n", one(Recipient{Final: ehlo.OriginalRecipient{Type: "utf-8", Address: "jörg@example.com"}})},
		"S14 hidden controls":    {`Final-Recipient: utf-8; j\x{0D}\x{0A}@example.com` + "\n", one(Recipient{Final: ehlo.OriginalRecipient{Type: "utf-8", Address: `j\x{0D}\x{0A}@example.com`}})},
		"nested comment":         {"Final-Recipient: rfc822; b@example.com\nStatus: 5.1.1 (a \\) (b) c)\n", one(Recipient{Final: b, Status: status(5, 1, 1), Comment: "a ) (b) c"})},
		"unbalanced":             {"Final-Recipient: rfc822; b@example.com\nRemote-MTA: dns; m a)\n", one(Recipient{Final: b, Remote: DNS("m a)")})},
		"R17 localized": {"Final-Recipient: rfc822; b@example.com\nLocalized-Diagnostic: de; weg\nLocalized-Diagnostic: fr; parti\n",
			one(Recipient{Final: b, Localized: []Localized{{"de", "weg"}, {"fr", "parti"}}})},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(strings.NewReader(notification(tt.status)))
			if err != nil {
				t.Fatal(err)
			}
			if !same(&got.Report, &tt.want) {
				t.Errorf("\n%+v\nwant\n%+v", got.Report, tt.want)
			}
		})
	}
}

// The values of a field of many lines are joined by one space each.
func TestParseFolded(t *testing.T) {
	got, err := Parse(strings.NewReader(notification("Final-Recipient: rfc822; b@example.com\nX-A: 1\n\t2 \n  3\nX-B:\n 4\n")))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Field{{"X-A", "1 2 3"}, {"X-B", "4"}}; !slices.Equal(got.Recipients[0].Fields, want) {
		t.Errorf("%q, want %q", got.Recipients[0].Fields, want)
	}
}
