package tracefield_test

import (
	"crypto/tls"
	"net/mail"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
)

// grammar is Time-stamp-line of RFC 5321 section 4.4, with the clauses of RFC 8314 section 4.3 and RFC 6710 section 7,
// written down from the RFCs without a look at the code. The names stand for their productions. UTF8-non-ascii is where
// RFC 6531 section 3.3 and RFC 6532 section 3.2 add it.
var grammar = func() *regexp.Regexp {
	rule := map[string]string{
		"fws":     `(?:(?:[ \t]*\r\n)?[ \t]+)`,
		"ctext":   `[\x21-\x27\x2a-\x5b\x5d-\x7e\x{80}-\x{10ffff}]`,
		"comment": `\((?:{fws}?(?:{ctext}|\\[\x20-\x7e]))*{fws}?\)`,
		"cfws":    `(?:(?:{fws}?{comment})+{fws}?|{fws})`,
		"letdig":  `[A-Za-z0-9\x{80}-\x{10ffff}]`,
		"sub":     `{letdig}(?:(?:{letdig}|-)*{letdig})?`,
		"domain":  `{sub}(?:\.{sub})*`,
		"snum":    `(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[0-9]{1,2})`,
		"literal": `\[(?:{snum}(?:\.{snum}){3}|IPv6:[0-9a-fA-F:.]+)\]`,
		"tcp":     `(?:{literal}|{domain}{fws}{literal})`,
		"ext":     `(?:{domain}(?:{fws}\({tcp}\))?|{literal}{fws}\({tcp}\))`,
		"atext":   "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]",
		"utext":   "(?:{atext}|[\\x{80}-\\x{10ffff}])",
		"atom":    `{atext}+`,
		"dotatom": `{atom}(?:\.{atom})*`,
		"msgid":   `<{dotatom}@{dotatom}>`,
		"quoted":  `"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x{80}-\x{10ffff}]|\\[\x20-\x7e])*"`,
		"local":   `(?:{utext}+(?:\.{utext}+)*|{quoted})`,
		"path":    `<{local}@(?:{domain}|{literal})>`,
		"cipher":  `(?:[A-Za-z][A-Za-z0-9_]*|0x[0-9A-Fa-f]{4})`,
		"group":   `{cfws}group{fws}(?P<group>[A-Za-z][A-Za-z0-9_-]*)`,
		"date": `(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),{fws})[0-9]{1,2}{fws}(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)` +
			`{fws}[0-9]{4}{fws}[0-9]{2}:[0-9]{2}:[0-9]{2}{fws}[-+][0-9]{4}`,
	}
	text := `^Received:{fws}from{fws}(?P<from>{ext}){cfws}by{fws}(?P<by>{ext})(?:{cfws}via{fws}(?P<via>{atom}))?` +
		`(?:{cfws}with{fws}(?P<with>{atom}))?(?:{cfws}id{fws}(?P<id>{atom}|{msgid}))?(?:{cfws}for{fws}(?P<for>{path}))?` +
		`(?:{cfws}tls{fws}(?P<tls>{cipher})(?:{group})?)?(?:{cfws}priority{fws}(?P<priority>-?[1-9]|0))?` +
		`{cfws}?;{fws}(?P<date>{date})\r\n$`
	for names := regexp.MustCompile(`\{[a-z]+\}`); names.MatchString(text); {
		text = names.ReplaceAllStringFunc(text, func(name string) string { return rule[name[1:len(name)-1]] })
	}
	return regexp.MustCompile(text)
}()

// parse checks a field by the grammar and the lengths that lines may have, and returns its clauses, unfolded.
func parse(t testing.TB, field string) map[string]string {
	t.Helper()
	m := grammar.FindStringSubmatch(field)
	if m == nil {
		t.Fatalf("not by the grammar:\n%s%q", field, field)
	}
	if len(field) > 10*1024 {
		t.Errorf("%d octets", len(field))
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(field, "\r\n"), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n") || strings.TrimSpace(line) == "" {
			t.Errorf("the line %q of %d octets", line, len(line))
		}
		// What has a space in it could have been folded there, except in quotes and dates.
		if len(line) > 78 && strings.Contains(strings.TrimSpace(line), " ") && !strings.ContainsAny(line, `";`) {
			t.Errorf("the line %q of %d octets could be shorter", line, len(line))
		}
	}
	clauses := make(map[string]string)
	for i, name := range grammar.SubexpNames() {
		if name != "" && m[i] != "" {
			clauses[name] = strings.ReplaceAll(m[i], "\r\n", "")
		}
	}
	date, err := mail.ParseDate(clauses["date"])
	if err != nil || date.Year() < 1900 {
		t.Errorf("the date %q: %v", clauses["date"], err)
	}
	return clauses
}

