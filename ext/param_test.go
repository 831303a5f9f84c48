package ext_test

import (
	"errors"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// The command line has room for every combination of parameters (RFC 5321 section 4.5.3.1.4): SIZE 26, AUTH 500,
// BODY=BINARYMIME 16, SMTPUTF8 10, RET 9, ENVID 107, REQUIRETLS 11, MT-PRIORITY 15 and BY 17 for MAIL, NOTIFY 29, ORCPT
// 507 and RRVS 33 for RCPT, each with the space before it.
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
	all := testkit.All(s)
	noBinary := s.Offered(fake.Caps("SIZE", "8BITMIME", "CHUNKING"))
	for _, tt := range []struct {
		name, params string
		offer        ext.Offer
		want         string // beginning of the reply; "" if fine
	}{
		{"none", "", all, ""},
		{"C16 unknown", "FOO=1", all, "555 5.5.4 The parameter FOO"},
		{"C16 not offered", "SIZE=1", ext.Offer{}, "555 5.5.4 The parameter SIZE"},
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
		{"SMTPUTF8", ext.Offer{}, false, false},
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

// TestConflictsWith checks that a command may have only one of two parameters in conflict, and has room for the longer
// one.
func TestConflictsWith(t *testing.T) {
	s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Mail: []ext.Param{
		{Key: "XFOR", MaxLength: 18}, {Key: "XUNTIL", MaxLength: 34, ConflictsWith: "XFOR"}, {Key: "XMORE", MaxLength: 10},
	}})
	if got := s.Table().Lookup("MAIL").Grow; got != 44 {
		t.Errorf("the command line grows by %d octets, want 34 and 10", got)
	}
	for p, code := range map[string]int{"XFOR=1": 0, "XUNTIL=2 XMORE=1": 0, "XFOR=1 XUNTIL=2": 501, "xuntil=2 xfor=1": 501} {
		e := s.CheckMail(testkit.All(s), testkit.Params(p))
		if code == 0 && e != nil || code != 0 && (e == nil || e.Code != code || e.Status != (proto.Status{5, 5, 4})) {
			t.Errorf("%s: %v, want %d", p, e, code)
		}
	}
	if err := s.Prepare(testkit.All(s), fake.Caps("XA"), &ext.Envelope{Mail: testkit.Params("XFOR=1 XUNTIL=2")}); err == nil {
		t.Error("a client would send both")
	}
	_, err := ext.NewSet(proto.SMTP, []ext.Extension{{Keyword: "XA", Mail: []ext.Param{{Key: "XUNTIL", MaxLength: 34, ConflictsWith: "XFOR"}}}})
	if err == nil || !strings.Contains(err.Error(), "XFOR") {
		t.Errorf("%v, want an error that names what is missing", err)
	}
}

// TestCheckStatus checks that the status code of a Check is sent if its class is 5.
func TestCheckStatus(t *testing.T) {
	for status, want := range map[proto.Status]string{
		{}:         "501 5.5.4 Bad parameter: no",
		{5, 5, 2}:  "501 5.5.2 Bad parameter: no",
		{4, 7, 15}: "501 5.5.4 Bad parameter: no",
	} {
		s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Mail: []ext.Param{{Key: "XP", MaxLength: 9, Check: func(string) error {
			return &proto.Error{Status: status, Text: "no"}
		}}}})
		if got := fake.Refusal(s.CheckMail(testkit.All(s), testkit.Params("XP=1"))); got != want {
			t.Errorf("%v: %q, want %q", status, got, want)
		}
	}
}

// TestCheckWithoutText checks that a Check refuses by an error without a text too.
func TestCheckWithoutText(t *testing.T) {
	for _, err := range []error{errors.New(""), errors.New("smtp: "), &proto.Error{Code: 501}} {
		s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Mail: []ext.Param{{Key: "XP", MaxLength: 9, Check: func(string) error { return err }}}})
		if got := fake.Refusal(s.CheckMail(testkit.All(s), testkit.Params("XP=1"))); got != "501 5.5.4 Bad parameter: XP cannot have that value" {
			t.Errorf("%#v: %q", err, got)
		}
	}
}
