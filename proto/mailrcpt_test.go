package proto_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"smtpkit.example/smtp/proto"
)

// summary writes down what was parsed, or the reply.
func summary(a proto.Address, p proto.Params, err *proto.Error) string {
	if err != nil {
		return fmt.Sprintf("%d %d.%d.%d", err.Code, err.Status[0], err.Status[1], err.Status[2])
	}
	s := fmt.Sprintf("%q %s", a.Local, a.Domain)
	for _, param := range p {
		s += " " + param.Key
		if param.HasValue {
			s += "=" + param.Value
		}
	}
	return s
}

const (
	noKeyword = "501 5.5.2"
	badFrom   = "501 5.1.7"
	badTo     = "501 5.1.3"
	badUTF8   = "553 5.6.7"
	badParam  = "501 5.5.4"
)

func TestParseMailArgs(t *testing.T) {
	local64 := strings.Repeat("l", 64)
	route := strings.Repeat("@r,", 60)                          // 180
	for _, test := range []struct{ row, in, want, lax string }{ // lax "": the same
		{"D01", "FROM:<>", `"" `, ""},
		{"Z151 parameters", "FROM:<> SIZE=1 BODY=8BITMIME", `""  SIZE=1 BODY=8BITMIME`, ""},
		{"Z151 junk", "FROM:<>x", badFrom, ""},
		{"Z151 null twice", "FROM:<><>", badFrom, ""},
		{"C01", "fRoM:<a@b>", `"a" b`, ""},
		{"D02 sender", "FROM:<postmaster>", badFrom, ""},
		{"D03", "FROM:<@a,@b.c:u@d>", `"u" d`, ""},
		{"D05", "FROM:<FoO@ExAmple>", `"FoO" ExAmple`, ""},
		{"D06 leading", "FROM:<.a@b>", badFrom, `".a" b`},
		{"D06 trailing", "FROM:<a.@b>", badFrom, `"a." b`},
		{"D06 double", "FROM:<a..b@c>", badFrom, `"a..b" c`},
		{"D12 underscore", "FROM:<a@b_c.d>", badFrom, `"a" b_c.d`},
		{"D12 underscore in route", "FROM:<@b_c:a@d>", badFrom, `"a" d`},
		{"D17", "FROM:<a@b.>", badFrom, ""},
		{"D18", `FROM:<""@d>`, badFrom, ""},
		{"D13 path 256", "FROM:<" + route + "@r:" + local64 + "@exampl>", `"` + local64 + `" exampl`, ""},
		{"D13 path 257", "FROM:<" + route + "@rr:" + local64 + "@exampl>", badFrom, ""},
		{"D13 local 65", "FROM:<l" + local64 + "@example>", badFrom, ""},
		{"D19", "FROM:<ü@münchen.example>", `"ü" münchen.example`, ""},
		{"D20 C1", "FROM:<\u0085@d>", `"\u0085" d`, ""},
		{"S08 overlong", "FROM:<\xc0\xaf@d>", badUTF8, ""},
		{"S08 bad tail", "FROM:<\xe2\x28\xa1@d>", badUTF8, ""},
		{"S08 surrogate", "FROM:<\"\xed\xa0\x80\"@d>", badUTF8, ""},
		{"S08 beyond", "FROM:<a@\xf4\x90\x80\x80>", badUTF8, ""},
		{"S08 lone", "FROM:<@\x80:a@d>", badUTF8, ""},
		{"D23", "FROM:<a\rX: y@b>", badFrom, ""},
		{"C10 NUL", "FROM:<a\x00@b>", badFrom, ""},
		{"C10 LF in quotes", "FROM:<\"a\n\"@b>", badFrom, ""},
		{"C14 after colon", "FROM: <a@b>", badFrom, `"a" b`},
		{"C14 two after colon", "FROM:  <a@b> SIZE=1", badFrom, `"a" b SIZE=1`},
		{"C14 null", "FROM: <>", badFrom, `"" `},
		{"C14 before colon", "FROM :<a@b>", noKeyword, ""},
		{"C15", "FROM:a@b", badFrom, `"a" b`},
		{"C15 parameters", "FROM:a@b SIZE=1", badFrom, `"a" b SIZE=1`},
		{"C15 quoted", `FROM:"a b>"@c SIZE=1`, badFrom, `"a b>" c SIZE=1`},
		{"C15 opened", "FROM:<a@b", badFrom, ""},
		{"C15 opened, parameter", "FROM:<a@b SIZE=1", badFrom, ""},
		{"C15 closed", "FROM:a@b>", badFrom, ""},
		{"C15 nothing", "FROM:", badFrom, ""},
		{"C15 a space", "FROM: ", badFrom, ""},
		{"C26", "FROM:\t<a@b>", badFrom, ""},
		{"C26 parameter", "FROM:<a@b>\tSIZE=1", badFrom, ""},
		{"C26 between", "FROM:<a@b> SIZE=1\tX", badParam, ""},
		{"Z140 text after", "FROM:<a@b>c@d", badFrom, ""},
		{"Z140 two ats", "FROM:<a@b@c>", badFrom, ""},
		{"Z140 parameter stuck to it", "FROM:<a@b>SIZE=1", badFrom, ""},
		{"two paths", "FROM:<a@b> <c@d>", badParam, ""},
		{"comment behind", "FROM:<a@b> (c)", badParam, ""},
		{"display name", "FROM:A <a@b>", badFrom, ""},
		{"keyword alone", "FROM", noKeyword, ""},
		{"no keyword", "<a@b>", noKeyword, ""},
		{"nothing", "", noKeyword, ""},
		{"other keyword", "TO:<a@b>", noKeyword, ""},
		{"U+212A is not a K", "FR\u212aM:<a@b>", noKeyword, ""},
		{"C04 space at the end", "FROM:<a@b>  ", `"a" b`, ""},
		{"spaces between", "FROM:<a@b>  A   B=1 ", `"a" b A B=1`, ""},
		{"C19", "FROM:<a@b> size=5 Body=8bitmime", `"a" b size=5 Body=8bitmime`, ""},
		{"C16 unknown", "FROM:<a@b> X-2-y=!~", `"a" b X-2-y=!~`, ""},
		{"C17", "FROM:<a@b> SIZE SMTPUTF8=1", `"a" b SIZE SMTPUTF8=1`, ""},
		{"C17 empty value", "FROM:<a@b> SIZE=", badParam, ""},
		{"C18", "FROM:<a@b> SIZE=1 size=2", badParam, ""},
		{"C18 flag", "FROM:<a@b> A A", badParam, ""},
		{"C18 flag and value", "FROM:<a@b> A=1 a", badParam, ""},
		{"C18 U+017F is not an s", "FROM:<a@b> SIZE=1 \u017fize=2", badParam, ""},
		{"C20", "FROM:<a@b> FOO=a=b", badParam, ""},
		{"C20 CTL", "FROM:<a@b> FOO=a\x01", badParam, ""},
		{"C20 DEL", "FROM:<a@b> FOO=a\x7f", badParam, ""},
		{"C20 UTF-8", "FROM:<a@b> FOO=ü", `"a" b FOO=ü`, ""},
		{"C20 invalid UTF-8", "FROM:<a@b> FOO=\xff", badParam, ""},
		{"C20 no key", "FROM:<a@b> =1", badParam, ""},
		{"C20 key with hyphen first", "FROM:<a@b> -A=1", badParam, ""},
		{"C20 key with underscore", "FROM:<a@b> A_B=1", badParam, ""},
		{"C20 key in UTF-8", "FROM:<a@b> Ü=1", badParam, ""},
		{"R05 AUTH", "FROM:<a@b> AUTH=<>", `"a" b AUTH=<>`, ""},
	} {
		t.Run(test.row, func(t *testing.T) {
			checkParse(t, proto.ParseMailArgs, test.in, test.want, test.lax)
		})
	}
}

