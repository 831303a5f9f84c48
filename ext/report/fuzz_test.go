package report

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A dice makes random reports of texts that can stand in a field as they are.
type dice struct {
	*rand.Rand
	wide bool // some text is not ASCII
}

func roll(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 0)), seed%2 == 0} }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }

// text returns words with single or double spaces, some of them long, from an alphabet that has all that is delicate.
func (d dice) text(words int) string {
	letters := []rune(`abcXYZ0189-.,:;=?_/\()<>"@[]+*`)
	if d.wide && d.IntN(3) == 0 {
		letters = append(letters, []rune("öÜ用戶\u00a0\U0001F600")...)
	}
	var b strings.Builder
	for range d.IntN(words) + 1 {
		n := d.IntN(12) + 1
		if d.IntN(20) == 0 {
			n += 60
		}
		if b.Len() > 0 {
			b.WriteString(d.one(" ", " ", " ", "  "))
		}
		for range n {
			b.WriteRune(letters[d.IntN(len(letters))])
		}
	}
	return b.String()
}

// name returns text that does not look as if a comment stood at its end, nor as if it had a type.
func (d dice) name() string { return strings.Trim(d.text(2), " ();") + "x" }

func (d dice) maybe(s string) string {
	if d.IntN(2) == 0 {
		return ""
	}
	return s
}

func (d dice) mta() MTA {
	return MTA{Type: d.one("dns", "x400", "X-local-hostname"), Name: d.name(), Comment: d.maybe(d.text(5))}
}

func (d dice) time() time.Time {
	if d.IntN(3) == 0 {
		return time.Time{}
	}
	return time.Unix(d.Int64N(1<<32), 0).In(time.FixedZone("", (d.IntN(47)-23)*1800))
}

func (d dice) fields() []Field {
	var fields []Field
	for range d.IntN(3) {
		fields = append(fields, Field{d.one("X-Queue-ID", "SMTP-Remote-Recipient", "X-"+strings.Repeat("a", 70)), d.text(40)})
	}
	return fields
}

func (d dice) address() ehlo.OriginalRecipient {
	switch d.IntN(3) {
	case 0:
		return ehlo.OriginalRecipient{Type: d.one("rfc822", "RFC822"), Address: d.one("b@example.com", `"a (b) c"@example.com`, `"a;b"@[192.0.2.1]`, "a+b=c@example.com")}
	case 1:
		return ehlo.OriginalRecipient{Type: d.one("utf-8", "UTF-8"), Address: d.one("jörg@example.com", `"用 戶"@例え.example`, "a+b=ü@example.com", "plain@example.com")}
	}
	return ehlo.OriginalRecipient{Type: "x400", Address: d.name()}
}

func (d dice) report() *Report {
	r := &Report{EnvelopeID: d.maybe(d.name()), ReportingMTA: d.mta(), ReceivedFrom: d.mta(), Arrival: d.time(), Fields: d.fields()}
	if d.IntN(3) == 0 {
		r.Gateway = d.mta()
	}
	for range d.IntN(4) + 1 {
		p := Recipient{
			Final: d.address(), Action: ehlo.Action(d.one("failed", "delayed", "delivered", "relayed", "expanded")),
			Status:  proto.Status{uint16(d.IntN(2) + 4), uint16(d.IntN(1000)), uint16(d.IntN(1000))},
			Comment: d.maybe(d.text(5)), LastAttempt: d.time(), LogID: d.maybe(d.name()), Fields: d.fields(),
		}
		if d.IntN(2) == 0 {
			p.Original, p.Remote = d.address(), d.mta()
			p.Diagnostic = Diagnostic{d.one("smtp", "x-unix"), d.name() + " " + d.text(30)}
			p.Localized = []Localized{{"de", d.name()}, {"zh-Hant", d.name()}}
		}
		switch p.Action {
		case ehlo.Delayed:
			p.Status[0], p.WillRetryUntil = 4, d.time()
		case ehlo.Delivered, ehlo.Relayed, ehlo.Expanded:
			p.Status[0] = 2
		}
		r.Recipients = append(r.Recipients, p)
	}
	return r
}

// R13, R17, S14: a report is read as it was written, whatever the way back carries.
func TestR13R17S14_RoundTrip(t *testing.T) {
	kinds := make(map[string]int)
	for seed := range uint64(500) {
		d := roll(seed)
		r := d.report()
		n := made(t, message(t, "", content), r, &Options{Hostname: "mail.example.org", Carries: ext.Feature(d.IntN(8))})
		_, leaves := dissect(t, n)
		kinds[leaves[1].kind+" "+leaves[1].encoding]++
		if _, err := n.Body.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := Parse(n.Body)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !same(&got.Report, r) {
			t.Fatalf("seed %d:\n%+v\nis read as\n%+v\nfrom\n%s", seed, inUTC(r), inUTC(&got.Report), leaves[1].content)
		}
		if got.Original.Get("Message-ID") != "<1@example.org>" || got.Text != strings.ReplaceAll(leaves[0].content, "\r\n", "\n") {
			t.Fatalf("seed %d: %v, %q", seed, got.Original, got.Text)
		}
	}
	if len(kinds) != 3 {
		t.Errorf("the kinds were %v", kinds)
	}
}