var when = time.Date(2026, 11, 28, 15, 4, 5, 0, time.FixedZone("", -8*3600))

// full is a field with all clauses.
func full(t testing.TB) tracefield.Received {
	priority := 3
	return tracefield.Received{
		Hello: "client.example", Addr: netip.MustParseAddr("192.0.2.1"), Name: "host.example", By: "mail.example.org",
		With: "ESMTPSA", ID: "4XyZ17", For: testkit.Address(t, "joe@example.org"),
		TLS: "TLS_AES_128_GCM_SHA256", Group: "x25519", Priority: &priority, Time: when,
	}
}

func TestReceived(t *testing.T) {
	const want = "Received: from client.example (host.example [192.0.2.1]) by mail.example.org\r\n" +
		" with ESMTPSA id 4XyZ17 for <joe@example.org> tls TLS_AES_128_GCM_SHA256\r\n" +
		" group x25519 priority 3; Sat, 28 Nov 2026 15:04:05 -0800\r\n"
	if got := full(t).String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := string(full(t).Append([]byte("x"))); got != "x"+want {
		t.Errorf("Append returns %q", got)
	}
}

// TestReceivedClauses changes one thing in a full field, and looks at the clause that comes of it.
func TestReceivedClauses(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::1")
	long := strings.Repeat("abcdefgh.", 28) + "example" // 259 octets
	for _, tt := range []struct {
		name   string
		change func(r *tracefield.Received)
		clause string
		want   string // "" if there is none
		has    string // somewhere in the field
	}{
		{"J01 all clauses", func(*tracefield.Received) {}, "by", "mail.example.org", ""},
		{"J02 name and address", func(*tracefield.Received) {}, "from", "client.example (host.example [192.0.2.1])", ""},
		{"J02 no reverse name", func(r *tracefield.Received) { r.Name = "" }, "from", "client.example ([192.0.2.1])", ""},
		{"J02 IPv6", func(r *tracefield.Received) { r.Addr, r.Name = six, "" }, "from", "client.example ([IPv6:2001:db8::1])", ""},
		{"J02 IPv6 with a zone", func(r *tracefield.Received) { r.Addr = six.WithZone("eth0"); r.Name = "" }, "from",
			"client.example ([IPv6:2001:db8::1])", ""},
		{"J02 mapped IPv4", func(r *tracefield.Received) { r.Addr = netip.MustParseAddr("::ffff:192.0.2.9"); r.Name = "" }, "from",
			"client.example ([192.0.2.9])", ""},
		{"J02 a literal in EHLO", func(r *tracefield.Received) { r.Hello = "[10.0.0.1]" }, "from",
			"[10.0.0.1] (host.example [192.0.2.1])", ""},
		{"J02 no domain in EHLO", func(r *tracefield.Received) { r.Hello = "my_pc" }, "from",
			"[192.0.2.1] (host.example [192.0.2.1])", "(helo=my_pc)"},
		{"J02 nothing in EHLO", func(r *tracefield.Received) { r.Hello = "" }, "from", "[192.0.2.1] (host.example [192.0.2.1])", ""},
		{"J02 no address", func(r *tracefield.Received) { r.Addr = netip.Addr{} }, "from", "client.example", "(name=host.example)"},
		{"J02 a literal and no address", func(r *tracefield.Received) { r.Addr = netip.Addr{}; r.Hello = "[10.0.0.1]" }, "from",
			"unknown", "(helo=[10.0.0.1])"},
		{"J02 nothing known", func(r *tracefield.Received) { r.Addr = netip.Addr{}; r.Hello, r.Name = "", "" }, "from", "unknown", ""},
		{"J02 a reverse name that is none", func(r *tracefield.Received) { r.Name = "a b.example" }, "from",
			"client.example ([192.0.2.1])", "(name=a b.example)"},
		{"J02 a reverse name with the root", func(r *tracefield.Received) { r.Name = "host.example." }, "from",
			"client.example (host.example [192.0.2.1])", ""},
		{"J02 a literal as reverse name", func(r *tracefield.Received) { r.Name = "[10.0.0.1]" }, "from",
			"client.example ([192.0.2.1])", "(name=[10.0.0.1])"},
		{"J02 parentheses", func(r *tracefield.Received) { r.Hello = `x)(\by` }, "from", "[192.0.2.1] (host.example [192.0.2.1])",
			`(helo=x\)\(\\by)`},
		{"J02 another line", func(r *tracefield.Received) { r.Hello = "x\r\nSubject: y\x00z" }, "from",
			"[192.0.2.1] (host.example [192.0.2.1])", "(helo=x Subject: y?z)"},
		{"J02 a domain too long", func(r *tracefield.Received) { r.Hello = long }, "from", "[192.0.2.1] (host.example [192.0.2.1])",
			long[:252] + "...)"},
		{"J02 cut between characters", func(r *tracefield.Received) {
			r.UTF8, r.Hello = true, strings.Repeat("x", 251)+"üüü"
		}, "from", "[192.0.2.1] (host.example [192.0.2.1])", "(helo=" + strings.Repeat("x", 251) + "...)"},
		{"J02 UTF-8 in EHLO", func(r *tracefield.Received) { r.Hello = "münchen.example" }, "from",
			"xn--mnchen-3ya.example (host.example [192.0.2.1])", ""},
		{"J02 UTF-8 in EHLO and SMTPUTF8", func(r *tracefield.Received) { r.UTF8 = true; r.Hello = "münchen.example" }, "from",
			"münchen.example (host.example [192.0.2.1])", ""},
		{"J02 UTF-8 that is no domain", func(r *tracefield.Received) { r.Hello = "mün_chen" }, "from",
			"[192.0.2.1] (host.example [192.0.2.1])", "(helo=m?n_chen)"},

		{"J01 a literal of the server", func(r *tracefield.Received) { r.By = "[192.0.2.2]" }, "by", "[192.0.2.2] ([192.0.2.2])", ""},
		{"J01 no name of the server", func(r *tracefield.Received) { r.By = "" }, "by", "localhost", ""},
		{"J01 A-labels", func(r *tracefield.Received) { r.By = "münchen.example" }, "by", "xn--mnchen-3ya.example", ""},
		{"J04 U-labels with SMTPUTF8", func(r *tracefield.Received) { r.UTF8 = true; r.By = "xn--mnchen-3ya.example" }, "by",
			"münchen.example", ""},
		{"J04 A-labels that mean nothing", func(r *tracefield.Received) { r.UTF8 = true; r.By = "xn--0.example" }, "by",
			"xn--0.example", ""},

		{"J01 via", func(r *tracefield.Received) { r.Via = "UUCP" }, "via", "UUCP", ""},
		{"J01 no via", func(r *tracefield.Received) { r.Via = "a b" }, "via", "", "(via=a b)"},
		{"J04 no with", func(r *tracefield.Received) { r.With = "ESMTP (x" }, "with", "", `(with=ESMTP \(x)`},
		{"J01 a msg-id", func(r *tracefield.Received) { r.ID = "<1.2@mail.example>" }, "id", "<1.2@mail.example>", ""},
		{"J01 an ID with dots", func(r *tracefield.Received) { r.ID = "1.2" }, "id", "", "(id=1.2)"},
		{"J01 an ID that is half a msg-id", func(r *tracefield.Received) { r.ID = "1@x>" }, "id", "", "(id=1@x>)"},
		{"J01 an ID with another clause", func(r *tracefield.Received) { r.ID = "1 for <a@b>" }, "id", "", "(id=1 for <a@b>)"},
		{"J01 no ID", func(r *tracefield.Received) { r.ID = "" }, "id", "", ""},

		{"J03 a path", func(*tracefield.Received) {}, "for", "<joe@example.org>", ""},
		{"J03 none", func(r *tracefield.Received) { r.For = proto.Address{} }, "for", "", ""},
		{"J03 quoted", func(r *tracefield.Received) { r.For.Local = `a "b\` }, "for", `<"a \"b\\"@example.org>`, ""},
		{"J03 no path at all", func(r *tracefield.Received) { r.For.Local = "a\r\nb" }, "for", "", ""},
		{"J03 postmaster", func(r *tracefield.Received) { r.For = proto.Address{Local: "postmaster"} }, "for", "", ""},
		{"J03 UTF-8", func(r *tracefield.Received) { r.For.Local = "jürgen" }, "for", "", ""},
		{"J03 SMTPUTF8", func(r *tracefield.Received) {
			r.UTF8, r.For = true, testkit.Address(t, "jürgen@xn--mnchen-3ya.example")
		}, "for", "<jürgen@münchen.example>", ""},
		{"J03 a domain in UTF-8", func(r *tracefield.Received) { r.For = testkit.Address(t, "joe@münchen.example") }, "for",
			"<joe@xn--mnchen-3ya.example>", ""},

		{"J05 a name", func(*tracefield.Received) {}, "tls", "TLS_AES_128_GCM_SHA256", ""},
		{"J05 a group", func(*tracefield.Received) {}, "group", "x25519", ""},
		{"J05 a number", func(r *tracefield.Received) { r.TLS = "0x13AF" }, "tls", "0x13AF", ""},
		{"J05 no number", func(r *tracefield.Received) { r.TLS = "0x13AF0" }, "tls", "", "(tls=0x13AF0)"},
		{"J05 not in the registry", func(r *tracefield.Received) { r.TLS = "ECDHE-RSA-AES128-SHA" }, "tls", "",
			"(tls=ECDHE-RSA-AES128-SHA) (group=x25519)"},
		{"J05 in clear", func(r *tracefield.Received) { r.TLS, r.Group = "", "" }, "tls", "", ""},
		{"J05 no group", func(r *tracefield.Received) { r.Group = "" }, "group", "", ""},
		{"J05 a group alone", func(r *tracefield.Received) { r.TLS = "" }, "group", "", "(group=x25519)"},
		{"J05 a group of no name", func(r *tracefield.Received) { r.Group = "25519" }, "group", "", "(group=25519)"},

		{"J06 an offset", func(*tracefield.Received) {}, "date", "Sat, 28 Nov 2026 15:04:05 -0800", ""},
		{"J06 a named zone", func(r *tracefield.Received) { r.Time = when.In(time.FixedZone("CET", 3600)) }, "date",
			"Sun, 29 Nov 2026 00:04:05 +0100", ""},
		{"J06 UTC", func(r *tracefield.Received) { r.Time = when.UTC() }, "date", "Sat, 28 Nov 2026 23:04:05 +0000", ""},
		{"J06 an early year", func(r *tracefield.Received) { r.Time = time.Date(1900, 1, 2, 3, 4, 5, 6, time.UTC) }, "date",
			"Tue, 02 Jan 1900 03:04:05 +0000", ""},
		{"J06 an impossible offset", func(r *tracefield.Received) { r.Time = when.In(time.FixedZone("", 100*3600)) }, "date",
			"Sat, 28 Nov 2026 23:04:05 +0000", ""},

		{"J16 a priority", func(*tracefield.Received) {}, "priority", "3", ""},
		{"J16 the lowest", func(r *tracefield.Received) { *r.Priority = -9 }, "priority", "-9", ""},
		{"J16 none", func(r *tracefield.Received) { r.Priority = nil }, "priority", "", ""},
		{"J16 too high", func(r *tracefield.Received) { *r.Priority = 10 }, "priority", "", "(priority=10)"},
		{"J16 too low", func(r *tracefield.Received) { *r.Priority = -10 }, "priority", "", "(priority=-10)"},
		{"J16 zero", func(r *tracefield.Received) { *r.Priority = 0 }, "priority", "0", ""},

		{"comments", func(r *tracefield.Received) { r.Comments = []string{"one", "", " \t", "two)"} }, "priority", "3", `(one) (two\));`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := full(t)
			tt.change(&r)
			field := r.String()
			got := parse(t, field)
			if got[tt.clause] != tt.want {
				t.Errorf("the clause %s is %q, want %q, in\n%s", tt.clause, got[tt.clause], tt.want, field)
			}
			if unfolded := strings.ReplaceAll(field, "\r\n", ""); !strings.Contains(unfolded, tt.has) {
				t.Errorf("%q is not in\n%s", tt.has, field)
			}
			if !r.UTF8 && strings.ContainsFunc(field, func(r rune) bool { return r > '~' }) {
				t.Errorf("not in ASCII:\n%s", field)
			}
		})
	}
}

// TestReceivedNow: without a time, and with one that a field cannot have, the field has the time of now.
func TestReceivedNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, at := range map[string]time.Time{
			"zero":  {},
			"early": time.Date(1899, 12, 31, 0, 0, 0, 0, time.UTC),
			"late":  time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		} {
			got := parse(t, tracefield.Received{Time: at}.String())["date"]
			if want := time.Now().Format(time.RFC1123Z); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

// TestSetTLS: the names are those of the registry of TLS, and a suite without a name has its number.
func TestSetTLS(t *testing.T) {
	for _, tt := range []struct {
		name       string
		state      *tls.ConnectionState
		tls, group string
	}{
		{"J05 TLS 1.3", &tls.ConnectionState{CipherSuite: tls.TLS_AES_256_GCM_SHA384, CurveID: tls.X25519MLKEM768},
			"TLS_AES_256_GCM_SHA384", "X25519MLKEM768"},
		{"J05 TLS 1.2", &tls.ConnectionState{CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, CurveID: tls.CurveP256},
			"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "secp256r1"},
		{"J05 ChaCha20", &tls.ConnectionState{CipherSuite: 0xcca8}, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", ""},
		{"J05 unknown", &tls.ConnectionState{CipherSuite: 0xfe01, CurveID: 0xfe02}, "0xFE01", ""},
		{"J05 in clear", nil, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := full(t)
			r.SetTLS(tt.state)
			if got := parse(t, r.String()); got["tls"] != tt.tls || got["group"] != tt.group {
				t.Errorf("tls %q group %q, want %q and %q", got["tls"], got["group"], tt.tls, tt.group)
			}
		})
	}
}

func TestSetPriority(t *testing.T) {
	for _, tt := range []struct{ name, params, want string }{
		{"J16 given", "MT-PRIORITY=-3", "-3"},
		{"J16 zero", "SIZE=10 mt-priority=0", "0"},
		{"J16 none", "SIZE=10", ""},
		{"J16 minus zero", "MT-PRIORITY=-0", ""},
		{"J16 malformed", "MT-PRIORITY=10", ""},
		{"J16 no number", "MT-PRIORITY=x", ""},
		{"J16 without a value", "MT-PRIORITY", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := full(t)
			r.SetPriority(testkit.Params(tt.params))
			if got := parse(t, r.String())["priority"]; got != tt.want {
				t.Errorf("priority %q, want %q", got, tt.want)
			}
		})
	}
}

// TestReceivedBound: the longest texts in all places make a field within the bounds.
func TestReceivedBound(t *testing.T) {
	for _, of := range []string{"(", "\\ ", "x", "ü"} {
		text := strings.Repeat(of, 1000)
		r := tracefield.Received{
			Hello: text, Name: text, By: text, Via: text, With: text, ID: text, TLS: text, Group: text, UTF8: true, Time: when,
			Comments: strings.SplitAfter(strings.Repeat(text+",", 20), ","), For: proto.Address{Local: strings.Repeat(`"`, 64)},
		}
		r.For.Domain, _ = proto.ParseDomain(strings.Repeat("abcdefgh.", 20) + "example")
		field := r.String()
		parse(t, field)
		if n := strings.Count(field, "..."); n < 14 {
			t.Errorf("%d texts are cut off", n)
		}
	}
}

