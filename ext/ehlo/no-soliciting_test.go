package ehlo

import (
	"context"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// grumpy is a session that maps local parts to unwanted classes.
type grumpy map[string][]string

func (g grumpy) Unwanted(_ context.Context, to proto.Address) ([]string, error) {
	if to.Local == "error" {
		return nil, proto.Refuse(450, proto.Status{}, "later")
	}
	return g[to.Local], nil
}

func TestSolicitation(t *testing.T) {
	long := strings.Repeat("a", 999) + ",b"
	testParam(t, NoSoliciting().Mail, "SOLICIT", []paramCase{
		{"net.example:ADV", true}, {"net.example:ADV,org.example:ADV:ADLT", true}, {"a_b-c.d:1", true},
		{long[2:], true}, {long, false}, // 1000 octets (RFC 3865 section 2.2)
		{"1a", false}, {":a", false}, {"a,", false}, {",a", false}, {"a,,b", false}, {"a b", false}, {"é", false}, {"a;b", false},
	})
	s := Solicitation{"net.example:ADV", "org.example:ADV:ADLT"}
	if p := s.AddTo(nil); !slices.Equal(p, testkit.Params("SOLICIT=net.example:ADV,org.example:ADV:ADLT")) {
		t.Errorf("written as %v", p)
	}
	if got, ok := ReadSolicitation(s.AddTo(nil)); !ok || !slices.Equal(got, s) {
		t.Errorf("read as %v", got)
	}
	if p := (Solicitation{}).AddTo(testkit.Params("SIZE=1")); len(p) != 1 {
		t.Errorf("none is written as %v", p)
	}
	if _, ok := ReadSolicitation(nil); ok {
		t.Error("none is read")
	}
}

func TestNoSolicitingServer(t *testing.T) {
	e := NoSoliciting("net.example:ADV", "com.example:X")
	if _, lines := testkit.MakeSet(t, e).Offer(&fake.Server{}); !slices.Equal(lines, []string{"NO-SOLICITING net.example:ADV,com.example:X"}) {
		t.Errorf("offered %q", lines)
	}
	if _, lines := testkit.MakeSet(t, NoSoliciting()).Offer(&fake.Server{}); !slices.Equal(lines, []string{"NO-SOLICITING"}) {
		t.Errorf("without classes: offered %q", lines)
	}
	for text, want := range map[string]string{
		"":                                      "",
		"SOLICIT=org.example:ADV":               "",
		"SOLICIT=org.example:Y,NET.example:adv": "550 5.7.1 SOLICIT=NET.example:adv ", // RFC 3865 section 2.4
	} {
		if got := fake.Refusal(e.CheckMail(t.Context(), &fake.Server{}, proto.Address{}, testkit.Params(text))); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("MAIL with %q: %q, want %q", text, got, want)
		}
	}
	session := testkit.Wrap(grumpy{"old": {"org.example:ADV:ADLT"}})
	for _, tt := range []struct {
		session  any
		mail, to string
		want     string
	}{
		{session, "SOLICIT=org.example:ADV:ADLT", "old@b.example", "550 5.7.1 SOLICIT=org.example:ADV:ADLT "},
		{session, "SOLICIT=org.example:ADV:ADLT", "clipper@b.example", ""},
		{session, "SOLICIT=org.example:ADV:ADLT", "error@b.example", "450 4.2.1 later"},
		{session, "", "old@b.example", ""},
		{nil, "SOLICIT=org.example:ADV:ADLT", "old@b.example", ""},
	} {
		x := &fake.Server{Conn: fake.ServerState{Session: tt.session, MailParams: testkit.Params(tt.mail)}}
		if got := fake.Refusal(e.CheckRcpt(t.Context(), x, testkit.Address(t, tt.to), nil)); tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
			t.Errorf("RCPT %s after %q: %q, want %q", tt.to, tt.mail, got, tt.want)
		}
	}
	for _, classes := range [][]string{{"1"}, {""}, {"a b"}, {"a", "b,"}, {strings.Repeat("a", 487)}} {
		if _, err := ext.NewSet(proto.SMTP, []ext.Extension{NoSoliciting(classes...)}); err == nil {
			t.Errorf("%.20q are accepted", classes)
		}
	}
}

func TestNoSolicitingClient(t *testing.T) {
	s := testkit.MakeSet(t, NoSoliciting())
	for _, tt := range []struct {
		offer, mail string
		refused     bool
	}{
		{"NO-SOLICITING net.example:ADV,org.example:X", "SOLICIT=a.example:B,ORG.example:x", true},
		{"NO-SOLICITING net.example:ADV", "SOLICIT=a.example:B", false},
		{"NO-SOLICITING", "SOLICIT=a.example:B", false},
		{"NO-SOLICITING net.example:ADV", "", false},
		{"SIZE", "SOLICIT=a.example:B", true},
	} {
		c := fake.Caps(tt.offer)
		err := s.Prepare(s.Offered(c), c, &ext.Envelope{Mail: testkit.Params(tt.mail)})
		if _, ok := grammar.AsType[*ext.UnsupportedError](err); ok != tt.refused || ok != (err != nil) {
			t.Errorf("%q to one that offers %q: %v", tt.mail, tt.offer, err)
		}
	}
}

func FuzzSolicitParam(f *testing.F) {
	for _, s := range []string{"net.example:ADV", "a,b", "a,", "1", strings.Repeat("a", 1001)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := ReadSolicitation(testkit.One("SOLICIT", s))
		if ok != (checkSolicitation(s) == nil) || ok && (v.String() != s || len(s) > 1000 || !grammar.Printable(s)) {
			t.Fatalf("%q is read as %q, %v", s, v, ok)
		}
	})
}
