package report

import (
	"encoding/base64"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// notification wraps status in a notification, the way RFC 3464 appendix E has them.
func notification(status string) string {
	return `From: Mail Delivery Subsystem <MAILER-DAEMON@CS.UTK.EDU>
To: <owner-info-mime@cs.utk.edu>
Message-Id: <199407072116.RAA14128@CS.UTK.EDU>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
       boundary="RAA14128.773615765/CS.UTK.EDU"

--RAA14128.773615765/CS.UTK.EDU

The original message was received at Sat, 2 Jul 1994 17:10:28 -0400

--RAA14128.773615765/CS.UTK.EDU
content-type: message/delivery-status

` + status + `
--RAA14128.773615765/CS.UTK.EDU
content-type: message/rfc822

Subject: Hello
Message-ID: <1@example.org>

--RAA14128.773615765/CS.UTK.EDU--
`
}

// rfc822 is an address of the type rfc822.
func rfc822(address string) ehlo.OriginalRecipient {
	return ehlo.OriginalRecipient{Type: "rfc822", Address: address}
}

func status(class, subject, detail uint16) proto.Status {
	return proto.Status{class, subject, detail}
}

// R13: the examples of RFC 3464 appendix E and RFC 3461 section 10, read as the text around them says.
func TestR13_ParseExamples(t *testing.T) {
	for name, tt := range map[string]struct {
		status string
		want   Report
	}{
		"3464, simple": {`Reporting-MTA: dns; cs.utk.edu

Original-Recipient: rfc822;louisl@larry.slip.umd.edu
Final-Recipient: rfc822;louisl@larry.slip.umd.edu
Action: failed
Status: 4.0.0
Diagnostic-Code: smtp; 426 connection timed out
Last-Attempt-Date: Thu, 7 Jul 1994 17:15:49 -0400
`, Report{ReportingMTA: DNS("cs.utk.edu"), Recipients: []Recipient{{
			Original: rfc822("louisl@larry.slip.umd.edu"), Final: rfc822("louisl@larry.slip.umd.edu"), Action: ehlo.Failed,
			Status: status(4, 0, 0), Diagnostic: Diagnostic{"smtp", "426 connection timed out"},
			LastAttempt: time.Date(1994, 7, 7, 17, 15, 49, 0, time.FixedZone("", -4*3600)),
		}}}},
		"3464, several": {`Reporting-MTA: dns; cs.utk.edu

Original-Recipient: rfc822;arathib@vnet.ibm.com
Final-Recipient: rfc822;arathib@vnet.ibm.com
Action: failed
Status: 5.0.0 (permanent failure)
Diagnostic-Code: smtp;  550 'arathib@vnet.IBM.COM' is not a
 registered gateway user
Remote-MTA: dns; vnet.ibm.com

Original-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Final-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Action: delayed
Status: 4.0.0 (hpnjld.njd.jp.com: host name lookup failure)

Original-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Final-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp; 550 user unknown
Remote-MTA: dns; sdcc13.ucsd.edu
`, Report{ReportingMTA: DNS("cs.utk.edu"), Recipients: []Recipient{{
			Original: rfc822("arathib@vnet.ibm.com"), Final: rfc822("arathib@vnet.ibm.com"), Action: ehlo.Failed,
			Status: status(5, 0, 0), Comment: "permanent failure", Remote: DNS("vnet.ibm.com"),
			Diagnostic: Diagnostic{"smtp", "550 'arathib@vnet.IBM.COM' is not a registered gateway user"},
		}, {
			Original: rfc822("johnh@hpnjld.njd.hp.com"), Final: rfc822("johnh@hpnjld.njd.hp.com"), Action: ehlo.Delayed,
			Status: status(4, 0, 0), Comment: "hpnjld.njd.jp.com: host name lookup failure",
		}, {
			Original: rfc822("wsnell@sdcc13.ucsd.edu"), Final: rfc822("wsnell@sdcc13.ucsd.edu"), Action: ehlo.Failed,
			Status: status(5, 0, 0), Remote: DNS("sdcc13.ucsd.edu"), Diagnostic: Diagnostic{"smtp", "550 user unknown"},
		}}}},
		"3464, gateway": {`Reporting-MTA: mailbus; SYS30

Final-Recipient: unknown; nair_s
Status: 5.0.0 (unknown permanent failure)
Action: failed
`, Report{ReportingMTA: MTA{Type: "mailbus", Name: "SYS30"}, Recipients: []Recipient{{
			Final: ehlo.OriginalRecipient{Type: "unknown", Address: "nair_s"}, Action: ehlo.Failed,
			Status: status(5, 0, 0), Comment: "unknown permanent failure",
		}}}},
		"3464, delayed": {`Reporting-MTA: dns; sun2.nsfnet-relay.ac.uk

Final-Recipient: rfc822;thomas@de-montfort.ac.uk
Status: 4.0.0 (unknown temporary failure)
Action: delayed
`, Report{ReportingMTA: DNS("sun2.nsfnet-relay.ac.uk"), Recipients: []Recipient{{
			Final: rfc822("thomas@de-montfort.ac.uk"), Action: ehlo.Delayed, Status: status(4, 0, 0), Comment: "unknown temporary failure",
		}}}},
		"3461, 10.6": {`Reporting-MTA: dns; mail.Example.COM
Original-Envelope-ID: QQ314159

Original-Recipient: rfc822;Bob@Example.COM
Final-Recipient: rfc822;Bob@Example.COM
Action: delivered
Status: 2.0.0
`, Report{EnvelopeID: "QQ314159", ReportingMTA: DNS("mail.Example.COM"), Recipients: []Recipient{{
			Original: rfc822("Bob@Example.COM"), Final: rfc822("Bob@Example.COM"), Action: ehlo.Delivered, Status: status(2, 0, 0),
		}}}},
		"3461, 10.7": {`Reporting-MTA: dns; Example.ORG
Original-Envelope-ID: QQ314159

Original-Recipient: rfc822;Carol@Ivory.EDU
Final-Recipient: rfc822;Carol@Ivory.EDU
SMTP-Remote-Recipient: Carol@Ivory.EDU
Diagnostic-Code: smtp; 550 error - no such recipient
Action: failed
Status: 5.0.0
`, Report{EnvelopeID: "QQ314159", ReportingMTA: DNS("Example.ORG"), Recipients: []Recipient{{
			Original: rfc822("Carol@Ivory.EDU"), Final: rfc822("Carol@Ivory.EDU"), Action: ehlo.Failed, Status: status(5, 0, 0),
			Diagnostic: Diagnostic{"smtp", "550 error - no such recipient"}, Fields: []Field{{"SMTP-Remote-Recipient", "Carol@Ivory.EDU"}},
		}}}},
		"3461, 10.9": {`Reporting-MTA: Boondoggle.GOV
Original-Envelope-ID: QQ314159

Original-Recipient: rfc822;George@Tax-ME.GOV
Final-Recipient: rfc822;Sam@Boondoggle.GOV
Action: failed
Status: 4.2.2 (disk quota exceeded)
`, Report{EnvelopeID: "QQ314159", ReportingMTA: MTA{Name: "Boondoggle.GOV"}, Recipients: []Recipient{{
			Original: rfc822("George@Tax-ME.GOV"), Final: rfc822("Sam@Boondoggle.GOV"), Action: ehlo.Failed,
			Status: status(4, 2, 2), Comment: "disk quota exceeded",
		}}}},
	} {
		for _, ending := range []string{"\n", "\r\n"} {
			got, err := Parse(iotest.HalfReader(strings.NewReader(strings.ReplaceAll(notification(tt.status), "\n", ending))))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if !same(&got.Report, &tt.want) {
				t.Errorf("%s:\n%+v\nwant\n%+v", name, got.Report, tt.want)
			}
			if got.Header.Get("Message-Id") != "<199407072116.RAA14128@CS.UTK.EDU>" || got.Original.Get("Message-ID") != "<1@example.org>" ||
				!strings.HasPrefix(got.Text, "The original message was received at Sat, 2 Jul 1994 17:10:28 -0400\n") {
				t.Errorf("%s: %v, %v, %q", name, got.Header, got.Original, got.Text)
			}
		}
	}
}

// same compares reports, and times as instants.
func same(a, b *Report) bool { return reflect.DeepEqual(inUTC(a), inUTC(b)) }

func inUTC(r *Report) Report {
	c := *r
	c.Arrival = c.Arrival.UTC()
	c.Recipients = nil
	for _, p := range r.Recipients {
		p.LastAttempt, p.WillRetryUntil = p.LastAttempt.UTC(), p.WillRetryUntil.UTC()
		c.Recipients = append(c.Recipients, p)
	}
	return c
}

// multi makes a multipart of parts, each a header and content.
func multi(kind, boundary string, parts ...string) string {
	return "Content-Type: " + kind + "; boundary=" + boundary + "\n\npreamble\n--" + boundary + "\n" +
		strings.Join(parts, "\n--"+boundary+"\n") + "\n--" + boundary + "--\n"
}

// The report is found wherever it stands, and however it is encoded.
func TestParseParts(t *testing.T) {
	const fields = "Reporting-MTA: dns; m\r\n\r\nFinal-Recipient: utf-8; jörg@example.com\r\nAction: failed\r\n"
	plain := "Content-Type: message/global-delivery-status\n\n" + fields
	coded := "Content-Type: Message/Global-Delivery-Status\nContent-Transfer-Encoding: BASE64\n\n" +
		base64.StdEncoding.EncodeToString([]byte(fields)) + "\n"
	printable := "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: quoted-printable\n\n" +
		strings.ReplaceAll(strings.ReplaceAll(fields, "=", "=3D"), "ö", "=C3=B6")
	text := "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=\n=C3=9Fe =1B\n"
	header := "Content-Type: message/global-headers\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString([]byte("Subject: Grüße\r\nX-Mine: 1\r\nX-Mine: 2\r\n broken\r\nno field\r\n"))
	for name, in := range map[string]string{
		"plain":         multi("multipart/report", "b", text, plain, header),
		"base64":        multi("multipart/report; report-type=delivery-status", "b", text, coded, header),
		"quoted":        multi("multipart/report; report-type=global-delivery-status", "b", text, printable, header),
		"mixed":         multi("multipart/mixed", "b", multi("multipart/report", "c", text, plain, header)),
		"alternatives":  multi("multipart/report", "b", multi("multipart/alternative", "c", text, "Content-Type: text/html\n\n<p>"), plain, header),
		"footer":        multi("multipart/report", "b", text, plain, header, "Content-Type: text/plain\n\nfooter"),
		"two of each":   multi("multipart/report", "b", text, "Content-Type: text/plain\n\nno", plain, strings.ReplaceAll(plain, "failed", "x"), header),
		"mailbox":       "From MAILER-DAEMON Sun Nov 22 04:00:00 2026\n" + multi("multipart/report", "b", text, plain, header),
		"bad parameter": multi("multipart/report; report-type=a=b", "b", text, plain, header),
		"cut off":       strings.TrimSuffix(multi("multipart/report", "b", text, plain, header), "\n--b--\n") + "\r\n",
	} {
		got, err := Parse(strings.NewReader(in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := Report{ReportingMTA: DNS("m"), Recipients: []Recipient{{
			Final: ehlo.OriginalRecipient{Type: "utf-8", Address: "jörg@example.com"}, Action: ehlo.Failed}}}
		if !same(&got.Report, &want) || strings.TrimSpace(got.Text) != "Grüße ?" || got.Original.Get("Subject") != "Grüße" ||
			len(got.Original["X-Mine"]) != 2 || got.Original["X-Mine"][1] != "2 broken" {
			t.Errorf("%s: %+v, %q, %v", name, got.Report, got.Text, got.Original)
		}
	}
}

func TestParseError(t *testing.T) {
	nested := "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; b\n"
	for range maxDepth + 1 {
		nested = multi("multipart/mixed", "b"+strings.Repeat("x", len(nested)%50), nested)
	}
	many := []string{}
	for range maxParts {
		many = append(many, "\nx")
	}
	for name, in := range map[string]string{
		"nothing":         "",
		"no header":       "hello",
		"no multipart":    "Content-Type: text/plain\n\nYour message was not delivered\n",
		"no type":         "Subject: x\n\nx\n",
		"no boundary":     "Content-Type: multipart/report\n\n--\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; b\n----\n",
		"no report":       multi("multipart/report", "b", "\nx"),
		"no recipient":    notification("Reporting-MTA: dns; m\n"),
		"too deep":        nested,
		"too many":        multi("multipart/report", "b", append(many, "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; b")...),
		"broken header":   multi("multipart/report", "b", "broken\n\nx", "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; b"),
		"an endless line": "From ",
		"a long type":     multi("multipart/report", "b", "Content-Type: message/delivery-status; x="+strings.Repeat("x", 4<<10)+"\n\nFinal-Recipient: rfc822; b"),
		"of a long type":  "Content-Type: text/" + strings.Repeat("x", 5000) + "\n\nx",
		"a part's header": multi("multipart/report", "b", "X-A: "+strings.Repeat("x", 64<<10)+"\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; b"),
		"a long header":   strings.Repeat("X-A: b\n", 10_000) + notification("Final-Recipient: rfc822; b\n"),
	} {
		if got, err := Parse(strings.NewReader(in)); !errors.Is(err, ErrNotReport) || !strings.HasPrefix(err.Error(), "smtp: ") || len(err.Error()) > 200 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	in := notification("Final-Recipient: rfc822; b@example.com\n")
	for n := range 30 {
		r := &breaking{strings.NewReader(in[:n*len(in)/30])}
		if _, err := Parse(r); !errors.Is(err, errBrittle) {
			t.Errorf("an error after %d octets becomes %v", n*len(in)/30, err)
		}
	}
}

// breaking fails where its text ends.
type breaking struct{ *strings.Reader }

func (b *breaking) Read(p []byte) (int, error) {
	if b.Len() == 0 {
		return 0, errBrittle
	}
	return b.Reader.Read(p)
}

// What a stranger can send is bounded: an endless status, an endless field and an endless header are cut off.
func TestParseBounds(t *testing.T) {
	got, err := Parse(strings.NewReader(notification("Final-Recipient: rfc822; b@example.com\n" + strings.Repeat("X-A: b\n", 1<<20))))
	if n := len(got.Recipients[0].Fields); err != nil || n > 1<<20/len("X-A: b\n") || n < 100_000 {
		t.Errorf("%d fields, %v", n, err)
	}
	got, err = Parse(strings.NewReader(notification("Final-Recipient: rfc822; b@example.com\nX-A: " + strings.Repeat("a", 2<<20))))
	if err != nil || len(got.Recipients[0].Fields) != 1 || len(got.Recipients[0].Fields[0].Value) > 1<<20 {
		t.Errorf("%v, %d fields", err, len(got.Recipients[0].Fields))
	}
	got, err = Parse(strings.NewReader(multi("multipart/report", "b", "X-A: "+strings.Repeat("x", 100<<10)+"\n\nno text",
		"X-A: "+strings.Repeat("x", 60<<10)+"\nContent-Type: message/delivery-status; x="+strings.Repeat("x", 3<<10)+"\n\nFinal-Recipient: rfc822; b\n")))
	if err != nil || got.Text != "" || len(got.Recipients) != 1 {
		t.Errorf("of parts with long headers %+v, %v", got, err)
	}
	got, err = Parse(strings.NewReader(strings.Replace(notification("Final-Recipient: rfc822; b@example.com\n"), "Subject: Hello\n",
		strings.Repeat("Subject: Hello\n", 100_000), 1)))
	if n := len(got.Original["Subject"]); err != nil || n > 64<<10/len("Subject: Hello\n")+1 || n < 1000 {
		t.Errorf("%v, %d subjects", err, n)
	}
}

// What a report costs grows with its size and no faster, also if it is all one field: anybody can send one. Memory
// stands for time here, since what is copied for each line shows in both.
func TestParseIsLinear(t *testing.T) {
	const recipient = "Final-Recipient: rfc822; b@example.com\n"
	fill := func(unit string) string { return strings.Repeat(unit, maxStatus/len(unit)) }
	header := func(h string) string { return multi("multipart/report", "b", h+"\n\nx", h+"\n\nx", h+"\n\nx") }
	for name, in := range map[string]string{
		"a field of many lines": notification(recipient + "Diagnostic-Code: smtp; 550\n" + fill(" a\n")),
		"fields":                notification(recipient + fill("a:b\n")),
		"groups":                notification(recipient + fill("a:b\n\n")),
		"recipients":            notification(fill("Final-Recipient:a\n\n")),
		"comments":              notification(recipient + "Status: 5.0.0 (" + fill("(\\)") + ")\n"),
		"returned header":       strings.Replace(notification(recipient), "Subject: Hello\n", "Subject: Hello\n"+fill(" a\n"), 1),
		"parameters":            header("Content-Type: text/plain" + fill("; a*0=b")),
		"boundaries":            header("Content-Type: multipart/x; " + fill("boundary ")),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(strings.NewReader(in))
		runtime.ReadMemStats(&after)
		if err != nil && !errors.Is(err, ErrNotReport) {
			t.Errorf("%s: %v", name, err)
		}
		if n := int(after.TotalAlloc - before.TotalAlloc); n > 128*maxStatus {
			t.Errorf("%s: %d octets are allocated for %d", name, n, len(in))
		}
	}
}
