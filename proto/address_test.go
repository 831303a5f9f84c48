package proto_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"smtpkit.example/smtp/proto"
)

func mustAddress(t testing.TB, s string) proto.Address {
	t.Helper()
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestParseAddress(t *testing.T) {
	local64 := strings.Repeat("l", 64)
	long := strings.Repeat(strings.Repeat("d", 62)+".", 3) // 189
	for _, test := range []struct {
		row, in     string
		local, text string // text "" if it is to be refused
	}{
		{"D05", "FoO@ExAmple", "FoO", "FoO@ExAmple"},
		{"D06", "a.b.c@d", "a.b.c", "a.b.c@d"},
		{"D06 leading", ".a@b", "", ""},
		{"D06 trailing", "a.@b", "", ""},
		{"D06 double", "a..b@c", "", ""},
		{"D06 dot", ".@c", "", ""},
		{"D07", `"a>b @c"@d`, "a>b @c", `"a>b @c"@d`},
		{"D07 pairs", `"a\"b\\c"@d`, `a"b\c`, `"a\"b\\c"@d`},
		{"D07 part", `"a".b@c`, "", ""},
		{"D07 open", `"a@b`, "", ""},
		{"D07 open pair", `"a\`, "", ""},
		{"D07 text after", `"a"b@c`, "", ""},
		{"D08 pair of LF", "\"a\\\n\"@d", "", ""},
		{"D08 pair of DEL", "\"a\\\x7f\"@d", "", ""},
		{"D08 pair of UTF-8", `"a\ü"@d`, "", ""},
		{"D08 space", `"a\ b"@d`, "a b", `"a b"@d`},
		{"D09", `"joe"@x`, "joe", "joe@x"},
		{"D09 pairs", `"\j\o\e"@x`, "joe", "joe@x"},
		{"D09 dots", `"a.b"@x`, "a.b", "a.b@x"},
		{"D09 odd dots", `".a."@x`, ".a.", `".a."@x`},
		{"D10", "a(c)@b", "", ""},
		{"D13, Z142 local 64", local64 + "@d", local64, local64 + "@d"},
		{"D13, Z142 local 65", local64 + "l@d", "", ""},
		{"D13, Z142 local 1000", strings.Repeat("l", 1000) + "@d", "", ""},
		{"D13, Z142 local 64 quoted", `"` + local64 + `"@d`, local64, local64 + "@d"},
		{"D13, Z142 mailbox 254", local64 + "@" + long, "", ""},
		{"D13, Z142 mailbox 254", local64[:55] + "@" + long + "example.x", local64[:55], local64[:55] + "@" + long + "example.x"},
		{"D13, Z142 mailbox 255", local64[:56] + "@" + long + "example.x", "", ""},
		{"D18", `""@d`, "", ""},
		{"D19 U-label", "a@münchen.example", "a", "a@münchen.example"},
		{"D19 not NFC", "u\u0308@d", "u\u0308", "u\u0308@d"},
		{"D20", "用户@例子.广告", "用户", "用户@例子.广告"},
		{"D20 quoted", `"ü ü"@d`, "ü ü", `"ü ü"@d`},
		{"Z147 U+FF20", "a＠b@c", "a＠b", "a＠b@c"},
		{"Z147 U+FF20 alone", "a＠b", "", ""},
		{"S08 local", "\xc0\x80@d", "", ""},
		{"S08 quoted", "\"\xed\xa0\x80\"@d", "", ""},
		{"S08 domain", "a@\xf5", "", ""},
		{"e.6-100", "a@b>\r\nRCPT TO:<evil@x", "", ""},
		{"e.6-101", "\"a\r\nDATA\r\nx\"@b", "", ""},
		{"e.6-104", "\u760d\u760aRCPT TO:<e@v>", "", ""},
		{"e.6-104 local", "\u760d\u760a@v", "\u760d\u760a", "\u760d\u760a@v"},
		{"e.6 NUL", "a\x00b@c", "", ""},
		{"e.6 NUL in quotes", "\"a\x00b\"@c", "", ""},
		{"e.6 DEL in quotes", "\"a\x7fb\"@c", "", ""},
		{"Z140 quoted at", `"a@evil.example"@good.example`, "a@evil.example", `"a@evil.example"@good.example`},
		{"Z140 two ats", "a@b@c", "", ""},
		{"Z144 percent", "a%b@c", "a%b", "a%b@c"},
		{"Z144 bang", "a!b@c", "a!b", "a!b@c"},
		{"Z149", "`$a|b`@c", "`$a|b`", "`$a|b`@c"},
		{"Z149 semicolon", ";cmd;@c", "", ""},
		{"D14", "a@[192.0.2.1]", "a", "a@[192.0.2.1]"},
		{"D03", "@a,@b:c@d", "", ""},
		{"empty", "", "", ""},
		{"at", "@", "", ""},
		{"no domain", "a", "", ""},
		{"no domain, at", "a@", "", ""},
		{"no local", "@b", "", ""},
		{"NUL for an end", "postmaster\x00", "", ""},
		{"postmaster", "postmaster", "", ""},
		{"brackets", "<a@b>", "", ""},
		{"null", "<>", "", ""},
		{"display name", "A <a@b>", "", ""},
		{"space before", " a@b", "", ""},
		{"space after", "a@b ", "", ""},
		{"TAB", "a\t@b", "", ""},
	} {
		t.Run(test.row, func(t *testing.T) {
			a, err := proto.ParseAddress(test.in)
			if test.text == "" {
				if err == nil {
					t.Fatalf("%q was accepted as %q", test.in, a)
				}
				if !strings.HasPrefix(err.Error(), "smtp: ") || strings.ContainsAny(err.Error(), "\r\n\x00") {
					t.Errorf("error %q: not fit to be shown", err)
				}
				if !a.IsNull() {
					t.Errorf("with the error came %v", a)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.Local != test.local || a.String() != test.text {
				t.Errorf("%q: local part %q, string %q, want %q and %q", test.in, a.Local, a, test.local, test.text)
			}
			if a.IsASCII() != isASCII(test.local) || a.IsNull() {
				t.Errorf("%q: ASCII %v, null %v", test.in, a.IsASCII(), a.IsNull())
			}
			path, err := a.AppendPath([]byte("x"), true)
			if err != nil || string(path) != "x<"+test.text+">" {
				t.Errorf("path %q, %v", path, err)
			}
		})
	}
}

// TestParseAddressHint: those who give a path where a mailbox is wanted are told what to do.
func TestParseAddressHint(t *testing.T) {
	_, err := proto.ParseAddress("<a@b>")
	if err == nil || !strings.Contains(err.Error(), "without the angle brackets") {
		t.Errorf("error %v", err)
	}
}

// RFC 5322 section 3.2.3: the characters of an atom.
const atext = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~"

// TestD11_Atext is row D11: which octets a local part can have without quotes, with them, and written from an Address.
func TestD11_Atext(t *testing.T) {
	d := mustDomain(t, "d")
	for c := range 256 {
		octet := string([]byte{byte(c)})
		atom := strings.Contains(atext, octet)
		_, err := proto.ParseAddress("x" + octet + "x@d")
		if (err == nil) != (atom || octet == ".") {
			t.Errorf("%q without quotes: %v", octet, err)
		}
		_, err = proto.ParseAddress(`"x` + octet + `ü"@d`) // behind a backslash ü is an error
		if want := c >= 32 && c <= 126 && c != '"' && c != '\\'; (err == nil) != want {
			t.Errorf("%q in quotes: %v", octet, err)
		}
		_, err = proto.ParseAddress(`"x\` + octet + `x"@d`)
		if want := c >= 32 && c <= 126; (err == nil) != want {
			t.Errorf("%q behind a backslash: %v", octet, err)
		}
		path, err := proto.Address{Local: octet, Domain: d}.AppendPath(nil, true)
		want := "<" + octet + "@d>"
		switch {
		case octet == `"` || octet == `\`:
			want = `<"\` + octet + `"@d>`
		case c < 32 || c > 126:
			want = ""
		case !atom:
			want = `<"` + octet + `"@d>`
		}
		if string(path) != want || (err == nil) != (want != "") {
			t.Errorf("local part %q is written as %q, %v; want %q", octet, path, err, want)
		}
	}
}

func TestAppendPath(t *testing.T) {
	d, u := mustDomain(t, "d.example"), mustDomain(t, "münchen.example")
	long := mustDomain(t, strings.Repeat(strings.Repeat("d", 62)+".", 3)+"example.x") // 198
	grows := mustDomain(t, strings.Repeat("ü.", 30)+"x")                              // 91 octets, 241 with A-labels
	for _, test := range []struct {
		row         string
		a           proto.Address
		utf8, ascii string // "" for an error
	}{
		{"null", proto.Address{}, "<>", "<>"},
		{"D02", proto.Address{Local: "PostMaster"}, "<PostMaster>", "<PostMaster>"},
		{"no domain", proto.Address{Local: "joe"}, "", ""},
		{"U+017F is not an s", proto.Address{Local: "po\u017ftmaster"}, "", ""},
		{"no local part", proto.Address{Domain: d}, "", ""},
		{"D09", proto.Address{Local: "joe", Domain: d}, "<joe@d.example>", "<joe@d.example>"},
		{"S10", proto.Address{Local: "joe", Domain: u}, "<joe@münchen.example>", "<joe@xn--mnchen-3ya.example>"},
		{"S10 local", proto.Address{Local: "jöe", Domain: d}, "<jöe@d.example>", ""},
		{"CVE-2025-59937", proto.Address{Local: "a> NOTIFY=NEVER", Domain: d}, `<"a> NOTIFY=NEVER"@d.example>`, `<"a> NOTIFY=NEVER"@d.example>`},
		{"quoted quote", proto.Address{Local: `"x"`, Domain: d}, `<"\"x\""@d.example>`, `<"\"x\""@d.example>`},
		{"D21 CRLF", proto.Address{Local: "a\r\nDATA", Domain: d}, "", ""},
		{"D21 CR", proto.Address{Local: "a\r", Domain: d}, "", ""},
		{"D21 LF", proto.Address{Local: "a\n", Domain: d}, "", ""},
		{"D21 NUL", proto.Address{Local: "a\x00", Domain: d}, "", ""},
		{"D21 TAB", proto.Address{Local: "a\t", Domain: d}, "", ""},
		{"D21 DEL", proto.Address{Local: "a\x7f", Domain: d}, "", ""},
		{"D22", proto.Address{Local: "\u760d\u760a", Domain: d}, "<\u760d\u760a@d.example>", ""},
		{"S08", proto.Address{Local: "\xed\xa0\x80", Domain: d}, "", ""},
		{"D13, Z142 local 65", proto.Address{Local: strings.Repeat("l", 65), Domain: d}, "", ""},
		{"D13 path 256", proto.Address{Local: strings.Repeat("l", 55), Domain: long}, "<" + strings.Repeat("l", 55) + "@" + long.Name() + ">", "<" + strings.Repeat("l", 55) + "@" + long.Name() + ">"},
		{"D13 path 257", proto.Address{Local: strings.Repeat("l", 56), Domain: long}, "", ""},
		{"D13 path 257 with A-labels", proto.Address{Local: "llllllllllllll", Domain: grows}, "<llllllllllllll@" + grows.Name() + ">", ""},
		{"lax dots", proto.Address{Local: "a..b.", Domain: d}, `<"a..b."@d.example>`, `<"a..b."@d.example>`},
	} {
		t.Run(test.row, func(t *testing.T) {
			for _, c := range []struct {
				utf8 bool
				want string
			}{{true, test.utf8}, {false, test.ascii}} {
				dst := append(make([]byte, 0, 512), "MAIL FROM:"...)
				out, err := test.a.AppendPath(dst, c.utf8)
				if (err == nil) != (c.want != "") || string(out) != "MAIL FROM:"+c.want {
					t.Errorf("UTF-8 %v: %q, %v; want %q", c.utf8, out, err, c.want)
				}
				if err != nil && (!strings.HasPrefix(err.Error(), "smtp: ") || strings.ContainsAny(err.Error(), "\r\n\x00\x7f")) {
					t.Errorf("error %q: not fit to be shown", err)
				}
			}
		})
	}
}

func TestAddressString(t *testing.T) {
	d := mustDomain(t, "d")
	for _, test := range []struct {
		a    proto.Address
		want string
	}{
		{proto.Address{}, ""},
		{proto.Address{Local: "Postmaster"}, "Postmaster"},
		{proto.Address{Local: "a\r\nb", Domain: d}, "a\ufffd\ufffdb@d"},
		{proto.Address{Local: "a\xff\"\n", Domain: d}, "\"a\ufffd\\\"\ufffd\"@d"},
		{proto.Address{Domain: d}, `""@d`},
	} {
		got := test.a.String()
		if got != test.want {
			t.Errorf("%#v is %q, want %q", test.a, got, test.want)
		}
		if strings.ContainsAny(got, "\r\n") || !utf8.ValidString(got) {
			t.Errorf("%q is not fit to be shown", got)
		}
	}
}

func TestAddressEqual(t *testing.T) {
	for _, test := range []struct {
		row, a, b string
		want      bool
	}{
		{"D05 domain", "joe@example.org", "joe@EXAMPLE.ORG", true},
		{"D05 local part", "joe@example.org", "Joe@example.org", false},
		{"D09", `"joe"@x`, "joe@x", true},
		{"D19 not normalized", "u\u0308@x", "ü@x", false},
		{"S07", "joe@münchen.example", "joe@xn--mnchen-3ya.example", true},
		{"D02", "postmaster@x", "PostMaster@x", true},
		{"D02 elsewhere", "postmaster@x", "postmaster@y", false},
		{"D02 U+017F is not an s", "postmaster@x", "po\u017ftmaster@x", false},
	} {
		a, b := mustAddress(t, test.a), mustAddress(t, test.b)
		if a.Equal(b) != test.want || b.Equal(a) != test.want {
			t.Errorf("%s: %v equal to %v: %v", test.row, a, b, !test.want)
		}
	}
	p, q := proto.Address{Local: "postmaster"}, proto.Address{Local: "POSTMASTER"}
	if !p.Equal(q) || p.Equal(proto.Address{}) || p.Equal(mustAddress(t, "postmaster@x")) {
		t.Error("the domainless postmaster equals itself in any case, and nobody else")
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"a@b", `"a> NOTIFY=NEVER"@x`, `"a\"\\b"@[192.0.2.1]`, "用户@例子.广告", "a@b>\r\nRCPT TO:<evil@x", "a..b@c", `""@d`, "a%b!c@d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := proto.ParseAddress(s)
		if isASCII(s) && (err == nil) != inGrammar(grammarMailbox, s) {
			t.Fatalf("%q: error %v, but in the grammar: %v", s, err, err != nil)
		}
		if err != nil {
			return
		}
		if again, err := proto.ParseAddress(a.String()); err != nil || again != a {
			t.Fatalf("%q is printed as %q, which is %v, %v", s, a, again, err)
		}
		if path, err := a.AppendPath(nil, true); err != nil || string(path) != "<"+a.String()+">" {
			t.Fatalf("%q is printed as %q, but written as %q, %v", s, a, path, err)
		}
	})
}