func checkParse(t *testing.T, parse func([]byte, bool) (proto.Address, proto.Params, *proto.Error), in, strict, lax string) {
	t.Helper()
	if lax == "" {
		lax = strict
	}
	for i, want := range []string{strict, lax} {
		a, p, err := parse([]byte(in), i == 1)
		if got := summary(a, p, err); got != want {
			t.Errorf("%q, lax %v: %s, want %s", in, i == 1, got, want)
		}
		if err != nil && (!a.IsNull() || p != nil || err.Text == "" || strings.ContainsFunc(err.Text, func(r rune) bool { return r < ' ' || r > '~' })) {
			t.Errorf("%q: refused with %q, %v, %v", in, err.Text, a, p)
		}
	}
}

func TestParseRcptArgs(t *testing.T) {
	for _, test := range []struct{ row, in, want, lax string }{
		{"D01", "TO:<>", badTo, ""},
		{"D01 lax", "TO: <>", badTo, ""},
		{"D02", "TO:<Postmaster>", `"Postmaster" `, ""},
		{"D02 any case", "to:<pOSTMASTER> A=1", `"pOSTMASTER"  A=1`, ""},
		{"D02 with domain", "TO:<Postmaster@b>", `"Postmaster" b`, ""},
		{"D02 domain forgotten", "TO:<Postmaster@>", badTo, ""},
		{"D02 route", "TO:<@a:Postmaster>", badTo, ""},
		{"D02 open", "TO:<Postmaster", badTo, ""},
		{"D02 open, parameter", "TO:<Postmaster A=1", badTo, ""},
		{"D02 junk", "TO:<Postmaster>x", badTo, ""},
		{"D02 without brackets", "TO:postmaster A=1", badTo, `"postmaster"  A=1`},
		{"D02 U+017F is not an s", "TO:<Po\u017ftmaster>", badTo, ""},
		{"D02 others", "TO:<joe>", badTo, ""},
		{"D03", "TO:<@a,@b:u@d>", `"u" d`, ""},
		{"D03 quoted", `TO:<@a:"u:@v,"@d>`, `"u:@v," d`, ""},
		{"Z141 empty", "TO:<@a:>", badTo, ""},
		{"Z141 colon", "TO:<:a@b>", badTo, ""},
		{"Z141 no host", "TO:<@:a@b>", badTo, ""},
		{"Z141 no colon", "TO:<@a>", badTo, ""},
		{"Z141 comma last", "TO:<@a,:a@b>", badTo, ""},
		{"Z141 no at", "TO:<@a,b:a@b>", badTo, ""},
		{"Z141 space", "TO:<@a, @b:a@b>", badTo, ""},
		{"Z141 literal", "TO:<@[1.2.3.4]:a@b>", badTo, ""},
		{"Z141 without brackets", "TO:@a:b@c", badTo, ""},
		{"D07", `TO:<"a>b @c"@d>`, `"a>b @c" d`, ""},
		{"D07 parameter inside", `TO:<"a> NOTIFY=NEVER"@d> NOTIFY=FAILURE`, `"a> NOTIFY=NEVER" d NOTIFY=FAILURE`, ""},
		{"D08", "TO:<\"a\\\n\"@d>", badTo, ""},
		{"D10", "TO:<a(c)@b>", badTo, ""},
		{"D14", "TO:<a@[192.0.2.1]>", `"a" [192.0.2.1]`, ""},
		{"D14 v6", "TO:<a@[ipv6:2001:DB8::1]>", `"a" [IPv6:2001:db8::1]`, ""},
		{"D15", "TO:<a@[foo:bar]>", badTo, ""},
		{"D16", "TO:<a@#1234>", badTo, ""},
		{"Z140", `TO:<"a@evil.example"@good.example>`, `"a@evil.example" good.example`, ""},
		{"Z140 quotes", `TO:<"\"x"@y>`, `"\"x" y`, ""},
		{"Z144", "TO:<a%b@c>", `"a%b" c`, ""},
		{"Z145", "TO:<\x80@b>", badUTF8, ""},
		{"Z147", "TO:<a＞b@c>", `"a＞b" c`, ""},
		{"S03", "TO:<用户@例子.广告>", `"用户" 例子.广告`, ""},
		{"usage", "RCPT TO:<a@b>", noKeyword, ""},
		{"sender", "FROM:<a@b>", noKeyword, ""},
		{"R04", "TO:<a@b> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@c", `"a" b NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@c`, ""},
	} {
		t.Run(test.row, func(t *testing.T) {
			checkParse(t, proto.ParseRcptArgs, test.in, test.want, test.lax)
		})
	}
}

