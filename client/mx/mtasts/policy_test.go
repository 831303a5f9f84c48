package mtasts

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/proto/prototest"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

// published is the policy of RFC 8461 section 3.2.
const published = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\n" +
	"mx: backupmx.example.com\r\nmax_age: 604800\r\n"

// describe writes a policy in a line.
func describe(p *Policy) string {
	if p == nil {
		return "no policy"
	}
	return fmt.Sprintf("%s %d %s", p.Mode, p.MaxAge/time.Second, strings.Join(p.MX, ","))
}

func TestX02_Parse(t *testing.T) {
	const ordinary = "enforce 604800 mail.example.com,*.example.net,backupmx.example.com"
	tests := []struct{ name, text, want string }{
		{"the example of the RFC", published, ordinary},
		{"LF", strings.ReplaceAll(published, "\r\n", "\n"), ordinary},
		{"LF and CRLF", strings.Replace(published, "\r\n", "\n", 2), ordinary},
		{"no line end at the end", strings.TrimSuffix(published, "\r\n"), ordinary},
		{"empty lines", "\r\n" + published + "\n\r\n", ordinary},
		{"white space before values and at ends", "version:STSv1 \nmode:\t testing\t \nmx:   a.example\nmax_age:1\n", "testing 1 a.example"},
		{"any order", "max_age: 5\nmx: a.example\nmode: testing\nversion: STSv1\n", "testing 5 a.example"},
		{"the first of duplicates counts", "version: STSv1\nversion: x\nmode: testing\nmode: enforce\nmode: x\nmx: a.example\n" +
			"max_age: 7\nmax_age: x\n", "testing 7 a.example"},
		{"unknown names", "x-y_z.1: any:thing é =;\n" + published + "extra:\n", ordinary},
		{"names are in lower case", "MODE: none\n" + published, ordinary},
		{"a colon in a value", "note: see https://example.com/\n" + published, ordinary},
		{"mode none needs no mx", "version: STSv1\nmode: none\nmax_age: 86400\n", "none 86400 "},
		{"mode none may have mx", "version: STSv1\nmode: none\nmx: a.example\nmax_age: 86400\n", "none 86400 a.example"},
		{"max_age of zero", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 0\n", "testing 0 a.example"},
		{"max_age at the limit", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 31557600\n", "testing 31557600 a.example"},
		{"max_age beyond the limit", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 31557601\n", "testing 31557600 a.example"},
		{"max_age of ten digits", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 9999999999\n", "testing 31557600 a.example"},
		{"mx in upper case with a dot", "version: STSv1\nmode: testing\nmx: Mail.Example.COM.\nmax_age: 1\n", "testing 1 mail.example.com"},
		{"mx in U-labels", "version: STSv1\nmode: testing\nmx: mx.München.example\nmx: *.bücher.example\nmax_age: 1\n",
			"testing 1 mx.xn--mnchen-3ya.example,*.xn--bcher-kva.example"},
		{"mx with an underscore", "version: STSv1\nmode: testing\nmx: mx_1.example\nmax_age: 1\n", "testing 1 mx_1.example"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Parse([]byte(test.text))
			if err != nil || describe(p) != test.want {
				t.Errorf("%s, %v; want %s", describe(p), err, test.want)
			}
		})
	}
}

func TestX02_ParseErrors(t *testing.T) {
	with := func(line string) string {
		return "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1\n" + line + "\n"
	}
	without := func(line string) string { return strings.Replace(published, line+"\r\n", "", 1) }
	tests := []struct{ name, text, want string }{
		{"nothing", "", `no line "version"`},
		{"no version", without("version: STSv1"), `no line "version"`},
		{"no mode", without("mode: enforce"), `no line "mode"`},
		{"no max_age", without("max_age: 604800"), `no line "max_age"`},
		{"no mx", "version: STSv1\nmode: testing\nmax_age: 1\n", `no line "mx"`},
		{"another version", strings.Replace(published, "STSv1", "STSv2", 1), `line 1 of the MTA-STS policy: version "STSv2"`},
		{"the version in lower case", strings.Replace(published, "STSv1", "stsv1", 1), `"stsv1"`},
		{"another mode", strings.Replace(published, "enforce", "report", 1), `mode "report"`},
		{"the mode in upper case", strings.Replace(published, "enforce", "Enforce", 1), `mode "Enforce"`},
		{"max_age of eleven digits", strings.Replace(published, "604800", "00000604800", 1), "1 to 10 digits"},
		{"max_age below zero", strings.Replace(published, "604800", "-1", 1), "1 to 10 digits"},
		{"max_age with a plus", strings.Replace(published, "604800", "+1", 1), "1 to 10 digits"},
		{"max_age with a unit", strings.Replace(published, "604800", "7d", 1), "1 to 10 digits"},
		{"max_age that is empty", strings.Replace(published, "604800", "", 1), "1 to 10 digits"},
		{"max_age with an underscore", strings.Replace(published, "604800", "604_800", 1), "1 to 10 digits"},
		{"mx with a second colon", with("mx: a.example:25"), `line 5 of the MTA-STS policy: mx "a.example:25"`},
		{"mx that is empty", with("mx:"), `mx ""`},
		{"mx that is a star", with("mx: *"), `mx "*"`},
		{"mx that is a star and a dot", with("mx: *."), `mx "*."`},
		{"mx with a star in a label", with("mx: mx*.example.com"), "mx*"},
		{"mx with a star inside", with("mx: mx.*.example.com"), "mx.*"},
		{"mx with two stars", with("mx: *.*.example.com"), "*.*"},
		{"mx with a dot in front", with("mx: .example.com"), ".example"},
		{"mx that is an address literal", with("mx: [192.0.2.1]"), "[192"},
		{"mx with two names", with("mx: a.example, b.example"), "a.example, b"},
		{"no colon", with("hello"), "line 5 of the MTA-STS policy: it is not a name"},
		{"white space before the colon", with("note : x"), "not a name"},
		{"white space in front", with(" note: x"), "not a name"},
		{"HTML", "<!DOCTYPE html>\n<html>\n", "line 1 of the MTA-STS policy: it is not a name"},
		{"a byte order mark", "\ufeff" + published, "line 1"},
		{"a control character", with("note: a\x00b"), "control"},
		{"a bare CR", with("note: a\rb"), "control"},
		{"no UTF-8", with("note: \xff"), "UTF-8"},
		{"a name of 33 octets", with(strings.Repeat("n", 33) + ": x"), "not a name"},
		{"too large", published + strings.Repeat("note: x\n", 8192), "more than 65536 octets"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Parse([]byte(test.text))
			if p != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "smtp: ") {
				t.Errorf("%s, %v; want an error with %q", describe(p), err, test.want)
			}
		})
	}
}

func TestX05_Matches(t *testing.T) {
	tests := []struct {
		name, pattern, host string
		want                bool
	}{
		// The first three are in RFC 8461 section 4.1.
		{"X05 one label in place of the star", "*.example.com", "mail.example.com", true},
		{"X05 no label in place of the star", "*.example.com", "example.com", false},
		{"X05 two labels in place of the star", "*.example.com", "foo.bar.example.com", false},
		{"X05 the name", "mail.example.com", "mail.example.com", true},
		{"X05 another name", "mail.example.com", "mail2.example.com", false},
		{"X05 a name below", "example.com", "mail.example.com", false},
		{"X05 a name that ends so", "example.com", "badexample.com", false},
		{"X05 a name that ends so behind a star", "*.example.com", "mail.badexample.com", false},
		{"X05 case", "Mail.EXAMPLE.com", "mAIL.example.COM", true},
		{"X05 a dot at the end of the host", "mail.example.com", "mail.example.com.", true},
		{"X05 a dot at the end of the pattern", "*.example.com.", "mail.example.com", true},
		{"X05 a pattern in U-labels, a host in A-labels", "mx.münchen.example", "mx.xn--mnchen-3ya.example", true},
		{"X05 a wildcard in U-labels, a host in A-labels", "*.münchen.example", "mx.xn--mnchen-3ya.example", true},
		{"X05 a pattern in A-labels, a host in U-labels", "*.xn--mnchen-3ya.example", "mx.MÜNCHEN.example", true},
		{"X05 a label that is an A-label", "*.example.com", "xn--mnchen-3ya.example.com", true},
		{"X05 a star in the host", "*.example.com", "*.example.com", false},
		{"X05 no host", "*.example.com", "", false},
		{"X05 the root", "*.example.com", ".", false},
		{"X05 an empty label", "*.example.com", ".example.com", false},
		{"X05 a broken pattern", "*.*.com", "a.example.com", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := &Policy{Mode: Enforce, MX: []string{"other.example", test.pattern}}
			if got := p.Matches(test.host); got != test.want {
				t.Errorf("%q matches %q: %v", test.pattern, test.host, got)
			}
		})
	}
}

