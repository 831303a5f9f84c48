package report

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

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