func TestAppendArgs(t *testing.T) {
	a := mustAddress(t, "a@b")
	pairs := func(kv ...string) (p proto.Params) {
		for i := 0; i < len(kv); i += 2 {
			p = append(p, proto.Param{Key: kv[i], Value: kv[i+1], HasValue: true})
		}
		return p
	}
	many := proto.Params{}
	for i := range 101 {
		many = append(many, proto.Param{Key: fmt.Sprint("P", i)})
	}
	for _, test := range []struct {
		row        string
		a          proto.Address
		p          proto.Params
		mail, rcpt string // "" for an error
	}{
		{"null", proto.Address{}, nil, "FROM:<>", ""},
		{"postmaster", proto.Address{Local: "postmaster"}, nil, "", "TO:<postmaster>"},
		{"parameters", a, pairs("SIZE", "5", "body", "7BIT"), "FROM:<a@b> SIZE=5 body=7BIT", "TO:<a@b> SIZE=5 body=7BIT"},
		{"flag", a, proto.Params{{Key: "SMTPUTF8"}}, "FROM:<a@b> SMTPUTF8", "TO:<a@b> SMTPUTF8"},
		{"e.6-103", a, pairs("SIZE", "100\r\nRCPT TO:<e@v>"), "", ""},
		{"e.6-103 key", a, pairs("SIZE=1\r\nDATA", "1"), "", ""},
		{"e.6-103 key with space", a, pairs("A B", "1"), "", ""},
		{"e.6-103 key with =", a, pairs("A=B", "1"), "", ""},
		{"e.6-105 space", a, pairs("ENVID", "a NOTIFY"), "", ""},
		{"e.6-105 TAB", a, pairs("ENVID", "a\tb"), "", ""},
		{"e.6-105 parameter", a, pairs("ENVID", "a NOTIFY=NEVER"), "", ""},
		{"e.6-105 =", a, pairs("ENVID", "a=b"), "", ""},
		{"e.6 NUL", a, pairs("ENVID", "a\x00"), "", ""},
		{"empty key", a, pairs("", "1"), "", ""},
		{"empty value", a, pairs("A", ""), "", ""},
		{"value without HasValue", a, proto.Params{{Key: "A", Value: "1"}}, "", ""},
		{"C18", a, pairs("A", "1", "a", "2"), "", ""},
		{"UTF-8", a, pairs("ORCPT", "utf-8;ü"), "", ""},
		{"invalid UTF-8", a, pairs("A", "\xff"), "", ""},
		{"100 parameters", a, many[:100], "FROM:<a@b>" + keys(many[:100]), "TO:<a@b>" + keys(many[:100])},
		{"101 parameters", a, many, "", ""},
		{"address", proto.Address{Local: "a\r\n", Domain: a.Domain}, nil, "", ""},
	} {
		t.Run(test.row, func(t *testing.T) {
			dst := []byte("X ")
			mail, err := proto.AppendMailArgs(dst, test.a, test.p, false)
			checkAppend(t, "X "+test.mail, string(mail), err)
			rcpt, err := proto.AppendRcptArgs(dst, test.a, test.p, false)
			checkAppend(t, "X "+test.rcpt, string(rcpt), err)
		})
	}
	out, err := proto.AppendRcptArgs(nil, mustAddress(t, "ü@ä.example"), pairs("ORCPT", "utf-8;ü"), true)
	checkAppend(t, "TO:<ü@ä.example> ORCPT=utf-8;ü", string(out), err)
}

