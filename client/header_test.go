package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/ext"
)

// envelopeOf returns the sender and the recipients of m as one line.
func envelopeOf(m *Message) string {
	s := m.From.String() + " >"
	for _, r := range m.To {
		s += " " + r.Address.String()
	}
	return s
}

// TestReadMessage checks the addresses that are found, and the octets that are left. Several of the headers are those
// of RFC 5322 appendix A.
func TestReadMessage(t *testing.T) {
	for _, tt := range []struct{ name, header, want, without string }{
		{"A.1.1", "From: John Doe <jdoe@machine.example>\nSender: Michael Jones <mjones@machine.example>\n" +
			"To: Mary Smith <mary@example.net>\nSubject: Saying Hello\n", "mjones@machine.example > mary@example.net", ""},
		{"A.1.2", `From: "Joe Q. Public" <john.q.public@example.com>
To: Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>
Cc: <boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>
`, "john.q.public@example.com > mary@x.test jdoe@example.org one@y.test boss@nil.test sysservices@example.net", ""},
		{"A.1.3", `From: Pete <pete@silly.example>
To: A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;
Cc: Undisclosed recipients:;
`, "pete@silly.example > c@a.test joe@where.test jdoe@one.test", ""},
		{"A.3", `Resent-From: Mary Smith <mary@example.net>
Resent-To: Jane Brown <j-brown@other.example>
Resent-Date: Mon, 24 Nov 1997 14:22:01 -0800
Resent-Message-ID: <78910@example.net>
From: John Doe <jdoe@machine.example>
To: Mary Smith <mary@example.net>
`, "mary@example.net > j-brown@other.example", ""},
		{"A.5", "From: Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>\n" +
			"To:A Group(Some people)\n     :Chris Jones <c@(Chris's host.)public.example>,\n         joe@example.org,\n" +
			"  John <jdoe@one.test> (my dear friend); (the end of the group)\nCc:(Empty list)(start)\n",
			"pete@silly.test > c@public.example joe@example.org jdoe@one.test", ""},
		{"Bcc", "From: a@b.example\r\nBcc: c@d.example,\r\n\te@f.example\r\nSubject: x\r\nbcc : g@h.example\r\n",
			"a@b.example > c@d.example e@f.example g@h.example", "From: a@b.example\r\nSubject: x\r\n"},
		{"an empty Bcc", "From: a@b.example\nTo: c@d.example\nBcc:\nBCC: (none)\n", "a@b.example > c@d.example",
			"From: a@b.example\nTo: c@d.example\n"},
		{"a CR alone, which is sent as CRLF", "From: a@b.example\nTo: c@d.example\rBcc: e@f.example\rX: y\n",
			"a@b.example > c@d.example e@f.example", "From: a@b.example\nTo: c@d.example\rX: y\n"},
		{"each mailbox once", "From: a@b.example\nTo: C <c@d.example>, c@D.example\nCc: \"c\"@d.example, e@f.example\n" +
			"Bcc: e@f.example\n", "a@b.example > c@d.example e@f.example",
			"From: a@b.example\nTo: C <c@d.example>, c@D.example\nCc: \"c\"@d.example, e@f.example\n"},
		{"quoted", "From: \"a b\"@b.example\nTo: \"c@d > x\"@d.example\n", `"a b"@b.example > "c@d > x"@d.example`, ""},
		{"what is a comment, and what is not", "From: a@b.example (c (d \\) e) f)\n" +
			"To: \"g (h\" <c@d.example>, (i, \") \"\\\"(\"@d.example, \"j)\" <e@f.example>\n",
			`a@b.example > c@d.example "\"("@d.example e@f.example`, ""},
		{"a name in an unknown character set", "From: =?x-unknown?Q?a=FF?= <a@b.example>\nTo: c@d.example\n",
			"a@b.example > c@d.example", ""},
		{"the last resending only", `Resent-Bcc: a@1.example
Resent-From: b@1.example
Resent-Sender: c@1.example
Resent-To: d@1.example
Received: from x by y
Resent-From: e@2.example
Resent-To: f@2.example
From: g@3.example
To: h@3.example
Bcc: i@3.example
`, "c@1.example > a@1.example d@1.example", `Resent-From: b@1.example
Resent-Sender: c@1.example
Resent-To: d@1.example
Received: from x by y
Resent-From: e@2.example
Resent-To: f@2.example
From: g@3.example
To: h@3.example
`},
		{"two resendings, one after the other", "Resent-From: a@1.example\nResent-To: b@1.example\n" +
			"Resent-From: c@2.example\nResent-Cc: d@2.example\nFrom: e@3.example\nTo: f@3.example\n",
			"a@1.example > b@1.example", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := "\nBcc: this is text\n" + strings.Repeat("x", 10_000)
			kept := tt.without
			if kept == "" {
				kept = tt.header
			}
			for name, r := range map[string]io.Reader{
				"seeker": strings.NewReader(tt.header + text),
				"buffer": bytes.NewBufferString(tt.header + text),
				"writer": new(writes).body(tt.header+text, 7),
				"opened": new(opens).body(tt.header + text),
				"stream": oddPieces{strings.NewReader(tt.header + text)},
				"bytes":  iotest.OneByteReader(strings.NewReader(tt.header + text)),
			} {
				m, err := ReadMessage(r)
				if err != nil {
					t.Fatal(err)
				}
				if got := envelopeOf(m); got != tt.want || m.Needs != 0 {
					t.Errorf("%s: %s, needs %v; want %s", name, got, m.Needs, tt.want)
				}
				times := 2
				if name == "stream" || name == "bytes" {
					times = 1
				}
				want := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(kept + text)
				for range times {
					if got, _ := collectMessage(t, m); got != want {
						t.Errorf("%s: sent %q, want %q", name, abbreviate(got), abbreviate(want))
					}
				}
				if times > 1 && !m.repeatable() {
					t.Errorf("%s: it cannot be sent again", name)
				}
			}
		})
	}
}

