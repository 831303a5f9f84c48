package ehlo

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
)

// S14: the forms of RFC 6533 section 3 in the fields of notifications.
func TestS14_ParseOriginalRecipient(t *testing.T) {
	for text, want := range map[string]struct {
		r     OriginalRecipient
		ascii string
	}{
		"rfc822;Bob@Example.COM":       {OriginalRecipient{"rfc822", "Bob@Example.COM"}, "rfc822;Bob@Example.COM"},
		"rfc822; a+2Bb@c.example ":     {OriginalRecipient{"rfc822", "a+2Bb@c.example"}, "rfc822;a+2Bb@c.example"}, // no xtext here
		`utf-8;j\x{F6}rg@example.org`:  {OriginalRecipient{"utf-8", "jörg@example.org"}, `utf-8;j\x{F6}rg@example.org`},
		"UTF-8; jörg@example.org":      {OriginalRecipient{"UTF-8", "jörg@example.org"}, `UTF-8;j\x{F6}rg@example.org`},
		`utf-8;jö\x{2B}rg@example.org`: {OriginalRecipient{"utf-8", "jö+rg@example.org"}, `utf-8;j\x{F6}\x{2B}rg@example.org`},
		`utf-8;"用 戶"@example.org`:      {OriginalRecipient{"utf-8", `"用 戶"@example.org`}, `utf-8;"\x{7528}\x{20}\x{6236}"@example.org`},
		`X400; /G=Steve; /S=Kille`:     {OriginalRecipient{"X400", "/G=Steve; /S=Kille"}, "X400;/G=Steve; /S=Kille"},
	} {
		r, ok := ParseOriginalRecipient(text)
		if !ok || r != want.r || r.ASCII() != want.ascii {
			t.Errorf("%s: %+v, %v, in ASCII %s", text, r, ok, r.ASCII())
		}
	}
	for _, text := range []string{"", "a@b.example", ";a@b.example", "rfc 822;a@b.example", "é;a"} {
		if r, ok := ParseOriginalRecipient(text); ok {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
}

// R17: an address that is not ASCII has the type utf-8, in the form that any server accepts (RFC 6533 section 3).
func TestR17_OriginalRecipient(t *testing.T) {
	for _, tt := range []struct{ address, param, text string }{
		{"jörg@example.org", `utf-8;j\x{F6}rg@example.org`, "utf-8;jörg@example.org"},
		{`"a b\\=+"@example.org`, `rfc822;"a+20b\\+3D+2B"@example.org`, `rfc822;"a b\\=+"@example.org`},
		{"a@münchen.example", "rfc822;a@xn--mnchen-3ya.example", "rfc822;a@xn--mnchen-3ya.example"},
		{`"用 戶"@example.org`, `utf-8;"\x{7528}\x{20}\x{6236}"@example.org`, `utf-8;"用 戶"@example.org`},
	} {
		r := NewOriginalRecipient(testkit.Address(t, tt.address))
		got, _ := DSNRcpt{Original: r}.AddTo(nil).Get("ORCPT")
		if got != tt.param || r.String() != tt.text {
			t.Errorf("%s: %s and %s, want %s and %s", tt.address, got, r, tt.param, tt.text)
		}
		if back, ok := parseORCPT(got); !ok || back != r {
			t.Errorf("%s: read as %+v", got, back)
		}
	}
	if s := (OriginalRecipient{}).String(); s != "" {
		t.Errorf("none is %q", s)
	}
}

func FuzzORCPTParam(f *testing.F) {
	for _, s := range []string{"rfc822;a@b", "rfc822;a+2Bb@c", "x;", ";", "utf-8;ö", `utf-8;\x{F6}`, `utf-8;\x{D800}`, `utf-8;\x{`,
		`utf-8;\x{110000}`, `utf-8;a+20`, `utf-8;\x{10FFFF}\x{01}`, "UTF-8;\xc3", "rfc822;+0D+0A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ReadDSNRcpt(testkit.One("ORCPT", s))
		if ok != (checkORCPT(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		if strings.ContainsAny(d.Original.Address, "\x00\r\n\x7f") || !grammar.Printable(d.Original.Type) {
			t.Fatalf("%q is read as %q", s, d.Original)
		}
		back := d.AddTo(nil)
		if value, _ := back.Get("ORCPT"); len(value) > maxORCPT {
			return
		}
		if again, ok := ReadDSNRcpt(back); !ok || again != d {
			t.Fatalf("%q is written as %v and read as %+v", s, back, again)
		}
	})
}
