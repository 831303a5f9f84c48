package auth

import (
	"testing"

	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

func TestSubmitter(t *testing.T) {
	for _, tt := range []struct {
		params, want string
		ok           bool
	}{
		{"AUTH=e+3Dmc2@example.com", "e=mc2@example.com", true}, // RFC 4954 section 5.1
		{"auth=<>", "", true},
		{"SIZE=1", "", false},
		{"AUTH=x", "", false},
	} {
		a, ok := ReadSubmitter(testkit.Params(tt.params))
		if ok != tt.ok || a.String() != (map[bool]proto.Address{true: mustNot(tt.want)}[tt.want != ""]).String() {
			t.Errorf("%s: %v, %v", tt.params, a, ok)
		}
	}
}

func mustNot(s string) proto.Address {
	a, _ := proto.ParseAddress(s)
	return a
}

// A relay passes on who submitted a message.
func TestP16P32_SubmittedBy(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{"e=mc2@example.com", "e+3Dmc2@example.com"}, // RFC 4954 section 5.1
		{"", "<>"},
	} {
		var a proto.Address
		if tt.address != "" {
			a = testkit.Address(t, tt.address)
		}
		p := AddSubmitter(nil, a)
		if value, _ := p.Get("AUTH"); value != tt.want {
			t.Errorf("%s: AUTH=%s, want %s", tt.address, value, tt.want)
		}
		if got, ok := ReadSubmitter(p); !ok || got != a {
			t.Errorf("%s: read as %v, %v", tt.address, got, ok)
		}
	}
}

func FuzzSubmittedByParam(f *testing.F) {
	for _, s := range []string{"alice@example.com", "<>", `"a+20b"@c`, "e+3Dmc2@example.com", "+3C+3E", "a@[192.0.2.1]", "+0D", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := ReadSubmitter(testkit.One("AUTH", s))
		if ok != (checkSubmitter(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		if again, ok := ReadSubmitter(AddSubmitter(nil, a)); !ok || again != a {
			t.Fatalf("%q is written as %v and read as %v", s, AddSubmitter(nil, a), again)
		}
	})
}