// collectMessage sends m in chunks, and returns the content as sent, and the MAIL command.
func collectMessage(t *testing.T, m *Message) (content, mail string) {
	t.Helper()
	c, srv := pipe(t, "CHUNKING", "PIPELINING", "SMTPUTF8", "8BITMIME")
	if _, err := c.Send(t.Context(), m); err != nil {
		t.Error(err)
	}
	c.Close()
	srv.wait()
	return srv.content.String(), srv.mail
}

// TestReadMessageKeepsOctets: but for the fields that are removed, not an octet is another, whatever ends the lines,
// and wherever the header ends.
func TestReadMessageKeepsOctets(t *testing.T) {
	for _, end := range []string{"\r\n", "\n"} {
		for _, text := range []string{"", end, end + "hello\rthere\n\r\n", end + end} {
			before, after := "From: a@b.example"+end+"X:  \t y \t"+end, "To: c@d.example"+end
			for _, r := range []io.Reader{
				strings.NewReader(before + "Bcc: e@f.example" + end + after + text),
				oddPieces{strings.NewReader(before + "Bcc: e@f.example" + end + after + text)},
				oddPieces{strings.NewReader(before + after + text)},
				oddPieces{strings.NewReader(before + after + "Bcc:" + end + text)},
			} {
				m, err := ReadMessage(r)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(m.Body); err != nil || string(got) != before+after+text {
					t.Errorf("%q, %v, want %q", got, err, before+after+text)
				}
			}
		}
	}
}

