package proto

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ehlo returns what a reply to EHLO with these lines offers.
func ehlo(lines ...string) Caps {
	return ParseCaps(Reply{Code: 250, Text: strings.Join(lines, "\n")})
}

func TestCaps(t *testing.T) {
	c := ehlo("foo.com greets bar.com", "8BITMIME", "SIZE", "DSN", "help", "PiPeLiNiNg", "XFOO a=b  c", "SIZE 5")
	if got := c.Domain(); got != "foo.com" {
		t.Errorf("Domain() = %q", got)
	}
	want := []string{"8BITMIME", "SIZE", "DSN", "HELP", "PIPELINING", "XFOO"}
	if got := c.Keywords(); !slices.Equal(got, want) {
		t.Errorf("Keywords() = %q, want %q", got, want)
	}
	for _, k := range []string{"pipelining", "PIPELINING", "Help", "8bitmime"} {
		if !c.Has(k) {
			t.Errorf("Has(%q) = false: keywords have no case (RFC 5321 section 2.4)", k)
		}
	}
	for _, k := range []string{"FOO.COM", "", "XFO", "STARTTLS", "GREETS"} {
		if c.Has(k) {
			t.Errorf("Has(%q) = true", k)
		}
	}
	if args, ok := c.Args("xfoo"); args != "a=b c" || !ok {
		t.Errorf("Args(xfoo) = %q, %v", args, ok)
	}
	if args, ok := c.Args("SIZE"); args != "" || !ok {
		t.Errorf("Args(SIZE) = %q, %v; the first line counts", args, ok)
	}
}

func TestCapsAuth(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"plain form", []string{"AUTH PLAIN LOGIN"}, "PLAIN LOGIN"},
		{"old form alone", []string{"AUTH=PLAIN LOGIN"}, "PLAIN LOGIN"},
		{"both forms", []string{"AUTH PLAIN", "auth=LOGIN PLAIN"}, "PLAIN LOGIN"},
		{"old form first", []string{"AUTH=LOGIN", "AUTH PLAIN"}, "LOGIN PLAIN"},
		{"in other case", []string{"AUTH PLAIN", "AUTH plain"}, "PLAIN"},
		{"padded", []string{"AUTH" + strings.Repeat(" ", 5000) + "PLAIN" + strings.Repeat(" ", 5000)}, "PLAIN"},
		{"without mechanism", []string{"AUTH"}, ""},
		{"without mechanism first", []string{"AUTH", "AUTH LOGIN"}, "LOGIN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := ehlo(append([]string{"mx.example"}, tt.lines...)...)
			if args, ok := c.Args("AUTH"); args != tt.want || !ok {
				t.Errorf("Args(AUTH) = %q, %v, want %q", args, ok, tt.want)
			}
			if got := c.Keywords(); !slices.Equal(got, []string{"AUTH"}) {
				t.Errorf("Keywords() = %q", got)
			}
		})
	}
}

func TestCapsMalformed(t *testing.T) {
	for _, line := range []string{
		"", " ", " SIZE", "-SIZE", "SI_ZE", "SIZE=5", "SIZE:5", "AUTH=", "SIZÉ", "SIZE\x00", "SIZE 5\x00", "SIZE é", "\x1bSIZE",
		"SIZE\v5", "@", "SIZE[", "`SIZE",
	} {
		if got := ehlo("mx.example", line, "DSN").Keywords(); !slices.Equal(got, []string{"DSN"}) {
			t.Errorf("%q is taken for a keyword: %q", line, got)
		}
	}
}

func TestCapsNothing(t *testing.T) {
	for name, c := range map[string]Caps{
		"zero value": {},
		"refusal":    ParseCaps(Reply{Code: 502, Text: "no\nSTARTTLS"}),
		"no text":    ParseCaps(Reply{Code: 250}),
		"one line":   ehlo("mx.example at your service"),
	} {
		if len(c.Keywords()) != 0 || c.Has("STARTTLS") || c.Has("") || len(c.Without("STARTTLS").Keywords()) != 0 {
			t.Errorf("%s: offers %q", name, c.Keywords())
		}
	}
}

func TestCapsWithout(t *testing.T) {
	c := ehlo("mx.example", "PIPELINING", "CHUNKING", "SIZE 9")
	less := c.Without("chunking", "DSN")
	if got := less.Keywords(); !slices.Equal(got, []string{"PIPELINING", "SIZE"}) {
		t.Errorf("Keywords() = %q", got)
	}
	if less.Has("CHUNKING") || less.Has("DSN") {
		t.Error("what was taken away is still offered")
	}
	if args, _ := less.Args("SIZE"); args != "9" || less.Domain() != "mx.example" {
		t.Errorf("what is left has changed: SIZE %q, domain %q", args, less.Domain())
	}
	if !c.Has("CHUNKING") {
		t.Error("Without has changed what it was called on")
	}
	c.Keywords()[0] = "X"
	if c.Keywords()[0] != "PIPELINING" {
		t.Error("what Keywords returns belongs to the Caps")
	}
}

// TestCapsHostile reads a hundred thousand keywords, and as many AUTH lines, which must not take quadratic time.
func TestCapsHostile(t *testing.T) {
	const n = 100_000
	lines := []string{"mx.example"}
	for i := range n {
		lines = append(lines, "X"+strconv.Itoa(i), "AUTH M"+strconv.Itoa(i%10)+" PLAIN")
	}
	c := ehlo(lines...)
	if got := len(c.Keywords()); got != n+1 {
		t.Errorf("%d keywords, want %d", got, n+1)
	}
	if args, _ := c.Args("AUTH"); len(strings.Fields(args)) != 11 {
		t.Errorf("Args(AUTH) = %q", args)
	}
}

func FuzzCaps(f *testing.F) {
	for _, s := range []string{
		"mx.example\nSIZE 5\nAUTH=PLAIN\nauth LOGIN PLAIN\nSIZE 6", "mx", "", "\n\n", "mx\n-\nA\nX-Y  z\t z", "mx\nAUTH=", "mx\nAUTH==",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := ParseCaps(Reply{Code: 250, Text: text})
		for _, k := range c.Keywords() {
			if strings.Trim(k, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" || k == "" || k[0] == '-' {
				t.Fatalf("%q is no keyword (RFC 5321 section 4.1.1.1)", k)
			}
			args, ok := c.Args(k)
			if !ok || strings.Trim(args, " ") != args || strings.Contains(args, "  ") {
				t.Fatalf("Args(%q) = %q, %v", k, args, ok)
			}
			if less := c.Without(k); less.Has(k) || len(less.Keywords()) != len(c.Keywords())-1 {
				t.Fatalf("Without(%q) leaves %q of %q", k, less.Keywords(), c.Keywords())
			}
		}
		// Written again, it reads the same.
		lines := []string{c.Domain()}
		for _, k := range c.Keywords() {
			args, _ := c.Args(k)
			lines = append(lines, k+" "+args)
		}
		again := ehlo(lines...)
		if !slices.Equal(again.Keywords(), c.Keywords()) {
			t.Fatalf("%q, then %q", c.Keywords(), again.Keywords())
		}
		for _, k := range c.Keywords() {
			a, _ := c.Args(k)
			if b, _ := again.Args(k); a != b {
				t.Fatalf("%s: %q, then %q", k, a, b)
			}
		}
	})
}
