package ehlo

import (
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// rationed is a session with a quota.
type rationed struct{ q *Quota }

func (r rationed) Quota() *Quota { return r.q }

func TestV10_LimitsAdvertise(t *testing.T) {
	for _, tt := range []struct {
		session any
		want    string
	}{
		{nil, "LIMITS RCPTMAX=100"},
		{rationed{}, "LIMITS RCPTMAX=100"},
		{rationed{&Quota{}}, "LIMITS RCPTMAX=100"},
		{testkit.Wrap(rationed{&Quota{MailMax: 5, RcptDomainMax: 1}}), "LIMITS RCPTMAX=100 MAILMAX=5 RCPTDOMAINMAX=1"},
		{rationed{&Quota{MailMax: 1 << 30}}, "LIMITS RCPTMAX=100 MAILMAX=999999"}, // six digits (RFC 9422 section 4)
	} {
		if _, lines := testkit.MakeSet(t, Limits()).Offer(fake.NewServer(tt.session)); !slices.Equal(lines, []string{tt.want}) {
			t.Errorf("offered %q, want %q", lines, tt.want)
		}
	}
}

func TestV10_LimitsEnforced(t *testing.T) {
	e := Limits()
	x := fake.NewServer(rationed{&Quota{MailMax: 2, RcptDomainMax: 2}})
	for i, want := range []string{"", "", "421 4.7.0 ", "421 4.7.0 "} {
		if got := fake.Refusal(e.CheckMail(t.Context(), x, proto.Address{}, nil)); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("MAIL %d: %q, want %q", i, got, want)
		}
	}
	for _, tt := range []struct{ to, want string }{
		{"a@b.example", ""},
		{"c@B.Example", ""},
		{"a@münchen.example", ""},
		{"a@d.example", "452 4.5.3 "},
		{"c@xn--mnchen-3ya.example", ""},
		{"z@b.example", ""},
	} {
		if got := fake.Refusal(e.CheckRcpt(t.Context(), x, testkit.Address(t, tt.to), nil)); tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.to, got, tt.want)
		}
	}
	for _, session := range []any{nil, rationed{}, rationed{&Quota{}}} {
		x := fake.NewServer(session)
		for i := range 10 {
			err := e.CheckMail(t.Context(), x, proto.Address{}, nil)
			if err2 := e.CheckRcpt(t.Context(), x, testkit.Address(t, "a@"+strings.Repeat("b", i+1)), nil); err != nil || err2 != nil {
				t.Fatalf("without a limit: %v, %v", err, err2)
			}
		}
	}
}

// TestLimitsOfServerAndSession: the lower limit of messages is stated, whether it is that of the server or of the
// session.
func TestLimitsOfServerAndSession(t *testing.T) {
	for _, tt := range []struct {
		server, session int
		want            string
	}{
		{7, 0, "LIMITS RCPTMAX=100 MAILMAX=7"},
		{7, 5, "LIMITS RCPTMAX=100 MAILMAX=5"},
		{7, 9, "LIMITS RCPTMAX=100 MAILMAX=7"},
		{0, 9, "LIMITS RCPTMAX=100 MAILMAX=9"},
	} {
		x := fake.NewServer(rationed{&Quota{MailMax: tt.session}})
		x.Conn.MaxMails = tt.server
		args, ok := Limits().Advertise(x)
		if got := "LIMITS " + args; !ok || got != tt.want {
			t.Errorf("%d and %d: %q, want %q", tt.server, tt.session, got, tt.want)
		}
	}
}

// TestV07_ReadLimits checks malformed lists and values (RFC 9422 sections 3 and 4); 131 is an attack.
func TestV07_ReadLimits(t *testing.T) {
	for line, want := range map[string]struct {
		l  ext.ServerLimits
		ok bool
	}{
		"LIMITS RCPTMAX=10 FOO=1":                    {ext.ServerLimits{RcptMax: 10}, true},
		"LIMITS MAILMAX=1 RCPTMAX=2 RCPTDOMAINMAX=3": {ext.ServerLimits{MailMax: 1, RcptMax: 2, RcptDomainMax: 3}, true},
		"limits rcptmax=999999":                      {ext.ServerLimits{RcptMax: 999999}, true},
		"LIMITS FOO BAR_2-x RCPTMAX=7":               {ext.ServerLimits{RcptMax: 7}, true},
		"LIMITS FOO=a=b,c MAILMAX=7":                 {ext.ServerLimits{MailMax: 7}, true},
		"LIMITS RCPTMAX=0 MAILMAX=3":                 {ext.ServerLimits{MailMax: 3}, true}, // 131
		"LIMITS RCPTMAX=01 MAILMAX=3":                {ext.ServerLimits{MailMax: 3}, true},
		"LIMITS RCPTMAX=1000000 MAILMAX=3":           {ext.ServerLimits{MailMax: 3}, true},
		"LIMITS RCPTMAX=-1 MAILMAX=+3":               {ext.ServerLimits{}, true},
		"LIMITS RCPTMAX=99999999999999999999999 X":   {ext.ServerLimits{}, true},
		"LIMITS RCPTMAX MAILMAX=3":                   {ext.ServerLimits{MailMax: 3}, true},
		"LIMITS =1 MAILMAX=3":                        {ext.ServerLimits{}, false},
		"LIMITS RCPTMAX= MAILMAX=3":                  {ext.ServerLimits{}, false},
		"LIMITS RCPTMAX=1;2 MAILMAX=3":               {ext.ServerLimits{}, false},
		"LIMITS RCPT.MAX=1 MAILMAX=3":                {ext.ServerLimits{}, false},
		"LIMITS":                                     {ext.ServerLimits{}, false},
		"SIZE":                                       {ext.ServerLimits{}, false},
	} {
		if l, ok := ReadLimits(fake.Caps(line)); l != want.l || ok != want.ok {
			t.Errorf("%s: %+v, %v, want %+v, %v", line, l, ok, want.l, want.ok)
		}
	}
}

func FuzzLimits(f *testing.F) {
	for _, s := range []string{"RCPTMAX=10 FOO=1", "=1", "MAILMAX=999999", "RCPTMAX=0", "A=;", "MAILMAX=1 MAILMAX=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, ok := ReadLimits(fake.Caps("LIMITS " + s))
		for _, n := range []int{l.MailMax, l.RcptMax, l.RcptDomainMax} {
			if n < 0 || n > 999999 || n > 0 && !ok {
				t.Fatalf("%q is read as %+v, %v", s, l, ok)
			}
		}
	})
}
