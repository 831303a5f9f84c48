package ehlo

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
)

// sealed is a session that keeps to TLS if true.
type sealed bool

func (s sealed) KeepsTLS() bool { return bool(s) }

func TestV01_RequireTLSAdvertise(t *testing.T) {
	for _, tt := range []struct {
		session any
		tls     *tls.ConnectionState
		want    string
	}{
		{testkit.Wrap(sealed(true)), &tls.ConnectionState{}, "REQUIRETLS"},
		{sealed(true), nil, ""},
		{sealed(false), &tls.ConnectionState{}, ""},
		{nil, &tls.ConnectionState{}, ""},
	} {
		if _, lines := testkit.MakeSet(t, RequireTLS()).Offer(&fake.Server{Conn: fake.ServerState{Session: tt.session, TLS: tt.tls}}); strings.Join(lines, " ") != tt.want {
			t.Errorf("%+v: offered %q, want %q", tt, lines, tt.want)
		}
	}
}

func TestV02_RequireTLSFlag(t *testing.T) {
	s := testkit.MakeSet(t, RequireTLS())
	for text, code := range map[string]int{"REQUIRETLS": 0, "requiretls": 0, "REQUIRETLS=1": 501, "REQUIRETLS=": 501} {
		if e := s.CheckMail(testkit.All(s), testkit.Params(text)); code == 0 && e != nil || code != 0 && (e == nil || e.Code != code) {
			t.Errorf("%s: %v, want %d", text, e, code)
		}
	}
	if e := s.CheckMail(ext.Offer{}, testkit.Params("REQUIRETLS")); e == nil || e.Code != 555 {
		t.Errorf("not on offer, as in a session in clear: %v, want 555", e)
	}
	if p := AddRequireTLS(testkit.Params("SIZE=1")); !slices.Equal(p, testkit.Params("SIZE=1 REQUIRETLS")) || !ReadRequireTLS(p) || ReadRequireTLS(nil) {
		t.Errorf("written as %v", p)
	}
}

// TestV04_RequireTLSPrepare removes the conditions of RFC 8689 section 4.2.1 one by one. Attack 163 is to remove the
// keyword from the reply.
func TestV04_RequireTLSPrepare(t *testing.T) {
	s := testkit.MakeSet(t, RequireTLS())
	for _, tt := range []struct {
		offer    string
		verified bool
		mail     string
		refused  bool
	}{
		{"REQUIRETLS", true, "REQUIRETLS", false},
		{"REQUIRETLS", false, "REQUIRETLS", true},
		{"SIZE", true, "REQUIRETLS", true},
		{"REQUIRETLS", false, "", false},
		{"SIZE", false, "", false},
	} {
		c := fake.Caps(tt.offer)
		err := s.Prepare(s.Offered(c), c, &ext.Envelope{Mail: testkit.Params(tt.mail), Verified: tt.verified})
		e, ok := grammar.AsType[*ext.UnsupportedError](err)
		if ok != tt.refused || ok != (err != nil) || ok && e.Keyword != "REQUIRETLS" {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
