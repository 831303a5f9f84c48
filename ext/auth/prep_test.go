package auth

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// The examples of RFC 4013 section 3, and more rules of RFC 3454.
func TestP21_SASLprep(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		ok      bool
	}{
		{"I\u00adX", "IX", true},
		{"user", "user", true},
		{"USER", "USER", true},
		{"\u00aa", "a", true},
		{"\u2168", "IX", true},
		{"\u0007", "", false},
		{"\u0627\u0031", "", false},
		{"\u0627\u0031\u0628", "\u0627\u0031\u0628", true},
		{"a\u0627", "", false},
		{"\u0627a\u0628", "", false},
		{"a\u00a0b\u3000c\u200bd", "a b c d", true},
		{"", "", false},
		{"\u00ad", "", false},
		{"a\x7f", "", false},
		{"ä\u0085", "", false},
		{"ä\ue000", "", false},
		{"ä\ufffe", "", false},
		{"ä\U0001ffff", "", false},
		{"ä\ufdd0", "", false},
		{"ä\u2028", "", false},
		{"ä\u2ff0", "", false},
		{"ä\ufffd", "", false},
		{"ä\U000e0041", "", false},
		{"ä\xff", "", false},
		{"p\u0308", "p\u0308", true},
	} {
		if out, err := saslPrep(tt.in); out != tt.out || (err == nil) != tt.ok {
			t.Errorf("%+q: %+q, %v", tt.in, out, err)
		}
	}
}

// FuzzSASLprep looks for a text that changes when it is prepared again, or keeps a prohibited character.
func FuzzSASLprep(f *testing.F) {
	for _, s := range []string{"I\u00adX", "user", "\u00aa", "\u2168", "\u0007", "\u0627\u0031", "a\u00a0b", "jo\u0308rg", "\u0627\u0628", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := saslPrep(s)
		if err != nil {
			return
		}
		if out == "" || !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }) {
			t.Fatalf("%q is %q", s, out)
		}
		if again, err := saslPrep(out); err != nil || again != out {
			t.Fatalf("%q is %q, which is %q (%v)", s, out, again, err)
		}
	})
}
