package ehlo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// landlord is a session that answers each question with the same error, and records the question.
type landlord struct {
	err   error
	asked []string
}

func (l *landlord) CheckOwnership(_ context.Context, to proto.Address, since time.Time) error {
	l.asked = append(l.asked, to.String()+" "+since.UTC().Format(time.DateOnly))
	return l.err
}

func TestW10_ValidSince(t *testing.T) {
	testParam(t, RRVS().Rcpt, "RRVS", []paramCase{
		{"2014-04-03T23:01:00Z", true}, {"2014-04-03T23:01:00Z;C", true}, {"2014-04-03T23:01:00-08:00;r", true},
		{"2014-04-03T23:01:00.5Z", false}, // RFC 7293 section 3.1
		{"2014-04-03T23:01:00Z;", false}, {"2014-04-03T23:01:00Z;X", false}, {"2014-04-03T23:01:00Z;C;R", false},
		{"2014-04-03", false}, {";C", false}, {"1396566060", false},
	})
	then := time.Date(2014, 4, 3, 23, 1, 0, 7, time.FixedZone("", 3600))
	for _, tt := range []struct {
		v    ValidSince
		want string
	}{
		{ValidSince{Time: then}, "RRVS=2014-04-03T22:01:00Z"},
		{ValidSince{then, true}, "RRVS=2014-04-03T22:01:00Z;C"},
	} {
		p := tt.v.AddTo(nil)
		if !slices.Equal(p, testkit.Params(tt.want)) {
			t.Errorf("written as %v, want %s", p, tt.want)
		}
		back, ok := ReadValidSince(p)
		if !ok || !back.Time.Equal(then.Truncate(time.Second)) || back.Continue != tt.v.Continue {
			t.Errorf("%v is read as %+v", p, back)
		}
	}
	if _, ok := ReadValidSince(nil); ok {
		t.Error("none is read")
	}
}

func TestW11_CheckOwnership(t *testing.T) {
	for _, tt := range []struct {
		err        error
		to, params string
		want       string
		asked      int
	}{
		{nil, "a@b.example", "RRVS=2014-04-03T23:01:00Z", "", 1},
		{nil, "a@b.example", "", "", 0},
		{ErrOwnerChanged, "a@b.example", "RRVS=2014-04-03T23:01:00Z;C", "550 5.7.17 ", 1},
		{fmt.Errorf("b.example: %w", ErrDomainChanged), "a@b.example", "RRVS=2014-04-03T23:01:00Z", "550 5.7.18 ", 1},
		{ErrOwnerUnknown, "a@b.example", "RRVS=2014-04-03T23:01:00Z", "550 5.7.19 ", 1},
		{proto.Refuse(451, proto.Status{}, "later"), "a@b.example", "RRVS=2014-04-03T23:01:00Z", "451 4.3.0 later", 1},
		{errors.New("disk"), "a@b.example", "RRVS=2014-04-03T23:01:00Z", "not a reply: disk", 1},
		{ErrOwnerChanged, "PostMaster@b.example", "RRVS=2014-04-03T23:01:00Z", "", 0}, // RFC 7293 section 5.1
		{ErrOwnerChanged, "abuse@b.example", "RRVS=2014-04-03T23:01:00Z", "", 0},
	} {
		l := &landlord{err: tt.err}
		err := RRVS().CheckRcpt(t.Context(), fake.NewServer(testkit.Wrap(l)), testkit.Address(t, tt.to), testkit.Params(tt.params))
		if got := fake.Refusal(err); tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) || len(l.asked) != tt.asked {
			t.Errorf("%s %s: %q after asking %q, want %q", tt.to, tt.params, got, l.asked, tt.want)
		}
		if tt.asked > 0 && l.asked[0] != tt.to+" 2014-04-03" {
			t.Errorf("asked about %s", l.asked[0])
		}
	}
}

func FuzzRRVSParam(f *testing.F) {
	for _, s := range []string{"2014-04-03T23:01:00Z", "2014-04-03T23:01:00-08:00;R", "2014-04-03T23:01:00Z;c", "2014-04-03T23:01:00.1Z", ";"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := ReadValidSince(testkit.One("RRVS", s))
		if ok != (checkValidSince(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if year := v.Time.UTC().Year(); !ok || year < 0 || year > 9999 {
			return
		}
		if again, ok := ReadValidSince(v.AddTo(nil)); !ok || !again.Time.Equal(v.Time) || again.Continue != v.Continue {
			t.Fatalf("%q is written as %v", s, v.AddTo(nil))
		}
	})
}
