package ext_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
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

// The command line has room for every combination of parameters (RFC 5321 section 4.5.3.1.4): SIZE 26, AUTH 500,
// BODY=BINARYMIME 16, SMTPUTF8 10, RET 9, ENVID 107, REQUIRETLS 11, MT-PRIORITY 15 and BY 17 for MAIL, NOTIFY 29, ORCPT 507
// and RRVS 33 for RCPT, each with the space before it.
func TestGrow(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	if got, want := s.Table().Lookup("MAIL").Grow, 26+500+16+10+9+107+11+15+17; got != want {
		t.Errorf("MAIL may grow by %d octets, want %d", got, want)
	}
	if got, want := s.Table().Lookup("RCPT").Grow, 29+507+33; got != want {
		t.Errorf("RCPT may grow by %d octets, want %d", got, want)
	}
	without := testkit.MakeSet(t, ehlo.Size(), auth.Auth())
	if got := without.Table().Lookup("RCPT").Grow; got != 0 {
		t.Errorf("RCPT may grow by %d octets without a parameter", got)
	}
	if got := s.Table().Lookup("AUTH").Grow; got < 12288 {
		t.Errorf("AUTH may grow by %d octets, want 12288 (RFC 4954 section 4)", got)
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

func TestOffer(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	x := &fake.Server{Conn: fake.ServerState{MaxSize: 10240}}
	o, lines := s.Offer(x)
	want := []string{"PIPELINING", "SIZE 10240", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8", "CHUNKING", "BINARYMIME",
		"HELP", "VRFY", "LIMITS RCPTMAX=100"}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("offered %q, want %q", lines, want)
	}
	if !s.StatusCodes(o) || !s.Pipelining(o) || s.Chunk(o) == nil || s.Chunk(o).Name != "BDAT" {
		t.Error("the offer lost what it consists of")
	}
	if s.StatusCodes(0) || s.Pipelining(0) || s.Chunk(0) != nil {
		t.Error("nothing is on offer, and yet something is")
	}
}

func TestOfferLine(t *testing.T) {
	args, ok := "", true
	s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Advertise: func(ext.ServerConn) (string, bool) { return args, ok }})
	words := strings.Repeat("WORD ", 200)
	for _, tt := range []struct {
		args string
		ok   bool
		want []string
	}{
		{"", true, []string{"XA"}},
		{"a b", true, []string{"XA a b"}},
		{"a", false, []string{}},
		{"a\r\n250 x", true, []string{}},
		{"é", true, []string{}},
		{" a", true, []string{}},
		{words[:len(words)-1], true, []string{"XA " + strings.Repeat("WORD ", 99)[:494]}}, // 3+99*5-1 = 497 ≤ 500
		{strings.Repeat("x", 497), true, []string{"XA " + strings.Repeat("x", 497)}},
		{strings.Repeat("x", 498), true, []string{"XA"}},
	} {
		args, ok = tt.args, tt.ok
		o, lines := s.Offer(&fake.Server{})
		if fmt.Sprint(lines) != fmt.Sprint(tt.want) || o.Has(0) != (len(tt.want) > 0) {
			t.Errorf("%.20q, %v: %q, %b", tt.args, tt.ok, lines, o)
		}
	}
}

// An extension that builds on two others needs both of them.
func TestOfferRequiresAll(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.EightBitMIME(), ehlo.Chunking(), ext.Extension{Keyword: "XBOTH", Requires: []string{"8BITMIME", "CHUNKING"}})
	for caps, want := range map[string]bool{"8BITMIME": false, "CHUNKING": false, "8BITMIME CHUNKING": true} {
		if o := s.Offered(fake.Caps(append(strings.Fields(caps), "XBOTH")...)); o.Has(2) != want {
			t.Errorf("with %s: offered %v", caps, o.Has(2))
		}
	}
}

// What an extension builds on has to be on offer in this session too.
func TestOfferRequires(t *testing.T) {
	base := ehlo.Chunking()
	base.Advertise = func(ext.ServerConn) (string, bool) { return "", false }
	s := testkit.MakeSet(t, ehlo.BinaryMIME(), base, ext.Extension{Keyword: "XTOP", Requires: []string{"BINARYMIME"}})
	if o, lines := s.Offer(&fake.Server{}); o != 0 || len(lines) != 0 {
		t.Errorf("offered %q without CHUNKING", lines)
	}
	if o := s.Offered(fake.Caps("BINARYMIME", "XTOP")); o != 0 {
		t.Errorf("taken as offered without CHUNKING: %b", o)
	}
	if o := s.Offered(fake.Caps("binarymime", "chunking", "xtop")); o != 0b111 {
		t.Errorf("B07: taken as offered: %b", o)
	}
}

