package report

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A leaf is a part of a notification as net/mail and mime/multipart read it.
type leaf struct{ kind, encoding, content string }

// dissect reads a notification with the standard library, which knows nothing of this package, and checks what is true
// of all: lines end in CRLF and are not too long, and octets above 127 are there only if they are declared.
func dissect(t testing.TB, n *Notification) (mail.Header, []leaf) {
	t.Helper()
	text, err := io.ReadAll(n.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(text), "\r\n"), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("the line %.200q has %d octets, or a line ending in it", line, len(line))
		}
	}
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		t.Errorf("it ends in %q", text[max(0, len(text)-20):])
	}
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if eight := m.Header.Get("Content-Transfer-Encoding") == "8bit"; eight != (n.Needs&ext.EightBit != 0) || !eight && !isASCII(text) && n.Needs&ext.UTF8 == 0 {
		t.Errorf("need %v, 8bit is declared: %v, and the content is ASCII: %v", n.Needs, eight, isASCII(text))
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type: %s %v %v", kind, params, err)
	}
	var leaves []leaf
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return m.Header, leaves
		}
		if err != nil {
			t.Fatal(err)
		}
		l := leaf{kind: p.Header.Get("Content-Type"), encoding: p.Header.Get("Content-Transfer-Encoding")}
		var content io.Reader = p
		switch l.encoding {
		case "base64":
			content = base64.NewDecoder(base64.StdEncoding, p)
		case "quoted-printable":
			content = quotedprintable.NewReader(p)
		}
		b, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		l.content = string(b)
		if l.encoding == "" && !isASCII(b) {
			t.Errorf("%s has octets above 127 and no encoding", l.kind)
		}
		leaves = append(leaves, l)
	}
}

func isASCII(b []byte) bool { return bytes.IndexFunc(b, func(c rune) bool { return c > 127 }) < 0 }

// address parses s.
func address(t testing.TB, s string) proto.Address {
	t.Helper()
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// params parses the parameters of a command.
func params(t testing.TB, s string) proto.Params {
	t.Helper()
	if s == "" {
		return nil
	}
	_, p, e := proto.ParseMailArgs([]byte("FROM:<> "+s), false)
	if e != nil {
		t.Fatal(e)
	}
	return p
}

// original is a message of which all tests know the lines.
const content = "Subject: Hello\r\nMessage-ID: <1@example.org>\r\n\r\nHow are you?\r\n"

// message returns a message from alice with content.
func message(t testing.TB, mail, content string) *Message {
	t.Helper()
	return &Message{From: address(t, "Alice@Example.ORG"), Mail: params(t, mail), Content: strings.NewReader(content)}
}

// to returns a recipient with the parameters of its RCPT command.
func to(t testing.TB, addr, rcpt string) proto.Recipient {
	t.Helper()
	return proto.Recipient{Address: address(t, addr), Params: params(t, rcpt)}
}

// refusal is the reply of a server to a RCPT command, and the error that a client makes of it.
func refusal(code int, status, text string) (proto.Reply, error) {
	st, _ := proto.ParseStatus(status)
	r := proto.Reply{Code: code, Status: st, Text: text}
	return r, r.Err()
}

// failed returns a report on one recipient whom the message has not reached.
func failed(t testing.TB, addr string) *Report {
	t.Helper()
	return &Report{Recipients: []Recipient{{Final: ehlo.NewOriginalRecipient(address(t, addr)), Action: ehlo.Failed}}}
}

var (
	host = &Options{Hostname: "mail.example.org", Date: time.Date(2026, 11, 22, 4, 0, 0, 0, time.FixedZone("", 3600))}
	all  = &Options{Hostname: "mail.example.org", Carries: ext.UTF8}
)

// made is Compose without an error.
func made(t testing.TB, m *Message, r *Report, opt *Options) *Notification {
	t.Helper()
	n, err := Compose(m, r, opt)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
