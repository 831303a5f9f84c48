package tlsrpt

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

func uris(rec *Record) []string {
	list := []string{}
	if rec != nil {
		for _, u := range rec.RUA {
			list = append(list, u.String())
		}
	}
	return list
}

// TestParseRecord compares with the grammar of RFC 8460 section 3.
func TestParseRecord(t *testing.T) {
	long := "v=TLSRPTv1;rua="
	for i := range 12 {
		long += strings.Repeat(",", min(i, 1)) + "https://r.example/" + string(rune('a'+i))
	}
	for _, tt := range []struct {
		name, text string
		want       string // URIs; "!" for an error
	}{
		{"X20 example by mail", "v=TLSRPTv1;rua=mailto:reports@example.com", "mailto:reports@example.com"},
		{"X20 example by HTTPS", "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt",
			"https://reporting.example.com/v1/tlsrpt"},
		{"X20 two and a semicolon at the end", "v=TLSRPTv1 ;\trua=mailto:a@b.example , https://c.example/d ; ",
			"mailto:a@b.example https://c.example/d"},
		{"X20 two fields", "v=TLSRPTv1;rua=mailto:a@b.example;rua=https://c.example",
			"mailto:a@b.example https://c.example"},
		{"X20 another version", "v=TLSRPTv2;rua=mailto:a@b.example", "!"},
		{"X20 a longer version", "v=TLSRPTv10;rua=mailto:a@b.example", "!"},
		{"X20 version in another case", "V=TLSRPTv1;rua=mailto:a@b.example", "!"},
		{"X20 version elsewhere", "rua=mailto:a@b.example;v=TLSRPTv1", "!"},
		{"X20 nothing else", "v=TLSRPTv1", "!"},
		{"X21 no rua", "v=TLSRPTv1; x=y", "!"},
		{"X21 empty rua", "v=TLSRPTv1; rua=", "!"},
		{"X21 name in another case", "v=TLSRPTv1; RUA=mailto:a@b.example", "!"},
		{"X21 extensions", "v=TLSRPTv1;x1_y-z.a=b:c;rua=mailto:a@b.example;q=r", "mailto:a@b.example"},
		{"X21 no pair", "v=TLSRPTv1;rua=mailto:a@b.example;what", "!"},
		{"X21 empty field", "v=TLSRPTv1;;rua=mailto:a@b.example", "!"},
		{"X21 malformed name", "v=TLSRPTv1;_x=y;rua=mailto:a@b.example", "!"},
		{"X21 long name", "v=TLSRPTv1;" + strings.Repeat("x", 33) + "=y;rua=mailto:a@b.example", "!"},
		{"other schemes", "v=TLSRPTv1;rua=ftp://a.example/,http://b.example/,MAILTO:a@b.example", "mailto:a@b.example"},
		{"exclamation point", "v=TLSRPTv1;rua=mailto:a@b.example!10m", ""},
		{"exclamation point by HTTPS", "v=TLSRPTv1;rua=https://b.example/x!10m", ""},
		{"encoded address", "v=TLSRPTv1;rua=mailto:a%21b@c.example", "mailto:a%21b@c.example"},
		{"header fields", "v=TLSRPTv1;rua=mailto:a@b.example?bcc=c@d.example", "mailto:a@b.example?bcc=c@d.example"},
		{"two addresses in one", "v=TLSRPTv1;rua=mailto:a@b.example%2Cc@d.example", ""},
		{"line break in an address", "v=TLSRPTv1;rua=mailto:a@b.example%0D%0Ax", ""},
		{"no domain", "v=TLSRPTv1;rua=mailto:postmaster", ""},
		{"slashes", "v=TLSRPTv1;rua=mailto://a@b.example", ""},
		{"password", "v=TLSRPTv1;rua=https://u:p@b.example/", ""},
		{"no host", "v=TLSRPTv1;rua=https:///x", ""},
		{"fragment", "v=TLSRPTv1;rua=https://b.example/x#y", "https://b.example/x"},
		{"control character", "v=TLSRPTv1;rua=https://b.example/\x01", ""},
		{"long URI", "v=TLSRPTv1;rua=https://b.example/" + strings.Repeat("x", 2048), ""},
		{"ten at most", long, strings.Join(strings.Split(strings.TrimPrefix(long, "v=TLSRPTv1;rua="), ",")[:10], " ")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec, err := ParseRecord(tt.text)
			if tt.want == "!" {
				var e *RecordError
				if !errors.As(err, &e) || e.Text != tt.text {
					t.Errorf("%v, %v, want a RecordError", uris(rec), err)
				}
				return
			}
			if got := uris(rec); err != nil || !slices.Equal(got, strings.Fields(tt.want)) {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestLookupRecord(t *testing.T) {
	const rua = `v=TLSRPTv1; rua=mailto:a@b.example`
	for _, tt := range []struct {
		name, zone string
		asks       bool
		err        any
	}{
		{"X20 one record", `_smtp._tls.example.org. TXT "` + rua + `"`, true, nil},
		{"X20 strings are joined", `_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mai" "lto:a@b.example"`, true, nil},
		{"X20 other records beside it", `_smtp._tls.example.org. TXT "` + rua + `"
			_smtp._tls.example.org. TXT "v=spf1 -all"
			_smtp._tls.example.org. TXT "v=TLSRPTv10; rua=mailto:c@d.example"`, true, nil},
		{"X20 two records", `_smtp._tls.example.org. TXT "` + rua + `"
			_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:c@d.example"`, false, nil},
		{"X22 none", `example.org. MX 10 mx.example.org.`, false, nil},
		{"X22 of the domain above", `_smtp._tls.org. TXT "` + rua + `"`, false, nil},
		{"X22 another record", `_smtp._tls.example.org. TXT "v=spf1 -all"`, false, nil},
		{"X22 no usable URI", `_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=ftp://a.example/"`, false, nil},
		{"X22 malformed", `_smtp._tls.example.org. TXT "v=TLSRPTv1; nothing"`, false, new(*RecordError)},
		{"X22 no answer", `_smtp._tls.example.org. TXT SERVFAIL`, false, new(*dns.Error)},
		{"alias", "_smtp._tls.example.org. CNAME r.example.net.\nr.example.net. TXT \"" + rua + `"`, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec, err := LookupRecord(context.Background(), dnstest.New(tt.zone), "example.org")
			if (rec != nil) != tt.asks || (err != nil) != (tt.err != nil) || err != nil && !errors.As(err, tt.err) {
				t.Errorf("%v, %v", uris(rec), err)
			}
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{
		"v=TLSRPTv1;rua=mailto:reports@example.com", "v=TLSRPTv1 ; rua=https://a.example/b?c , mailto:x%20y@z.example;",
		"v=TLSRPTv1;x=y;rua=ftp://x", `v=TLSRPTv1;rua=mailto:"a b"@c.example?subject=x`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rec, err := ParseRecord(s)
		if err != nil {
			return
		}
		if !strings.HasPrefix(s, "v=TLSRPTv1") || !strings.Contains(s, "rua=") || len(rec.RUA) > 10 {
			t.Errorf("%q gives %q", s, uris(rec))
		}
		for _, u := range uris(rec) {
			if strings.ContainsAny(u, "\r\n ;,!") || !strings.HasPrefix(u, "mailto:") && !strings.HasPrefix(u, "https://") {
				t.Errorf("%q gives %q", s, u)
			}
			again, err := ParseRecord("v=TLSRPTv1;rua=" + u)
			if err != nil || len(again.RUA) != 1 {
				t.Errorf("%q of %q gives %v, %v", u, s, uris(again), err)
			}
		}
	})
}