// Whatever a remote server says and a sender writes, the notification has the lines and the fields that it should have.
func FuzzCompose(f *testing.F) {
	f.Add("550 no", "QQ314159", "mx.example", content, uint8(0))
	f.Add("550 no\r\nStatus: 2.0.0\r\n\r\nFinal-Recipient: rfc822; c@d\r\nAction: delivered", "a\nb", "x\r\n y", "Subject: \xff\n\n", uint8(4))
	f.Add("550-a\n550 b\r\n--x\r\n", "(", "a;b (c", "a\rb", uint8(1))
	f.Add("", "", "", "", uint8(0))
	f.Add(strings.Repeat("x", 3000)+"\u2028\u0085\x00\xc3", "x"+strings.Repeat(" ", 2000)+"x", "ü", "\r\n\r\n"+strings.Repeat("y", 2000), uint8(7))
	f.Fuzz(func(t *testing.T, said, id, remote, original string, carries uint8) {
		m := message(t, "", original)
		r := failed(t, "b@example.com")
		r.EnvelopeID = id
		p := &r.Recipients[0]
		p.Status, p.Remote, p.Diagnostic = status(5, 1, 1), DNS(remote), Diagnostic{"smtp", said}
		p.Comment, p.LogID, p.Fields = said, said, []Field{{"X-Said", said}}
		n := made(t, m, r, &Options{Hostname: "mail.example.org", Carries: ext.Feature(carries & 7),
			Subject: func(*Report) string { return said }})
		h, leaves := dissect(t, n)
		if len(h) != 8 && len(h) != 9 || len(leaves) != 3 || h.Get("To") != "<Alice@Example.ORG>" {
			t.Fatalf("the header is %v, and there are %d parts", h, len(leaves))
		}
		if _, err := n.Body.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if l := leaves[2]; strings.HasSuffix(l.kind, "-headers") && strings.Count(l.content, "\n") > strings.Count(original, "\n")+1 {
			t.Fatalf("of %q is returned %q", original, l.content)
		}
		got, err := Parse(n.Body)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Recipients) != 1 || len(got.Fields) != 0 {
			t.Fatalf("%+v", got.Report)
		}
		q := &got.Recipients[0]
		want, _ := clean(said, true)
		if q.Final != p.Final || q.Action != ehlo.Failed || q.Status != p.Status || squeeze(q.Diagnostic.Text) != squeeze(want) ||
			len(q.Fields) > 1 || squeeze(q.LogID) != squeeze(want) {
			t.Fatalf("%+v is read as %+v", p, q)
		}
	})
}

// squeeze returns s without its spaces: a word that is longer than a line is cut.
func squeeze(s string) string { return strings.ReplaceAll(s, " ", "") }

func FuzzParse(f *testing.F) {
	f.Add([]byte(notification("Reporting-MTA: dns; m\n\nFinal-Recipient: rfc822; b@example.com\nAction: failed\nStatus: 5.1.1 (x)\n")))
	f.Add([]byte(notification("Final-Recipient: utf-8; j\\x{F6}rg@b (c)\nDiagnostic-Code: smtp; 550-a\n 550 b\nArrival-Date: Sun, 22 Nov 2026 03:04:05 +0000\n")))
	f.Add([]byte(multi("multipart/report", "b", "\nx", "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: base64\n\nRmluYWwtUmVjaXBpZW50OiBi")))
	f.Add([]byte("Content-Type: multipart/x; boundary=\"\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := Parse(bytes.NewReader(in))
		if err != nil {
			return
		}
		var texts []string
		for _, p := range got.Recipients {
			p.Diagnostic.Reply()
			texts = append(texts, p.Final.Address, p.Original.Address, string(p.Action), p.Comment, p.Diagnostic.Text, p.Remote.Name, p.LogID)
		}
		for _, s := range append(texts, got.EnvelopeID, got.ReportingMTA.Name, strings.ReplaceAll(got.Text, "\n", "")) {
			if again, _ := clean(s, true); strings.Contains(again, "?") && !strings.Contains(s, "?") {
				t.Fatalf("%q has what is not to be seen", s)
			}
		}
		// What was read can be written, if it has addresses.
		for i := range got.Recipients {
			if p := &got.Recipients[i]; strings.TrimSpace(p.Final.Address) == "" {
				p.Final = rfc822("b@example.com")
			}
		}
		again := made(t, message(t, "", content), &got.Report, &Options{Hostname: "mail.example.org"})
		dissect(t, again)
	})
}