func TestAddressAllocs(t *testing.T) {
	buf := make([]byte, 0, 512)
	for _, s := range []string{"user@example.org", `"a b"@[192.0.2.1]`, "ü@example.org"} {
		a := mustAddress(t, s)
		if n := testing.AllocsPerRun(100, func() { buf, _ = a.AppendPath(buf[:0], true) }); n != 0 {
			t.Errorf("writing %s costs %v allocations", s, n)
		}
		if n := testing.AllocsPerRun(100, func() { a, _ = proto.ParseAddress(s) }); n != 0 {
			t.Errorf("parsing %s costs %v allocations", s, n)
		}
	}
}

// TestAddressKey has keys as programs write them down.
func TestAddressKey(t *testing.T) {
	for _, test := range []struct {
		row  string
		a    proto.Address
		want string
	}{
		{"null", proto.Address{}, ""},
		{"D02", proto.Address{Local: "PostMaster"}, "postmaster"},
		{"D02 with a domain", mustAddress(t, "POSTMASTER@Example.org"), "postmaster@example.org"},
		{"D05", mustAddress(t, "Joe@EXAMPLE.org"), "Joe@example.org"},
		{"D09", mustAddress(t, `"joe"@x`), "joe@x"},
		{"D07", mustAddress(t, `"a>b @c"@d`), "a>b @c@d"},
		{"D14", mustAddress(t, "a@[192.0.2.1]"), "a@[192.0.2.1]"},
		{"S07", mustAddress(t, "jörg@MÜNCHEN.example"), "jörg@xn--mnchen-3ya.example"},
	} {
		if got := test.a.Key(); got != test.want {
			t.Errorf("%s: the key of %v is %q, want %q", test.row, test.a, got, test.want)
		}
	}
}

