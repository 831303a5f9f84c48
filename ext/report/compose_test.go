package report

import (
	"errors"
	"io"
	"mime"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// R13: the report on Carol of RFC 3461 section 10.7, with the fields that section 6.3 demands, in the order of the
// grammar in RFC 3464.
func TestR13_Compose(t *testing.T) {
	m := message(t, "RET=HDRS ENVID=QQ+2B314159", content)
	m.ReceivedFrom = MTA{Type: "dns", Name: "pc.example.org", Comment: "[192.0.2.7]"}
	m.Arrival = time.Date(2026, 11, 22, 3, 4, 5, 0, time.FixedZone("", -5*3600))
	reply, err := refusal(550, "5.1.1", "error - no such recipient\nask postmaster")
	o := NextHop{Host: "Ivory.EDU"}.Outcome(proto.Outcome{Recipient: to(t, "Carol@Ivory.EDU", "NOTIFY=FAILURE ORCPT=rfc822;Carol@Ivory.EDU"), Reply: reply, Err: err})
	o.LastAttempt = m.Arrival.Add(time.Minute)
	o.Fields = []Field{{"SMTP-Remote-Recipient", "Carol@Ivory.EDU"}}
	due := m.Due([]Outcome{o})
	if len(due) != 1 {
		t.Fatal(due)
	}
	due[0].Fields = []Field{{"X-Queue-ID", "4711"}}
	h, leaves := dissect(t, made(t, m, due[0], host))
	for key, want := range map[string]string{
		"From": "Mail Delivery System <postmaster@mail.example.org>", "To": "<Alice@Example.ORG>",
		"Subject": "Undelivered mail", "Date": "Sun, 22 Nov 2026 04:00:00 +0100", "Mime-Version": "1.0",
		"Auto-Submitted": "auto-replied",
	} {
		if h.Get(key) != want {
			t.Errorf("%s: %q, want %q", key, h.Get(key), want)
		}
	}
	if id := h.Get("Message-Id"); !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, "@mail.example.org>") || len(id) < 40 {
		t.Errorf("Message-ID %s", id)
	}
	if len(leaves) != 3 {
		t.Fatalf("%d parts", len(leaves))
	}
	if l := leaves[0]; l.kind != "text/plain; charset=us-ascii" || !strings.Contains(l.content, "Carol@Ivory.EDU") ||
		!strings.Contains(l.content, "The server Ivory.EDU said:\r\n        550-5.1.1 error - no such recipient") {
		t.Errorf("%+v", l)
	}
	want := strings.ReplaceAll(`Original-Envelope-Id: QQ+314159
Reporting-MTA: dns; mail.example.org
Received-From-MTA: dns; pc.example.org ([192.0.2.7])
Arrival-Date: Sun, 22 Nov 2026 03:04:05 -0500
X-Queue-ID: 4711

Original-Recipient: rfc822; Carol@Ivory.EDU
Final-Recipient: rfc822; Carol@Ivory.EDU
Action: failed
Status: 5.1.1
Remote-MTA: dns; Ivory.EDU
Diagnostic-Code: smtp; 550-5.1.1 error - no such recipient 550 5.1.1 ask
 postmaster
Last-Attempt-Date: Sun, 22 Nov 2026 03:05:05 -0500
SMTP-Remote-Recipient: Carol@Ivory.EDU
`, "\n", "\r\n")
	if l := leaves[1]; l.kind != "message/delivery-status" || l.content != want {
		t.Errorf("%s:\n%s\nwant\n%s", l.kind, l.content, want)
	}
	if l := leaves[2]; l.kind != "text/rfc822-headers" || l.content != "Subject: Hello\r\nMessage-ID: <1@example.org>\r\n" {
		t.Errorf("%+v", l)
	}
}

