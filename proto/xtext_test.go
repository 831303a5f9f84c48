package proto_test

import (
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

func TestAppendXtext(t *testing.T) {
	for c := range 256 {
		octet := string([]byte{byte(c)})
		want := octet
		if c < 33 || c > 126 || c == '+' || c == '=' { // RFC 3461 section 4
			want = fmt.Sprintf("+%02X", c)
		}
		if got := string(proto.AppendXtext([]byte("x"), octet)); got != "x"+want {
			t.Errorf("%q is encoded as %q, want %q", octet, got[1:], want)
		}
		if got, err := proto.DecodeXtext(want); err != nil || got != octet {
			t.Errorf("%q is decoded as %q, %v", want, got, err)
		}
	}
	if got := string(proto.AppendXtext(nil, "ü €")); got != "+C3+BC+20+E2+82+AC" { // octet by octet, CVE-2025-7962
		t.Errorf("UTF-8 is encoded as %q", got)
	}
}

func TestC21_DecodeXtext(t *testing.T) {
	for _, test := range []struct{ in, want string }{ // C21
		{"", ""},
		{"Bob@Example.COM", "Bob@Example.COM"},
		{"a+2Bb+3Dc", "a+b=c"},
		{"e+3Dmc2@example.com", "e=mc2@example.com"}, // RFC 4954 section 5
		{"+41+42", "AB"},
		{"+0D+0A+00", "\r\n\x00"},
		{"+2B2B", "+2B"},
		{"+C3+BC", "ü"},
	} {
		if got, err := proto.DecodeXtext(test.in); err != nil || got != test.want {
			t.Errorf("%q: %q, %v; want %q", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{
		"+", "+2", "a+", "a+2", "+G0", "+0G", "+2b", "+ab", "++41", "+ 1", "+-1", "a=b", "a b", "a\tb", "a\r\nb", "a\x00", "a\x7f", "ü", "+\x80\x80",
	} {
		if got, err := proto.DecodeXtext(in); err == nil || got != "" || !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%q: %q, %v; want an error", in, got, err)
		}
	}
}

func FuzzXtext(f *testing.F) {
	for _, s := range []string{"", "a+2Bb+3Dc", "+", "+G0", "ü", "\r\n", "+C3+BC", "a=b", "+2b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		x := string(proto.AppendXtext(nil, s))
		if strings.ContainsFunc(x, func(r rune) bool { return r < '!' || r > '~' || r == '=' }) {
			t.Fatalf("%q is encoded as %q", s, x)
		}
		if back, err := proto.DecodeXtext(x); err != nil || back != s {
			t.Fatalf("%q is encoded as %q, which is %q, %v", s, x, back, err)
		}
		// Decoding and encoding again gives the same, except where an octet was encoded without need.
		if d, err := proto.DecodeXtext(s); err == nil {
			again, err := proto.DecodeXtext(string(proto.AppendXtext(nil, d)))
			if err != nil || again != d || len(d) > len(s) {
				t.Fatalf("%q is decoded as %q, and then as %q, %v", s, d, again, err)
			}
		}
	})
}

func TestXtextAllocs(t *testing.T) {
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { buf = proto.AppendXtext(buf[:0], "a+b=ü") }); n != 0 {
		t.Errorf("encoding costs %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = proto.DecodeXtext("plain") }); n != 0 {
		t.Errorf("decoding text that needs none costs %v allocations", n)
	}
}