// TestAddressKeyIsEquality compares random addresses: their keys are the same exactly where they are Equal. The parts
// are few, so that many pairs are equal, and such that wrong joints would show.
func TestAddressKeyIsEquality(t *testing.T) {
	locals := []string{
		"", "joe", "Joe", "postmaster", "POSTmaster", "po\u017ftmaster", "postmaster@", "joe@x", "joe@x.example", "a@b", "@", "ü", "u\u0308", `"joe"`,
	}
	domains := []proto.Domain{{}}
	for _, s := range []string{
		"x", "X", "x.example", "X.Example", "b", "münchen.example", "MÜNCHEN.EXAMPLE", "xn--mnchen-3ya.example", "XN--MNCHEN-3YA.example",
		"[192.0.2.1]", "192.0.2.1", "[IPv6:::ffff:192.0.2.1]", "[IPv6:1::2]", "[ipv6:1:0:0:0:0:0:0:2]",
	} {
		domains = append(domains, mustDomain(t, s))
	}
	equal := 0
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func() proto.Address {
		return proto.Address{Local: locals[rnd.IntN(len(locals))], Domain: domains[rnd.IntN(len(domains))]}
	}
	for range 100_000 {
		a, b := pick(), pick()
		if a.Equal(b) {
			equal++
		}
		if (a.Key() == b.Key()) != a.Equal(b) {
			t.Fatalf("the keys of %#v and %#v are %q and %q, but equal is %t", a, b, a.Key(), b.Key(), a.Equal(b))
		}
	}
	if equal < 1000 {
		t.Errorf("only %d pairs were equal", equal)
	}
}

func FuzzAddressKey(f *testing.F) {
	f.Add("joe", "example.org", "joe", "EXAMPLE.org")
	f.Add("joe@x", "", "joe", "x")
	f.Add("postmaster", "", "PostMaster", "")
	f.Add("", "", "", "x")
	f.Add("ü", "münchen.example", "ü", "xn--mnchen-3ya.example")
	f.Fuzz(func(t *testing.T, local1, domain1, local2, domain2 string) {
		d, _ := proto.ParseDomain(domain1) // with an error, the zero Domain
		e, _ := proto.ParseDomain(domain2)
		a, b := proto.Address{Local: local1, Domain: d}, proto.Address{Local: local2, Domain: e}
		if (a.Key() == b.Key()) != a.Equal(b) {
			t.Fatalf("the keys of %#v and %#v are %q and %q, but equal is %t", a, b, a.Key(), b.Key(), a.Equal(b))
		}
	})
}