// TestReadMessageFile: a file is read from where it stands, as often as the message is sent, with Bcc and without.
func TestReadMessageFile(t *testing.T) {
	kept := "From: a@b.example\r\nTo: c@d.example\r\n\r\n" + strings.Repeat("0123456\r\n", 50_000)
	for _, bcc := range []string{"", "Bcc: c@d.example\r\n"} {
		name := filepath.Join(t.TempDir(), "message")
		if err := os.WriteFile(name, []byte("queue data\n"+bcc+kept), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Seek(int64(len("queue data\n")), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		m, err := ReadMessage(f)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, _ := collectMessage(t, m); got != kept {
				t.Errorf("sent %q", abbreviate(got))
			}
		}
	}
}

// TestReadMessageInUTF8: a header in UTF-8 needs SMTPUTF8 (RFC 6531). One in another character set cannot be had in any
// way, and is sent as it is.
func TestReadMessageInUTF8(t *testing.T) {
	const from = "From: a@b.example\nTo: c@d.example\n"
	for _, tt := range []struct {
		text  string
		needs ext.Feature
	}{
		{from + "Subject: x\n\né", 0},
		{from + "Subject: é\n\nx", ext.UTF8},
		{from + "Subject: \xe9\n\nx", 0},
		{from + "Bcc: É <e@f.example>\n\nx", 0},
		{"From: É <a@b.example>\nTo: c@d.example\n", ext.UTF8},
		{"From: a@b.example\nTo: ç@d.example\n", ext.UTF8},
	} {
		m, err := ReadMessage(strings.NewReader(tt.text))
		if err != nil || m.Needs != tt.needs {
			t.Errorf("%q: %v, %v", tt.text, m, err)
			continue
		}
		if _, mail := collectMessage(t, m); strings.Contains(mail, "SMTPUTF8") != (tt.needs != 0) {
			t.Errorf("%q: %s", tt.text, mail)
		}
	}
}

// TestReadMessageFails checks that an error names the field, and says what to do.
func TestReadMessageFails(t *testing.T) {
	const from = "From: a@b.example\n"
	broken := errors.New("the disk is gone")
	for _, tt := range []struct{ header, want string }{
		{"", "smtp: the field From: it has no address, or is missing: add it"},
		{"To: c@d.example\n", "smtp: the field From: it has no address, or is missing: add it"},
		{from, "smtp: the field To: there are no addresses in it, nor in Cc or Bcc: add a recipient"},
		{from + "\nTo: c@d.example\n", "smtp: the field To: there are no addresses in it"},
		{from + "To: undisclosed-recipients:;\n", "smtp: the field To: there are no addresses in it"},
		{"From: a@b.example, c@d.example\nTo: c@d.example\n",
			"smtp: the field From: it has several addresses: add the field Sender with one of them"},
		{"Sender: a@b.example, c@d.example\nTo: c@d.example\n", "smtp: the field Sender: it has several addresses: leave one"},
		{from + "To: c@d.example (a comment\n", `smtp: the field To, "c@d.example (a comment": `},
		{from + "to: alice\n", `smtp: the field to, "alice": missing '@' or angle-addr: write addresses as alice@example.org`},
		{from + "CC: c@d.example; e@f.example\n", `smtp: the field CC, "c@d.example; e@f.example": `},
		{from + "Bcc: c@d..example\n", `smtp: the field Bcc, "c@d..example": `},
		{from + "To: c@d_e.example\n", `smtp: the address "c@d_e.example" in the field To: `},
		{from + "To: " + strings.Repeat("c", 65) + "@d.example\n", `smtp: the address "ccc`},
		{"Resent-To: c@d.example\n" + from, "smtp: the field Resent-From: it has no address, or is missing"},
		{"Resent-From: c@d.example\n" + from + "To: e@f.example\n",
			"smtp: the field Resent-To: there are no addresses in it, nor in Resent-Cc or Resent-Bcc"},
		{"From a@b.example Sat Nov 28\n" + from, `smtp: the line "From a@b.example Sat Nov 28" in the header: it is no header field`},
		{from + "hello\n", `smtp: the line "hello" in the header: it is no header field: write an empty line`},
		{" x\n" + from, `smtp: the line " x" in the header`},
		{": x\n" + from, `smtp: the line ": x" in the header`},
		{"é: x\n" + from, `smtp: the line "é: x" in the header`},
		{from + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\n", 1100), "smtp: the header: it has more than 1048576 octets"},
		{from + "X: " + strings.Repeat("x", maxHeader-len(from)-len("X: \n")+1) + "\n\n",
			"smtp: the header: it has more than 1048576 octets"},
		{"X: " + strings.Repeat("x", 3<<20), "smtp: the header: it has more than 1048576 octets"},
	} {
		for _, r := range []io.Reader{strings.NewReader(tt.header), oddPieces{strings.NewReader(tt.header)}} {
			_, err := ReadMessage(r)
			if e, ok := asType[*MessageError](err); !ok || !strings.HasPrefix(e.Error(), tt.want) {
				t.Errorf("%q: %v, want %s", abbreviate(tt.header), err, tt.want)
			}
		}
	}
	for name, r := range map[string]io.Reader{
		"read": io.MultiReader(strings.NewReader(from), iotest.ErrReader(broken)),
		"open": OpenBody(func() (io.ReadCloser, error) { return nil, broken }),
		"seek": stuckSeeker{strings.NewReader(from)},
		"idle": readerFunc(func([]byte) (int, error) { return 0, nil }),
		"nil":  nil,
	} {
		_, err := ReadMessage(r)
		if _, ok := asType[*MessageError](err); !ok {
			t.Errorf("%s: %v, want a MessageError", name, err)
		}
	}
	// What is opened is closed, however it goes on.
	var o opens
	for _, text := range []string{"x", from + "To: c@d.example\n", from + "Bcc: c@d.example\n"} {
		if m, err := ReadMessage(o.body(text)); err == nil {
			io.Copy(io.Discard, m.Body)
		}
	}
	texts := []string{from + "Bcc: c@d.example\n", "this is no header\n"}
	m, err := ReadMessage(o.from(func() io.Reader {
		r := strings.NewReader(texts[0])
		texts = texts[1:]
		return r
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, m.Body); err == nil {
		t.Error("what is no message any longer can be read again")
	}
	if o.opened != 7 || o.closed != 7 {
		t.Errorf("%+v", o)
	}
}

// TestReadMessageInMemory: a long message is not held in memory, nor is a header looked at again and again.
func TestReadMessageInMemory(t *testing.T) {
	var list strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&list, ",\n c%d@d.example", i)
	}
	zeros := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	head := "From: a@b.example\nBcc: b@b.example" + list.String() + "\n\n"
	got := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			m, err := ReadMessage(io.MultiReader(strings.NewReader(head), io.LimitReader(zeros, 64<<20)))
			if err != nil || len(m.To) != 20_001 {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, m.Body); n != 64<<20+int64(len("From: a@b.example\n\n")) || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	if got.AllocedBytesPerOp() > 32<<20 {
		t.Errorf("%d octets of memory", got.AllocedBytesPerOp())
	}
}
