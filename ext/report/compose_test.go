package report

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
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

// The body can be read again, from the beginning, and another one at the same time.
func TestBodySeek(t *testing.T) {
	m := message(t, "", content)
	m.Content = io.NewSectionReader(strings.NewReader("before"+content+"after"), 6, int64(len(content)))
	n := made(t, m, failed(t, "b@example.com"), host)
	first, err := io.ReadAll(iotest.OneByteReader(n.Body))
	if err != nil || !bytes.Contains(first, []byte("\r\n\r\n"+content+"\r\n--")) {
		t.Fatalf("%v, %s", err, first)
	}
	if pos, err := n.Body.Seek(0, io.SeekCurrent); pos != int64(len(first)) || err != nil {
		t.Errorf("the body stands at %d: %v", pos, err)
	}
	if pos, err := n.Body.Seek(0, io.SeekStart); pos != 0 || err != nil {
		t.Errorf("the body stands at %d: %v", pos, err)
	}
	if _, err := io.CopyN(io.Discard, n.Body, 5); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{5, 0} {
		if pos, err := n.Body.Seek(offset, io.SeekStart); pos != offset || err != nil {
			t.Errorf("the body stands at %d: %v", pos, err)
		}
	}
	if second, err := io.ReadAll(n.Body); err != nil || !bytes.Equal(first, second) {
		t.Errorf("%v, and another time %s", err, second)
	}
	if _, err := n.Body.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	other := made(t, m, failed(t, "c@example.com"), host)
	var one, two bytes.Buffer
	for err := error(nil); err == nil; {
		if _, err = io.CopyN(&one, n.Body, 100); err == nil {
			_, err = io.CopyN(&two, other.Body, 100)
		}
	}
	if !bytes.Equal(one.Bytes(), first) {
		t.Errorf("and while another is read %s", one.Bytes())
	}
	if _, err := n.Body.Seek(5, io.SeekStart); err == nil {
		t.Error("it can be sought to 5")
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

// R12: the envelope of a notification has the null reverse-path, which is that of a message without one, and of the
// parameters of the message none but those that RFC 8689 section 5 and RFC 6710 section 4.6 ask for.
func TestR12R16V06_Envelope(t *testing.T) {
	for mail, want := range map[string]string{
		"": "", "RET=FULL ENVID=x BODY=8BITMIME SIZE=9 AUTH=<> BY=9;R": "",
		"REQUIRETLS RET=FULL": "REQUIRETLS", "MT-PRIORITY=-3 ENVID=x": "MT-PRIORITY=-3",
		"MT-PRIORITY=4 REQUIRETLS": "REQUIRETLS MT-PRIORITY=4",
	} {
		n := made(t, message(t, mail, content), failed(t, "b@example.com"), host)
		args, err := proto.AppendMailArgs(nil, proto.Address{}, n.Mail, false)
		if got := strings.TrimSpace(strings.TrimPrefix(string(args), "FROM:<>")); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", mail, got, err, want)
		}
		if len(n.To) != 1 || n.To[0].Address != address(t, "Alice@Example.ORG") || n.To[0].Params != nil || n.Needs != 0 {
			t.Errorf("%q: to %+v, need %v", mail, n.To, n.Needs)
		}
	}
}

// V06: a notification from the null reverse-path may go on without REQUIRETLS rather than be lost (RFC 8689 section 5).
func TestV06_Relax(t *testing.T) {
	n := made(t, message(t, "MT-PRIORITY=4 REQUIRETLS", content), failed(t, "b@example.com"), host)
	before := n.Mail
	for _, err := range []error{nil, errBrittle, &ext.UnsupportedError{Keyword: "SMTPUTF8"}, &ext.UnsupportedError{Keyword: "8BITMIME"}} {
		if n.Relax(err) {
			t.Errorf("%v: %v is left", err, n.Mail)
		}
	}
	if !n.Relax(&ext.UnsupportedError{Keyword: "REQUIRETLS", Err: errBrittle}) || n.Mail.Has("REQUIRETLS") || !n.Mail.Has("MT-PRIORITY") {
		t.Errorf("%v is left", n.Mail)
	}
	if n.Relax(&ext.UnsupportedError{Keyword: "REQUIRETLS"}) {
		t.Error("it can be had without for ever")
	}
	if !n.Relax(&ext.UnsupportedError{Keyword: "MT-PRIORITY"}) || len(n.Mail) != 0 || len(before) != 2 {
		t.Errorf("%v is left of %v", n.Mail, before)
	}
}

// R17, S14: with a way for UTF-8 addresses stand as they are, and without it in the 7-bit form (RFC 6533 sections 3 and
// 4.1).
func TestR17S14_Status(t *testing.T) {
	wide := Recipient{Final: ehlo.NewOriginalRecipient(address(t, "jörg@example.org")), Action: ehlo.Failed}
	rcpt, _ := ehlo.ReadDSNRcpt(params(t, `ORCPT=utf-8;g\x{FC}nter@example.org`))
	wide.Original = rcpt.Original
	said := wide
	said.Diagnostic = Diagnostic{"smtp", "550 5.1.1 nicht möglich"}
	plus := Recipient{Final: ehlo.OriginalRecipient{Type: "utf-8", Address: "a+b@example.org"}, Action: ehlo.Failed}
	for name, tt := range map[string]struct {
		r              Recipient
		opt            *Options
		kind, encoding string
		want           []string
	}{
		"carried": {said, all, "message/global-delivery-status", "8bit", []string{"Final-Recipient: utf-8; jörg@example.org\r\n",
			"Original-Recipient: utf-8; günter@example.org\r\n", "Diagnostic-Code: smtp; 550 5.1.1 nicht möglich\r\n"}},
		"addresses in ASCII": {wide, host, "message/delivery-status", "", []string{
			"Final-Recipient: utf-8; j\\x{F6}rg@example.org\r\n", "Original-Recipient: utf-8; g\\x{FC}nter@example.org\r\n"}},
		"encoded": {said, host, "message/global-delivery-status", "quoted-printable", []string{
			"Final-Recipient: utf-8; jörg@example.org\r\n", "550 5.1.1 nicht möglich\r\n"}},
		"nothing to carry": {plus, all, "message/delivery-status", "", []string{"Final-Recipient: utf-8; a\\x{2B}b@example.org\r\n"}},
	} {
		_, leaves := dissect(t, made(t, message(t, "", content), &Report{Recipients: []Recipient{tt.r}}, tt.opt))
		l := leaves[1]
		if l.kind != tt.kind || l.encoding != tt.encoding {
			t.Errorf("%s: %s %s", name, l.kind, l.encoding)
		}
		for _, want := range tt.want {
			if !strings.Contains(l.content, want) {
				t.Errorf("%s:\n%s\nhas no %s", name, l.content, want)
			}
		}
	}
	m := message(t, "SMTPUTF8", content)
	m.From = address(t, "alice.ö@münchen.example")
	n := made(t, m, failed(t, "b@example.com"), host)
	if h, _ := dissect(t, n); n.Needs != ext.UTF8 || h.Get("To") != "<alice.ö@münchen.example>" {
		t.Errorf("need %v, To: %s", n.Needs, h.Get("To"))
	}
	m.From = address(t, "alice@münchen.example")
	n = made(t, m, failed(t, "b@example.com"), host)
	if h, _ := dissect(t, n); n.Needs != 0 || h.Get("To") != "<alice@xn--mnchen-3ya.example>" {
		t.Errorf("need %v, To: %s", n.Needs, h.Get("To"))
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