// FuzzReceived: whatever the texts are, the field is by the grammar. There is no line, clause or field in it that is
// not meant, and no line is too long.
func FuzzReceived(f *testing.F) {
	f.Add("client.example", "host.example", "mail.example", "ESMTP", "4XyZ", "joe", "example.org", "TLS_X", "x", []byte{192, 0, 2, 1}, 3, int64(0), 0, true)
	f.Add("x\r\ny", "a\x00b", "[1.2.3.4]", "A B", "<a@b>", "a b", "münchen.example", "0x1234", "é", []byte{}, 30, int64(1e12), 86400, false)
	f.Add(strings.Repeat("(\\", 300), ")", "[IPv6:::1]", "", "<a.b@c>", "ü", "[1.2.3.4]", "", "", make([]byte, 16), -9, int64(-1e12), -86400, true)
	f.Fuzz(func(t *testing.T, hello, name, by, with, id, local, domain, cipher, comment string,
		addr []byte, priority int, at int64, zone int, utf8OK bool) {
		r := tracefield.Received{
			Hello: hello, Name: name, By: by, Via: with, With: with, ID: id, For: proto.Address{Local: local},
			TLS: cipher, Group: cipher, Priority: &priority, Comments: []string{comment, hello},
			Time: time.Unix(at, 0).In(time.FixedZone(comment, zone)), UTF8: utf8OK,
		}
		r.For.Domain, _ = proto.ParseDomain(domain)
		r.Addr, _ = netip.AddrFromSlice(addr)
		field := r.String()
		parse(t, field)
		if !utf8.ValidString(field) {
			t.Errorf("no UTF-8: %q", field)
		}
		if !utf8OK && len(field) != utf8.RuneCountInString(field) {
			t.Errorf("UTF-8: %q", field)
		}
		if strings.ContainsAny(strings.ReplaceAll(field, "\r\n", ""), "\r\n\x00\x7f") {
			t.Errorf("control characters: %q", field)
		}
	})
}