// What is returned of the message: RFC 3461 section 6.2, RFC 6522 section 3, RFC 6533 sections 4.2 to 4.5.
func TestR13_Returned(t *testing.T) {
	const (
		eight  = "Subject: x\r\n\r\nGr\u00fc\u00dfe\r\n"
		latin  = "Subject: Gr\xfc\xdfe\r\n\r\nx\r\n"
		wide   = "Subject: Grüße\r\n\r\nGrüße\r\n"
		bare   = "Subject: x\r\n\r\na\rb\r\n"
		noText = "Subject: x\r\n\r\n\x00\r\n"
	)
	long := "Subject: x\r\n\r\n" + strings.Repeat("x", 999) + "\r\n"
	just := "Subject: x\r\n\r\n" + strings.Repeat("x", 998) + "\r\n"
	tall := "Subject: " + strings.Repeat("x", 999) + "\r\n\r\nx\r\n"
	large := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 100_000)
	for _, tt := range []struct {
		name, mail, content string
		action              ehlo.Action
		carries             ext.Feature
		kind, encoding      string
		whole               bool
		need                ext.Feature
	}{
		{"nothing is said", "", content, ehlo.Failed, 0, "message/rfc822", "", true, 0},
		{"full", "RET=FULL", content, ehlo.Failed, 0, "message/rfc822", "", true, 0},
		{"headers", "RET=HDRS", content, ehlo.Failed, 0, "text/rfc822-headers", "", false, 0},
		{"R16 V06 REQUIRETLS", "REQUIRETLS RET=FULL", content, ehlo.Failed, 0, "text/rfc822-headers", "", false, 0},
		{"a delay", "RET=FULL", content, ehlo.Delayed, 0, "text/rfc822-headers", "", false, 0},
		{"success", "RET=FULL", content, ehlo.Delivered, 0, "text/rfc822-headers", "", false, 0},
		{"too large", "RET=FULL", large, ehlo.Failed, 0, "text/rfc822-headers", "", false, 0},
		{"8 bits", "", eight, ehlo.Failed, 0, "text/rfc822-headers", "", false, 0},
		{"8 bits, 8BITMIME", "", eight, ehlo.Failed, ext.EightBit, "message/rfc822", "8bit", true, ext.EightBit},
		{"8 bits, SMTPUTF8", "", eight, ehlo.Failed, ext.UTF8, "message/rfc822", "8bit", true, ext.EightBit},
		{"8 bits, headers", "RET=HDRS", eight, ehlo.Failed, ext.EightBit, "text/rfc822-headers", "", false, 0},
		{"latin", "", latin, ehlo.Failed, ext.EightBit, "text/rfc822-headers", "quoted-printable", false, 0},
		{"long line", "", long, ehlo.Failed, ext.UTF8, "text/rfc822-headers", "", false, 0},
		{"just not too long", "", just, ehlo.Failed, 0, "message/rfc822", "", true, 0},
		{"long header", "", tall, ehlo.Failed, ext.UTF8, "text/rfc822-headers", "quoted-printable", false, 0},
		{"bare CR", "", bare, ehlo.Failed, ext.UTF8, "text/rfc822-headers", "", false, 0},
		{"CR at the end", "", "Subject: x\r\n\r\nx\r", ehlo.Failed, ext.UTF8, "text/rfc822-headers", "", false, 0},
		{"NUL", "", noText, ehlo.Failed, ext.UTF8, "text/rfc822-headers", "", false, 0},
		{"R17 UTF-8", "SMTPUTF8", wide, ehlo.Failed, ext.UTF8, "message/global", "8bit", true, ext.UTF8 | ext.EightBit},
		{"R17 UTF-8, degraded", "SMTPUTF8", wide, ehlo.Failed, ext.EightBit, "message/global", "base64", true, 0},
		{"R17 UTF-8, headers", "RET=HDRS", wide, ehlo.Failed, ext.UTF8, "message/global-headers", "8bit", false, ext.UTF8 | ext.EightBit},
		{"R17 UTF-8, headers, degraded", "RET=HDRS", wide, ehlo.Failed, 0, "message/global-headers", "quoted-printable", false, 0},
		{"R17 UTF-8, long header", "RET=HDRS", "X-A: ü\r\n" + tall, ehlo.Failed, ext.UTF8, "message/global-headers", "quoted-printable", false, 0},
		{"R17 UTF-8, no text", "", wide + bare, ehlo.Failed, ext.UTF8, "message/global", "base64", true, 0},
		{"LF", "", "Subject: x\n\nx\n", ehlo.Failed, 0, "message/rfc822", "", true, 0},
		{"LF, headers", "RET=HDRS", "Subject: x\n\nx\n", ehlo.Failed, 0, "text/rfc822-headers", "", false, 0},
		{"LF, UTF-8", "", strings.ReplaceAll(wide, "\r\n", "\n"), ehlo.Failed, 0, "message/global", "base64", true, 0},
		{"no body", "", "Subject: x\r\n", ehlo.Failed, 0, "message/rfc822", "", true, 0},
		{"no line ending", "", "Subject: x\r\n\r\nx", ehlo.Failed, 0, "message/rfc822", "", true, 0},
		{"no header", "RET=HDRS", "\r\nx\r\n", ehlo.Failed, 0, "text/rfc822-headers", "", false, 0},
		{"nothing", "", "", ehlo.Failed, 0, "message/rfc822", "", true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := failed(t, "b@example.com")
			r.Recipients[0].Action = tt.action
			n := made(t, message(t, tt.mail, tt.content), r, &Options{Hostname: "mail.example.org", Carries: tt.carries})
			_, leaves := dissect(t, n)
			want := strings.ReplaceAll(strings.ReplaceAll(tt.content, "\r\n", "\n"), "\n", "\r\n")
			if !tt.whole {
				head, _, found := strings.Cut("\r\n"+want, "\r\n\r\n")
				if want = strings.TrimPrefix(head, "\r\n"); found && want != "" {
					want += "\r\n"
				}
			}
			l := leaves[2]
			if l.kind != tt.kind || l.encoding != tt.encoding || l.content != want || n.Needs != tt.need {
				t.Errorf("%s %s, need %v: %.200q, want %s %s, need %v: %.200q", l.kind, l.encoding, n.Needs, l.content,
					tt.kind, tt.encoding, tt.need, want)
			}
		})
	}
}