func TestCheckMail(t *testing.T) {
	s := testkit.MakeSet(t, append(ehlo.Default(), ext.Extension{
		Keyword: "XOPT",
		Mail: []ext.Param{
			{Key: "XOPT", MaxLength: 20, Optional: true, Check: func(v string) error {
				if v == "reply" {
					return proto.Refuse(450, proto.Status{}, "chosen")
				}
				return errors.New("smtp: bad " + v)
			}},
		},
	})...)
	all := s.Offered(testkit.Everything()) | s.Offered(fake.Caps("XOPT"))
	noBinary := s.Offered(fake.Caps("SIZE", "8BITMIME", "CHUNKING"))
	for _, tt := range []struct {
		name, params string
		offer        ext.Offer
		want         string // beginning of the reply; "" if fine
	}{
		{"none", "", all, ""},
		{"C16 unknown", "FOO=1", all, "555 5.5.4 The parameter FOO"},
		{"C16 not offered", "SIZE=1", 0, "555 5.5.4 The parameter SIZE"},
		{"C17 no value", "SIZE", all, "501 5.5.4 "},
		{"C17 empty value", "SIZE=", all, "501 5.5.4 "},
		{"C19 any case", "size=5 Body=8bitmime", all, ""},
		{"M04 20 digits", "SIZE=99999999999999999999", all, ""},
		{"M04 21 digits", "SIZE=000000000000000000001", all, "501 5.5.4 "},
		{"M04 sign", "SIZE=+1", all, "501 5.5.4 "},
		{"M04 minus", "SIZE=-1", all, "501 5.5.4 "},
		{"M04 hex", "SIZE=0x10", all, "501 5.5.4 "},
		{"M10 7BIT", "BODY=7bit", all, ""},
		{"M10 other", "BODY=9BIT", all, "501 5.5.4 "},
		{"M10 long s is no S", "BODY=7BIſ", all, "501 5.5.4 "},
		{"BINARYMIME", "BODY=BINARYMIME", all, ""},
		{"BINARYMIME not offered", "BODY=BINARYMIME", noBinary, "501 5.5.4 "},
		{"S04 valueless", "SMTPUTF8", all, ""},
		{"S04 value", "SMTPUTF8=1", all, "501 5.5.4 "},
		{"S04 empty value", "SMTPUTF8=", all, "501 5.5.4 "},
		{"P16 null", "AUTH=<>", all, ""},
		{"P16 mailbox", "AUTH=e+3Dmc2@example.com", all, ""},
		{"P16 not a mailbox", "AUTH=nobody", all, "501 5.5.4 "},
		{"P16 not xtext", "AUTH=a+GG@b.example", all, "501 5.5.4 "},
		{"94 CRLF in xtext", "AUTH=a+0D+0Ab@c.example", all, "501 5.5.4 "},
		{"second is bad", "SIZE=1 FOO", all, "555 5.5.4 "},
		{"optional, none", "XOPT", all, ""},
		{"optional, bad", "XOPT=x", all, "501 5.5.4 Bad parameter: bad x"},
		{"text of a reply", "XOPT=reply", all, "501 5.5.4 Bad parameter: chosen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if e := s.CheckMail(tt.offer, testkit.Params(tt.params)); e != nil {
				got = fake.Refusal(e)
			}
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: %q, want %q", tt.params, got, tt.want)
			}
		})
	}
	if e := s.CheckRcpt(all, testkit.Params("SIZE=1")); e == nil || e.Code != 555 {
		t.Errorf("SIZE is a parameter of MAIL alone: %v", e)
	}
}

func TestUTF8AndBinary(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	all := s.Offered(testkit.Everything())
	for _, tt := range []struct {
		params       string
		offer        ext.Offer
		utf8, binary bool
	}{
		{"", all, false, false},
		{"smtputf8", all, true, false},
		{"SMTPUTF8", 0, false, false},
		{"BODY=8BITMIME", all, false, false},
		{"SIZE=1 BODY=binarymime SMTPUTF8", all, true, true},
		{"BODY=BINARYMIME", s.Offered(fake.Caps("8BITMIME")), false, false},
		{"XNO=BINARYMIME", all, false, false},
	} {
		p := testkit.Params(tt.params)
		if s.UTF8(tt.offer, p) != tt.utf8 || s.Binary(tt.offer, p) != tt.binary {
			t.Errorf("%q: UTF8 %v, Binary %v", tt.params, s.UTF8(tt.offer, p), s.Binary(tt.offer, p))
		}
	}
}

