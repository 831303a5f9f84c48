package proto_test

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"smtpkit.example/smtp/proto"
)

func TestParseDomain(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	max := strings.Repeat(label63+".", 3) + label63 // 255
	for _, test := range []struct {
		row, in string
		ascii   string // "" if it is to be refused
	}{
		{"D12", "example.org", "example.org"},
		{"D12 case", "ExAmPlE.ORG", "ExAmPlE.ORG"},
		{"D12 one label", "localhost", "localhost"},
		{"D12 digits", "3com.1.2", "3com.1.2"},
		{"D12 hyphens", "a--b.c-d", "a--b.c-d"},
		{"D12 leading hyphen", "-a.example", ""},
		{"D12 trailing hyphen", "a-.example", ""},
		{"D12 lone hyphen", "a.-", ""},
		{"D12 underscore", "a_b.example", ""},
		{"D12, Z142 label 63", label63 + ".example", label63 + ".example"},
		{"D12, Z142 label 64", label63 + "a.example", ""},
		{"D13, Z142 domain 255", max, max},
		{"D13, Z142 domain 256", max + "a", ""},
		{"D13, Z142 127 labels", strings.Repeat("a.", 127) + "a", strings.Repeat("a.", 127) + "a"},
		{"D13, Z142 129 labels", strings.Repeat("a.", 128) + "a", ""},
		{"D17", "example.org.", ""},
		{"D12 leading dot", ".example.org", ""},
		{"D12 two dots", "example..org", ""},
		{"D12 dot", ".", ""},
		{"D12 empty", "", ""},
		{"D12 space", "exa mple.org", ""},
		{"D12 leading space", " example.org", ""},
		{"D10 comment", "example(c).org", ""},
		{"D16", "#1234", ""},
		{"e.6-102", "x\r\nMAIL FROM:<e@v>", ""},
		{"e.6-100 NUL", "exam\x00ple.org", ""},
		{"D12 DEL", "exam\x7fple.org", ""},
		{"Z144", "b%c", ""},
		{"D14 v4", "[192.0.2.1]", "[192.0.2.1]"},
		{"D14 v4 zero", "[0.0.0.0]", "[0.0.0.0]"},
		{"D14 v4 max", "[255.255.255.255]", "[255.255.255.255]"},
		{"D14 v4 256", "[192.0.2.256]", ""},
		{"D14 v4 leading zeros", "[192.000.002.001]", ""},
		{"D14 v4 five", "[1.2.3.4.5]", ""},
		{"D14 v4 space", "[ 1.2.3.4]", ""},
		{"Z143 short", "[127.1]", ""},
		{"Z143 hex", "[0x7f.1]", ""},
		{"Z143 open", "[1.2.3.4", ""},
		{"Z143 bracket", "[", ""},
		{"Z143 after", "[1.2.3.4]x", ""},
		{"Z143 twice", "[1.2.3.4]]", ""},
		{"Z143 empty", "[]", ""},
		{"D15", "[foo:bar]", ""},
		{"D15 x", "[x-foo:bar]", ""},
		{"D14 v6", "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"},
		{"D14 v6 tag in any case", "[iPV6:2001:db8::1]", "[IPv6:2001:db8::1]"},
		{"D14 v6 full", "[IPv6:2001:0DB8:0:0:0:0:0:1]", "[IPv6:2001:db8::1]"},
		{"D14 v6 loopback", "[IPv6:::1]", "[IPv6:::1]"},
		{"D14 v6 any", "[IPv6:::]", "[IPv6:::]"},
		{"D14 v6 six groups", "[IPv6:1:2:3:4:5:6::]", "[IPv6:1:2:3:4:5:6::]"},
		{"D14 v6 seven groups", "[IPv6:1:2:3:4:5:6:7::]", ""},
		{"D14 v6 seven groups in the middle", "[IPv6:1:2:3::5:6:7:8]", ""},
		{"D14 v6 mapped", "[IPv6:::ffff:1.2.3.4]", "[IPv6:::ffff:1.2.3.4]"},
		{"D14 v6v4 full", "[IPv6:1:2:3:4:5:6:1.2.3.4]", "[IPv6:1:2:3:4:5:6:102:304]"},
		{"D14 v6v4 four groups", "[IPv6:1:2:3:4::1.2.3.4]", "[IPv6:1:2:3:4::102:304]"},
		{"D14 v6v4 five groups", "[IPv6:1:2:3:4:5::1.2.3.4]", ""},
		{"D14 v6 two gaps", "[IPv6:1::2::3]", ""},
		{"D14 v6 five digits", "[IPv6:12345::]", ""},
		{"D14 v6 zone", "[IPv6:fe80::1%eth0]", ""},
		{"D14 v6 zone escaped", "[IPv6:fe80::1%25lo]", ""},
		{"D14 v6 without tag", "[2001:db8::1]", ""},
		{"D14 v4 with tag", "[IPv6:192.0.2.1]", ""},
		{"D14 v6 empty", "[IPv6:]", ""},
		{"B24", "münchen.example", "xn--mnchen-3ya.example"},
		{"S07 case is mapped", "MÜNCHEN.Example", "xn--mnchen-3ya.example"},
		{"S07 decomposed", "mu\u0308nchen.example", "xn--mnchen-3ya.example"},
		{"S07 sharp s", "straße.example", "xn--strae-oqa.example"},
		{"S07 cyrillic", "пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"},
		{"S07 U-label longer than 63 octets", strings.Repeat("и", 40) + ".example", "xn--h1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example"},
		{"D13 A-labels of more than 255 octets", strings.Repeat("ü.", 80) + "x", ""},
		{"Z148 opaque", "xn--zzz.example", "xn--zzz.example"},
		{"Z148 opaque, not punycode", "xn--a-.example", ""},
		{"Z146 U+3002", "mü\u3002example", ""},
		{"Z146 U+FF0E", "mü\uff0eexample", ""},
		{"Z146 U+FF61", "mü\uff61example", ""},
		{"Z146 U+2024", "mü\u2024example", ""},
		{"Z146 U+2488", "mü\u2488example", ""},
		{"Z146 U+202E", "mü\u202eexample", ""},
		{"Z146 ZWJ", "mü\u200dexample", ""},
		{"Z146 mixed directions", "aא.example", ""},
		{"Z147 U+FF20", "mü\uff20example", ""},
		{"Z147 U+FF1E", "mü\uff1eexample", ""},
		{"D12 fullwidth underscore", "mü\uff3fb.example", ""},
		{"D12 underscore beside U-label", "a_b.mü", ""},
		{"D17 U-label", "mü.", ""},
		{"D20 C1", "m\u0085", ""},
		{"S08 overlong", "m\xc0\xaf", ""},
		{"S08 surrogate", "m\xed\xa0\x80", ""},
		{"S08 beyond", "m\xf4\x90\x80\x80", ""},
		{"S08 lone", "m\x80", ""},
	} {
		t.Run(test.row, func(t *testing.T) {
			d, err := proto.ParseDomain(test.in)
			if test.ascii == "" {
				if err == nil {
					t.Fatalf("%q was accepted as %q", test.in, d)
				}
				if !strings.HasPrefix(err.Error(), "smtp: ") || strings.ContainsAny(err.Error(), "\r\n\x00") {
					t.Errorf("error %q: not fit to be shown", err)
				}
				if !d.IsZero() {
					t.Errorf("with the error came %v", d)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.ASCII() != test.ascii || d.IsZero() {
				t.Errorf("ASCII %q, want %q", d.ASCII(), test.ascii)
			}
			if literal := test.in[0] == '['; literal != d.Addr().IsValid() || literal != (d.Name() == "") {
				t.Errorf("name %q, address %v", d.Name(), d.Addr())
			} else if !literal && (d.Name() != test.in || d.String() != test.in) {
				t.Errorf("name %q, string %q, want both as given", d.Name(), d)
			}
		})
	}
}

func TestDomainAddr(t *testing.T) {
	for _, test := range []struct{ addr, want string }{
		{"192.0.2.1", "[192.0.2.1]"},
		{"2001:db8::1", "[IPv6:2001:db8::1]"},
		{"::ffff:192.0.2.1", "[192.0.2.1]"}, // B17
		{"fe80::1%eth0", "[IPv6:fe80::1]"},
	} {
		d := proto.AddrLiteral(netip.MustParseAddr(test.addr))
		if d.String() != test.want || d.ASCII() != test.want || d.Name() != "" {
			t.Errorf("literal of %s: %q, %q, name %q", test.addr, d, d.ASCII(), d.Name())
		}
		back, err := proto.ParseDomain(test.want)
		if err != nil || back != d {
			t.Errorf("%s parses as %v, %v", test.want, back, err)
		}
	}
	if d := proto.AddrLiteral(netip.Addr{}); !d.IsZero() || d.String() != "" || d.ASCII() != "" {
		t.Errorf("literal of no address: %q", d)
	}
}

func mustDomain(t testing.TB, s string) proto.Domain {
	t.Helper()
	d, err := proto.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDomainEqual(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"example.org", "EXAMPLE.org", true},
		{"example.org", "example.com", false},
		{"münchen.example", "xn--mnchen-3ya.EXAMPLE", true},
		{"münchen.example", "MÜNCHEN.example", true},
		{"münchen.example", "munchen.example", false},
		{"[192.0.2.1]", "[192.0.2.1]", true},
		{"[192.0.2.1]", "[192.0.2.2]", false},
		{"[IPv6:1::2]", "[ipv6:1:0:0:0:0:0:0:2]", true},
		{"[192.0.2.1]", "192.0.2.1", false},
	} {
		a, b := mustDomain(t, test.a), mustDomain(t, test.b)
		if a.Equal(b) != test.want || b.Equal(a) != test.want {
			t.Errorf("%v equal to %v: %v, want %v", a, b, !test.want, test.want)
		}
		if (proto.Domain{}).Equal(a) {
			t.Errorf("%v equals no domain", a)
		}
	}
	if !(proto.Domain{}).Equal(proto.Domain{}) {
		t.Error("no domain does not equal itself")
	}
}

func FuzzParseDomain(f *testing.F) {
	for _, s := range []string{
		"example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[IPv6:::ffff:1.2.3.4]", "münchen.example", "xn--zzz.example",
		"a_b", "a..b", "[IPv6:1::2::3]", "mü\u3002example", "[1:2]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := proto.ParseDomain(s)
		if ascii := isASCII(s); ascii && (err == nil) != inGrammar(grammarDomain, s) {
			t.Fatalf("%q: error %v, but in the grammar: %v", s, err, err != nil)
		}
		if err != nil {
			return
		}
		if !utf8.ValidString(s) || !inGrammar(grammarDomain, d.ASCII()) {
			t.Fatalf("%q was accepted, and is %q in ASCII", s, d.ASCII())
		}
		for _, form := range []string{d.String(), d.ASCII()} {
			if again, err := proto.ParseDomain(form); err != nil || !again.Equal(d) {
				t.Fatalf("%q is printed as %q, which is %v, %v", s, form, again, err)
			}
		}
		if again := mustDomain(t, d.String()); again != d {
			t.Fatalf("%q is printed as %q, which is %v", s, d, again)
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// TestDomainKey has keys as programs write them down.
func TestDomainKey(t *testing.T) {
	for in, want := range map[string]string{
		"Example.ORG":              "example.org",
		"MÜNCHEN.example":          "xn--mnchen-3ya.example",
		"XN--mnchen-3ya.EXAMPLE":   "xn--mnchen-3ya.example",
		"[192.0.2.1]":              "[192.0.2.1]",
		"[ipv6:2001:DB8:0:0::0:1]": "[ipv6:2001:db8::1]",
	} {
		d := mustDomain(t, in)
		key, err := proto.ParseDomain(d.Key())
		if err != nil || !key.Equal(d) {
			t.Errorf("the key of %v parses as %v, %v", d, key, err)
		}
		if got := d.Key(); got != want {
			t.Errorf("the key of %v is %q, want %q", d, got, want)
		}
	}
	if got := (proto.Domain{}).Key(); got != "" {
		t.Errorf("the key of no domain is %q", got)
	}
}

func FuzzDomainKey(f *testing.F) {
	f.Add("example.org", "EXAMPLE.org")
	f.Add("münchen.example", "xn--MNCHEN-3ya.example")
	f.Add("[IPv6:1::2]", "[ipv6:1:0:0:0:0:0:0:2]")
	f.Add("straße.example", "strasse.example")
	f.Fuzz(func(t *testing.T, s, u string) {
		d, err1 := proto.ParseDomain(s)
		e, err2 := proto.ParseDomain(u)
		if err1 != nil || err2 != nil {
			return
		}
		if (d.Key() == e.Key()) != d.Equal(e) {
			t.Fatalf("the keys of %v and %v are %q and %q, but equal is %t", d, e, d.Key(), e.Key(), d.Equal(e))
		}
	})
}
