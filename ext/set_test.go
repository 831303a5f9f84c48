package ext_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

func TestNewSetRefuses(t *testing.T) {
	verb := proto.Verb{Name: "XDO", In: proto.Ready}
	many := make([]ext.Extension, 65)
	for i := range many {
		many[i].Keyword = fmt.Sprintf("X%d", i)
	}
	for _, tt := range []struct {
		name string
		list []ext.Extension
		want []string // all of these in the text
	}{
		{"no keyword", []ext.Extension{{}}, []string{`""`, "EHLO keyword"}},
		{"lower case", []ext.Extension{{Keyword: "xfoo"}}, []string{`"xfoo"`}},
		{"hyphen first", []ext.Extension{{Keyword: "-X"}}, []string{`"-X"`}},
		{"CRLF in keyword", []ext.Extension{{Keyword: "X\r\nY"}}, []string{`"X\r\nY"`}},
		{"keyword twice", []ext.Extension{ehlo.Size(), ehlo.Size()}, []string{"SIZE", "twice"}},
		{"65", many, []string{"65", "64"}},
		{"verb twice", []ext.Extension{{Keyword: "XA", Verbs: []proto.Verb{verb}}, {Keyword: "XB", Verbs: []proto.Verb{verb}}},
			[]string{"XDO", "XA", "XB"}},
		{"verb of the protocol", []ext.Extension{{Keyword: "XA", Verbs: []proto.Verb{{Name: "MAIL", In: proto.Ready}}}},
			[]string{"MAIL", "XA"}},
		{"impossible verb", []ext.Extension{{Keyword: "XA", Verbs: []proto.Verb{{Name: "XDO"}}}}, []string{"XDO"}},
		{"parameter twice", []ext.Extension{ehlo.Size(), {Keyword: "XA", Mail: []ext.Param{{Key: "SIZE", MaxLength: 9}}}},
			[]string{"MAIL", "SIZE", "XA"}},
		{"values against check", []ext.Extension{ehlo.EightBitMIME(), {Keyword: "XA", Mail: []ext.Param{{Key: "BODY", MaxLength: 9}}}},
			[]string{"BODY", "8BITMIME", "XA"}},
		{"parameter in lower case", []ext.Extension{{Keyword: "XA", Rcpt: []ext.Param{{Key: "to", MaxLength: 9}}}}, []string{`"to"`, "RCPT"}},
		{"parameter without room", []ext.Extension{{Keyword: "XA", Mail: []ext.Param{{Key: "XABC", MaxLength: 4}}}}, []string{"XABC", "Length"}},
		{"flag with values", []ext.Extension{{Keyword: "XA", Mail: []ext.Param{{Key: "XF", MaxLength: 9, Flag: true, Values: []string{"A"}}}}},
			[]string{"XF", "Flag"}},
		{"chunk without verb", []ext.Extension{{Keyword: "XA", Chunk: "XC"}}, []string{"XA", "XC"}},
		{"chunk without payload", []ext.Extension{{Keyword: "XA", Verbs: []proto.Verb{verb}, Chunk: "XDO"}}, []string{"XA", "XDO"}},
		{"N11 BINARYMIME alone", []ext.Extension{ehlo.BinaryMIME()}, []string{"BINARYMIME", "CHUNKING"}},
		{"S01 SMTPUTF8 alone", []ext.Extension{ehlo.SMTPUTF8()}, []string{"SMTPUTF8", "8BITMIME"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ext.NewSet(proto.SMTP, tt.list)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(tt.want, "smtp: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %s", err, want)
				}
			}
		})
	}
}

func TestNewSetDefault(t *testing.T) {
	for _, p := range []proto.Protocol{proto.SMTP, proto.LMTP} {
		s, err := ext.NewSet(p, ehlo.DefaultFor(p))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"BDAT", "STARTTLS", "AUTH", "HELP", "VRFY", "MAIL"} {
			if s.Table().Lookup(name) == nil {
				t.Errorf("%v: no %s", p, name)
			}
		}
		if expn := s.Table().Lookup("EXPN") != nil; expn != (p == proto.SMTP) {
			t.Errorf("%v: EXPN is known: %v", p, expn)
		}
	}
	if s, err := ext.NewSet(proto.SMTP, []ext.Extension{}); err != nil || len(s.Extensions()) != 0 {
		t.Errorf("an empty list is not the default: %v, %v", s, err)
	}
}

func TestNewSetKeepsItsOwnList(t *testing.T) {
	list := []ext.Extension{ehlo.Pipelining(), ehlo.Help()}
	s := testkit.MakeSet(t, list...)
	list[0] = ext.Extension{Keyword: "XEVIL"}
	if got := s.Extensions()[0].Keyword; got != "PIPELINING" {
		t.Errorf("the caller changed the set: %s", got)
	}
}

func TestOwner(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	bdat := s.Table().Lookup("BDAT")
	for _, v := range []*proto.Verb{bdat, bdat.Variant([]byte("0 LAST"))} {
		e, i := s.Owner(v)
		if e == nil || e.Keyword != "CHUNKING" || s.Extensions()[i].Keyword != "CHUNKING" {
			t.Errorf("owner of %+v is %v, %d", v, e, i)
		}
	}
	for _, v := range []*proto.Verb{nil, s.Table().Lookup("MAIL")} {
		if e, i := s.Owner(v); e != nil || i != -1 {
			t.Errorf("owner of %v is %v, %d", v, e, i)
		}
	}
}

// TestNewSetWithoutKeyword checks that an extension without a keyword may have verbs that cannot succeed, and nothing
// else.
func TestNewSetWithoutKeyword(t *testing.T) {
	never := proto.Verb{Name: "XOLD", In: proto.Session, OK: proto.Never}
	s := testkit.MakeSet(t, ehlo.Size(), ext.Extension{Verbs: []proto.Verb{never}})
	if o, lines := s.Offer(&fake.Server{}); !o.Has(0) || o.Has(1) || len(lines) != 1 {
		t.Errorf("advertised %v, %q", o, lines)
	}
	if o := s.Offered(fake.Caps("", "XOLD", "SIZE")); !o.Has(0) || o.Has(1) {
		t.Errorf("taken as advertised: %v", o)
	}
	if e, i := s.Owner(s.Table().Lookup("xold")); e == nil || i != 1 {
		t.Error("the verb is not known")
	}
	for name, list := range map[string][]ext.Extension{
		"a verb that succeeds": {{Verbs: []proto.Verb{{Name: "XDO", In: proto.Session}}}},
		"parameter":            {{Verbs: []proto.Verb{never}, Rcpt: []ext.Param{{Key: "XP", MaxLength: 9}}}},
		"verb twice":           {{Verbs: []proto.Verb{never}}, {Verbs: []proto.Verb{never}}},
	} {
		if _, err := ext.NewSet(proto.SMTP, list); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNewSetInvalid(t *testing.T) {
	wrong := errors.New("smtp: no")
	if _, err := ext.NewSet(proto.SMTP, []ext.Extension{{Keyword: "XA", Invalid: wrong}}); err != wrong {
		t.Errorf("%v, want the reason that the extension gives", err)
	}
}