func keys(p proto.Params) (s string) {
	for _, param := range p {
		s += " " + param.Key
	}
	return s
}

func checkAppend(t *testing.T, want, got string, err error) {
	t.Helper()
	if got != want || (err != nil) != (want == "X ") {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if err != nil && (!strings.HasPrefix(err.Error(), "smtp: ") || strings.ContainsAny(err.Error(), "\r\n\x00")) {
		t.Errorf("error %q: not fit to be shown", err)
	}
}

func TestArgsBounded(t *testing.T) {
	in := []byte("FROM:<a@b>")
	for i := range 101 {
		in = fmt.Appendf(in, " P%d", i)
	}
	if _, p, err := proto.ParseMailArgs(in, false); err == nil {
		t.Errorf("%d parameters were accepted", len(p))
	}
	a, p, err := proto.ParseMailArgs(append([]byte("FROM:<a@b>"), strings.Repeat(" ", 1<<20)...), false)
	if got := summary(a, p, err); got != `"a" b` || p != nil {
		t.Errorf("a million spaces are %s, %v", got, p)
	}
}

func FuzzMailArgs(f *testing.F) {
	for _, s := range []string{
		"FROM:<>", "FROM:<a@b> SIZE=1 BODY=8BITMIME", `FROM:<"a> NOTIFY=NEVER"@x> A`, "FROM:<@a,@b:u@[IPv6:::1]>", "FROM: a..b@c_d",
		"FROM:<ü@münchen.example> SMTPUTF8", "FROM:<a@b>c@d", "FROM:<\xc0\x80@b>", "FROM:<a@b> A=1 a=2",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, args []byte, lax bool) {
		a, p, err := proto.ParseMailArgs(args, lax)
		if isASCII(string(args)) && !lax && (err == nil) != inGrammar(grammarMail, string(args)) {
			t.Fatalf("%q: %v, but in the grammar: %v", args, summary(a, p, err), err != nil)
		}
		if err != nil {
			return
		}
		checkRoundTrip(t, a, p, lax, proto.ParseMailArgs, proto.AppendMailArgs)
	})
}