// TestLines has the policy of RFC 8460 appendix B.
func TestLines(t *testing.T) {
	p, err := Parse([]byte("max_age: 86400\nversion: STSv1\nmx: *.Mail.company-y.example\nmode: testing\nnote: x\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"}
	if got := p.Lines(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzParse checks that a policy is what its own lines say, and that it fits the limits.
func FuzzParse(f *testing.F) {
	f.Add([]byte(published))
	f.Add([]byte("version: STSv1\nmode: none\nmax_age: 0\n"))
	f.Add([]byte("version:STSv1\r\nmode:testing \r\nmx:*.bücher.example.\r\nmx:a\r\nmax_age:9999999999\r\nx:y\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			if p != nil {
				t.Error("a policy and an error")
			}
			return
		}
		if p.MaxAge < 0 || p.MaxAge > 31557600*time.Second || p.Mode != None && len(p.MX) == 0 {
			t.Errorf("%s", describe(p))
		}
		again, err := Parse([]byte(strings.Join(p.Lines(), "\r\n")))
		if err != nil || describe(again) != describe(p) {
			t.Errorf("%s became %s, %v", describe(p), describe(again), err)
		}
		for _, pattern := range p.MX {
			host := strings.Replace(pattern, "*", "mx", 1)
			if len(host) <= 253 && !p.Matches(host) {
				t.Errorf("%q does not match %q", host, pattern)
			}
			if strings.Contains(strings.TrimPrefix(pattern, "*."), "*") || strings.ToLower(pattern) != pattern {
				t.Errorf("pattern %q", pattern)
			}
		}
	})
}