func TestMaxReturn(t *testing.T) {
	for most, want := range map[int64]string{int64(len(content)): "message/rfc822", int64(len(content)) - 1: "text/rfc822-headers",
		-1: "message/rfc822"} {
		_, leaves := dissect(t, made(t, message(t, "", content), failed(t, "b@example.com"),
			&Options{Hostname: "mail.example.org", MaxReturn: most}))
		if leaves[2].kind != want {
			t.Errorf("%d: %s", most, leaves[2].kind)
		}
	}
	header := strings.Repeat("X-Line: "+strings.Repeat("0123456789", 90)+"\r\n", 100) + "X-Short: 1\r\n"
	_, leaves := dissect(t, made(t, message(t, "RET=HDRS", header+"\r\nx\r\n"), failed(t, "b@example.com"), host))
	if got := leaves[2].content; !strings.HasPrefix(header, got) || len(got) > 64<<10 || len(got) < 60<<10 || !strings.HasSuffix(got, "\r\n") {
		t.Errorf("%d octets of a long header, the last %.20q", len(got), got[len(got)-20:])
	}
	m := message(t, "", content)
	m.Content = nil
	if _, leaves := dissect(t, made(t, m, failed(t, "b@example.com"), host)); len(leaves) != 2 {
		t.Errorf("%d parts without the message", len(leaves))
	}
}

// brittle is a content that cannot be read once it is worn out.
type brittle struct {
	io.ReaderAt
	worn bool
}

var errBrittle = errors.New("worn out")

func (b *brittle) ReadAt(p []byte, off int64) (int, error) {
	if b.worn {
		return 0, errBrittle
	}
	return b.ReaderAt.ReadAt(p, off)
}