func TestChecksDoNotAllocate(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	all := s.Offered(testkit.Everything())
	p := testkit.Params("SIZE=1000 BODY=8BITMIME SMTPUTF8")
	bdat := s.Table().Lookup("BDAT")
	args := []byte("86401 LAST")
	n := testing.AllocsPerRun(100, func() {
		if s.CheckMail(all, p) != nil || s.CheckRcpt(all, nil) != nil || !s.UTF8(all, p) || s.Binary(all, p) {
			t.Fatal("not fine")
		}
		if e, _ := s.Owner(bdat); e == nil || bdat.Variant(args) == nil {
			t.Fatal("no owner")
		}
		if size, err := bdat.Payload(args); size != 86401 || err != nil {
			t.Fatal("no payload")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// inner and outer are a session and a wrapper of it, as middleware makes them.
type inner struct{}

func (inner) CheckSize(context.Context, int64) error { return errors.New("inner") }

func TestAs(t *testing.T) {
	if c, ok := ext.As[ehlo.SizeSession](testkit.Wrap(testkit.Wrap(inner{}))); !ok || c.CheckSize(t.Context(), 1).Error() != "inner" {
		t.Error("not found behind two wrappers")
	}
	for _, s := range []any{nil, 1, testkit.Wrap(nil)} {
		if _, ok := ext.As[ehlo.SizeSession](s); ok {
			t.Errorf("found in %v", s)
		}
	}
}

// An extension without a keyword is there for verbs that cannot succeed, and for nothing else.
func TestNewSetWithoutKeyword(t *testing.T) {
	never := proto.Verb{Name: "XOLD", In: proto.Session, OK: proto.Never}
	s := testkit.MakeSet(t, ehlo.Size(), ext.Extension{Verbs: []proto.Verb{never}})
	if o, lines := s.Offer(&fake.Server{}); o != 1 || len(lines) != 1 {
		t.Errorf("offered %b, %q", o, lines)
	}
	if o := s.Offered(fake.Caps("", "XOLD", "SIZE")); o != 1 {
		t.Errorf("taken as offered: %b", o)
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

// Of two parameters of which one stands in place of the other, only one may be there, and the longer one counts.
func TestInstead(t *testing.T) {
	s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Mail: []ext.Param{
		{Key: "XFOR", MaxLength: 18}, {Key: "XUNTIL", MaxLength: 34, ConflictsWith: "XFOR"}, {Key: "XMORE", MaxLength: 10},
	}})
	if got := s.Table().Lookup("MAIL").Grow; got != 44 {
		t.Errorf("the command line grows by %d octets, want 34 and 10", got)
	}
	for p, code := range map[string]int{"XFOR=1": 0, "XUNTIL=2 XMORE=1": 0, "XFOR=1 XUNTIL=2": 501, "xuntil=2 xfor=1": 501} {
		e := s.CheckMail(1, testkit.Params(p))
		if code == 0 && e != nil || code != 0 && (e == nil || e.Code != code || e.Status != (proto.Status{5, 5, 4})) {
			t.Errorf("%s: %v, want %d", p, e, code)
		}
	}
	if err := s.Prepare(1, fake.Caps("XA"), &ext.Envelope{Mail: testkit.Params("XFOR=1 XUNTIL=2")}); err == nil {
		t.Error("a client would send both")
	}
	_, err := ext.NewSet(proto.SMTP, []ext.Extension{{Keyword: "XA", Mail: []ext.Param{{Key: "XUNTIL", MaxLength: 34, ConflictsWith: "XFOR"}}}})
	if err == nil || !strings.Contains(err.Error(), "XFOR") {
		t.Errorf("%v, want an error that names what is missing", err)
	}
}

// The status code of a Check is sent if it is one of a permanent error.
func TestCheckStatus(t *testing.T) {
	for status, want := range map[proto.Status]string{
		{}:         "501 5.5.4 Bad parameter: no",
		{5, 5, 2}:  "501 5.5.2 Bad parameter: no",
		{4, 7, 15}: "501 5.5.4 Bad parameter: no",
	} {
		s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Mail: []ext.Param{{Key: "XP", MaxLength: 9, Check: func(string) error {
			return &proto.Error{Status: status, Text: "no"}
		}}}})
		if got := fake.Refusal(s.CheckMail(1, testkit.Params("XP=1"))); got != want {
			t.Errorf("%v: %q, want %q", status, got, want)
		}
	}
}

// A Check refuses by its error, whatever text that has.
func TestCheckWithoutText(t *testing.T) {
	for _, err := range []error{errors.New(""), errors.New("smtp: "), &proto.Error{Code: 501}} {
		s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Mail: []ext.Param{{Key: "XP", MaxLength: 9, Check: func(string) error { return err }}}})
		if got := fake.Refusal(s.CheckMail(1, testkit.Params("XP=1"))); got != "501 5.5.4 Bad parameter: XP cannot have that value" {
			t.Errorf("%#v: %q", err, got)
		}
	}
}
