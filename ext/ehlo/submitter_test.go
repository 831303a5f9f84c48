package ehlo

import (
	"context"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// trusting is a session that permits all who are responsible from one domain.
type trusting string

func (s trusting) PermitsSubmitter(_ context.Context, a proto.Address) (bool, error) {
	if a.Local == "error" {
		return false, proto.Refuse(451, proto.Status{}, "later")
	}
	return a.Domain.Name() == string(s), nil
}

func TestResponsible(t *testing.T) {
	testParam(t, Submitter().Mail, "SUBMITTER", []paramCase{
		{"alice@example.com", true}, {"a+2Bb@example.com", true}, {`"a+20b"@example.com`, true},
		{"<>", false}, {"alice", false}, {"<alice@example.com>", false}, {"a+0D+0A@b", false}, {"a+@b.example", false},
	})
	e := Submitter()
	for _, tt := range []struct{ mail, want string }{
		{"SUBMITTER=alice@example.com", ""},
		{"", ""},
		{"SUBMITTER=alice@example.net", "550 5.7.1 Submitter not allowed."}, // in these words
		{"SUBMITTER=error@example.com", "451 4.3.0 later"},
	} {
		x := fake.NewServer(testkit.Wrap(trusting("example.com")))
		if got := fake.Refusal(e.CheckMail(t.Context(), x, proto.Address{}, testkit.Params(tt.mail))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.mail, got, tt.want)
		}
	}
	a := testkit.Address(t, `"a b+c"@example.com`)
	p := AddResponsible(testkit.Params("SIZE=1"), a)
	if !slices.Equal(p, testkit.Params(`SIZE=1 SUBMITTER="a+20b+2Bc"@example.com`)) {
		t.Errorf("written as %v", p)
	}
	if got, ok := ReadResponsible(p); !ok || got != a {
		t.Errorf("read as %v", got)
	}
	if _, ok := ReadResponsible(nil); ok {
		t.Error("none is read")
	}
	for session, want := range map[any]string{trusting("x"): "SUBMITTER", nil: ""} {
		if _, lines := testkit.MakeSet(t, e).Offer(fake.NewServer(session)); strings.Join(lines, " ") != want {
			t.Errorf("offered %q", lines)
		}
	}
}

func FuzzSubmitterParam(f *testing.F) {
	for _, s := range []string{"alice@example.com", `"a+20b"@c`, "a@[192.0.2.1]", "<>", "+0D"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := ReadResponsible(testkit.One("SUBMITTER", s))
		if ok != (checkResponsible(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		if again, ok := ReadResponsible(AddResponsible(nil, a)); !ok || again != a {
			t.Fatalf("%q is written as %v and read as %v", s, AddResponsible(nil, a), again)
		}
	})
}