func TestComposeError(t *testing.T) {
	good := failed(t, "b@example.com")
	for name, try := range map[string]func(*Message, *Options) error{
		"no hostname": func(m *Message, _ *Options) error { _, err := Compose(m, good, nil); return err },
		"bad hostname": func(m *Message, _ *Options) error {
			_, err := Compose(m, good, &Options{Hostname: "a\r\nb"})
			return err
		},
		"null reverse-path": func(m *Message, o *Options) error {
			m.From = proto.Address{}
			_, err := Compose(m, good, o)
			return err
		},
		"no recipients": func(m *Message, o *Options) error { _, err := Compose(m, &Report{}, o); return err },
		"R13 no address": func(m *Message, o *Options) error {
			r := failed(t, "b@example.com")
			r.Recipients = append(r.Recipients, Recipient{Original: rfc822("c@example.com"), Action: ehlo.Failed})
			_, err := Compose(m, r, o)
			if err == nil || !strings.Contains(err.Error(), "recipient 2") || !strings.Contains(err.Error(), "Recipients[1].Final") {
				t.Errorf("it is not said which recipient has no address: %v", err)
			}
			return err
		},
		"R13 a blank address": func(m *Message, o *Options) error {
			_, err := Compose(m, &Report{Recipients: []Recipient{{Final: rfc822(" \r\n"), Action: ehlo.Failed}}}, o)
			return err
		},
		"bad field": func(m *Message, o *Options) error {
			_, err := Compose(m, &Report{Recipients: good.Recipients, Fields: []Field{{"X: y\r\nStatus", "x"}}}, o)
			return err
		},
		"long field": func(m *Message, o *Options) error {
			r := failed(t, "b@example.com")
			r.Recipients[0].Fields = []Field{{strings.Repeat("x", 77), "x"}}
			_, err := Compose(m, r, o)
			return err
		},
		"bad reverse-path": func(m *Message, o *Options) error { m.From.Local = "a\nb"; _, err := Compose(m, good, o); return err },
		"bad From": func(m *Message, o *Options) error {
			_, err := Compose(m, good, &Options{Hostname: o.Hostname, From: proto.Address{Local: "x"}})
			return err
		},
	} {
		if err := try(message(t, "", content), host); err == nil || !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := message(t, "", content)
	b := &brittle{ReaderAt: m.Content}
	m.Content = b
	n := made(t, m, good, host)
	b.worn = true
	if _, err := io.ReadAll(n.Body); !errors.Is(err, errBrittle) {
		t.Errorf("reading it: %v", err)
	}
	if _, err := Compose(m, good, host); !errors.Is(err, errBrittle) {
		t.Errorf("looking at it: %v", err)
	}
}

func TestOptions(t *testing.T) {
	m, r := message(t, "", content), failed(t, "b@example.com")
	h, leaves := dissect(t, made(t, m, r, &Options{
		Hostname: "relay", From: address(t, "help@example.net"),
		Subject: func(*Report) string { return "Unzustellbar\r\nBcc: x: Grüße" },
		Text:    func(*Report) string { return "Grüße\x00\r\n.\n--x\nüber " + strings.Repeat("ü", 2000) + "\n" },
	}))
	subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	if err != nil || subject != "Unzustellbar  Bcc: x: Grüße" || h.Get("Bcc") != "" {
		t.Errorf("Subject: %q %v", subject, err)
	}
	if got := h.Get("From"); got != "Mail Delivery System <help@example.net>" {
		t.Errorf("From: %s", got)
	}
	if h.Get("Date") == "" {
		t.Error("no date")
	}
	if l := leaves[0]; l.kind != "text/plain; charset=utf-8" || l.content != "Grüße?\r\n.\r\n--x\r\nüber "+strings.Repeat("ü", 2000)+"\r\n" {
		t.Errorf("%+v", l)
	}
	long := &Options{Hostname: "mail.example.org", Text: func(*Report) string { return strings.Repeat("x", 999) }}
	if _, leaves := dissect(t, made(t, m, r, long)); leaves[0].encoding != "quoted-printable" || leaves[0].content != strings.Repeat("x", 999)+"\r\n" {
		t.Errorf("%+v", leaves[0])
	}
	if !strings.HasPrefix(leaves[1].content, "Reporting-MTA: x-local-hostname; relay\r\n") { // RFC 3461 section 6.3(b)
		t.Errorf("%s", leaves[1].content)
	}
	_, leaves = dissect(t, made(t, m, r, &Options{Hostname: "[192.0.2.1]"}))
	if !strings.HasPrefix(leaves[1].content, "Reporting-MTA: dns; [192.0.2.1]\r\n") {
		t.Errorf("%s", leaves[1].content)
	}
}

// The boundary is another one if a line begins like it, in whatever part.
func TestBoundary(t *testing.T) {
	m := message(t, "", "Subject: x\r\n\r\n--whole\r\n")
	r := failed(t, "b@example.com")
	r.Recipients[0].Diagnostic = Diagnostic{"smtp", strings.Repeat("x", 70) + " --status"}
	opt := &Options{Hostname: "mail.example.org", Text: func(*Report) string { return "--text" }}
	given := []string{"whole", "text", "free"}
	n, err := compose(m, r, opt, func() string {
		b := given[0]
		given = given[1:]
		return b
	})
	if err != nil || len(given) != 0 {
		t.Fatalf("%v, and %q are left", err, given)
	}
	if _, leaves := dissect(t, n); len(leaves) != 3 || leaves[2].content != "Subject: x\r\n\r\n--whole\r\n" {
		t.Errorf("%q", leaves)
	}

	o, taken, err := scan(strings.NewReader("Subject: x\r\n\r\nx--b\r\n--by\r\n"), []byte("--b"))
	if err != nil || !taken || o.size != 26 {
		t.Errorf("%v %v %d", err, taken, o.size)
	}
	if _, taken, _ := scan(strings.NewReader("Subject: x\r\n\r\nx--b\r\n"+strings.Repeat("x", 64<<10)+"--b"), []byte("--b")); taken {
		t.Error("it is taken in the middle of a line")
	}
	for text, want := range map[string]bool{"--b": true, "x\n--bc": true, "x--b": false, "": false} {
		if begins([]byte(text), "--b") != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