func FuzzRcptArgs(f *testing.F) {
	for _, s := range []string{
		"TO:<Postmaster>", "TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@c", `TO:<"a@b"@c>`, "TO:<@a:b@[192.0.2.1]>", "TO:postmaster A=1",
		"TO:<用户@例子.广告>", "TO:<>", "TO:<@a,@:b@c>", "TO:<\"\\\"\\\\ \"@b>",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, args []byte, lax bool) {
		a, p, err := proto.ParseRcptArgs(args, lax)
		if isASCII(string(args)) && !lax && (err == nil) != inGrammar(grammarRcpt, string(args)) {
			t.Fatalf("%q: %v, but in the grammar: %v", args, summary(a, p, err), err != nil)
		}
		if err != nil {
			return
		}
		checkRoundTrip(t, a, p, lax, proto.ParseRcptArgs, proto.AppendRcptArgs)
	})
}

// checkRoundTrip writes what was parsed and parses it again. What is written has to be in the grammar, which also keeps
// CR, LF, NUL and unquoted spaces out of it.
func checkRoundTrip(t *testing.T, a proto.Address, p proto.Params, lax bool,
	parse func([]byte, bool) (proto.Address, proto.Params, *proto.Error),
	write func([]byte, proto.Address, proto.Params, bool) ([]byte, error)) {
	for _, utf8ok := range []bool{true, false} {
		out, err := write(nil, a, p, utf8ok)
		if err != nil {
			needs := !utf8ok && (!a.IsASCII() || !isASCII(a.Domain.Name()) || !paramsASCII(p))
			if tooLong := strings.Contains(err.Error(), "longer than"); !needs && !(lax && tooLong) {
				t.Fatalf("%#v, %v cannot be written with UTF-8 %v: %v", a, p, utf8ok, err)
			}
			continue
		}
		if !utf8.Valid(out) || !utf8ok && !isASCII(string(out)) {
			t.Fatalf("%#v is written as %q with UTF-8 %v", a, out, utf8ok)
		}
		// Underscores stay as they are, so only lax parsing takes those back.
		strict := lax && strings.Contains(a.Domain.Name(), "_")
		b, q, fail := parse(out, strict)
		same := b == a || !utf8ok && b.Equal(a)
		if fail != nil || !same || !reflect.DeepEqual(p, q) {
			t.Fatalf("%#v, %v is written as %q, which is %s", a, p, out, summary(b, q, fail))
		}
		if isASCII(string(out)) && !strict && !inGrammar(grammarMail, string(out)) && !inGrammar(grammarRcpt, string(out)) {
			t.Fatalf("%#v is written as %q, which is not in the grammar", a, out)
		}
	}
}

func paramsASCII(p proto.Params) bool {
	for _, param := range p {
		if !isASCII(param.Value) {
			return false
		}
	}
	return true
}

func TestArgsAllocs(t *testing.T) {
	buf := make([]byte, 0, 512)
	for _, test := range []struct {
		in   string
		most float64 // the string, and the list of parameters
	}{
		{"FROM:<user@mail.example.org>", 1},
		{"FROM:<>", 1},
		{`FROM:<"two words"@mail.example.org>`, 1},
		{"FROM:<ü@mail.example.org>", 1},
		{"FROM:<user@[192.0.2.1]>", 1},
		{"FROM:<user@mail.example.org> SIZE=12345 BODY=8BITMIME SMTPUTF8", 2},
	} {
		in := []byte(test.in)
		if n := testing.AllocsPerRun(100, func() { _, _, _ = proto.ParseMailArgs(in, false) }); n > test.most {
			t.Errorf("parsing %s costs %v allocations, want at most %v", in, n, test.most)
		}
		a, p, err := proto.ParseMailArgs(in, false)
		if err != nil {
			t.Fatal(err.Text)
		}
		if n := testing.AllocsPerRun(100, func() { buf, _ = proto.AppendMailArgs(buf[:0], a, p, true) }); n != 0 || string(buf) != test.in {
			t.Errorf("writing %s costs %v allocations", buf, n)
		}
	}
}

func BenchmarkParseMailArgs(b *testing.B) {
	in := []byte("FROM:<user@mail.example.org> SIZE=12345 BODY=8BITMIME")
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, _, err := proto.ParseMailArgs(in, false); err != nil {
			b.Fatal(err.Text)
		}
	}
}

func BenchmarkAppendRcptArgs(b *testing.B) {
	a := mustAddress(b, "user@mail.example.org")
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = proto.AppendRcptArgs(buf[:0], a, nil, false)
	}
}
