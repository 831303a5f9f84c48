package tlsrpt

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"smtpkit.example/smtp/ext/dns"
)

// What is kept of an event's texts, in octets. They come from strangers, and what is longer is cut.
const (
	maxHost       = 255      // a name: RFC 1035 section 2.3.4; EHLO may have as much, RFC 5321 section 4.5.3.1.2
	maxCode       = 256      // failure-reason-code: a short text, RFC 8460 section 4.3.3
	maxInfo       = 1024     // additional-information: a URI
	maxPolicyText = 16 << 10 // policy-string and mx-host; that of MTA-STS may have 64 KiB, RFC 8461 section 3.3
)

// clean returns s as it can stand in a report: at most limit octets, and nothing in it but printable characters.
func clean(s string, limit int) string {
	s = cut(s, limit)
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return cut(strings.Map(printable, strings.ToValidUTF8(s, "\uFFFD")), limit)
		}
	}
	return s
}

// cut cuts s to at most limit octets, at the beginning of a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

func printable(r rune) rune {
	if r != ' ' && !unicode.IsPrint(r) {
		return '\uFFFD'
	}
	return r
}

// hostname returns the name of a host in A-labels, or what the text is if it is no name. It may begin with "*.".
func hostname(s string) string {
	rest, wild := strings.CutPrefix(s, "*.")
	if n, ok := dns.Normal(rest); ok {
		if !wild {
			return clean(n, maxHost)
		}
		if n == rest {
			return clean(s, maxHost)
		}
		return clean("*."+n, maxHost)
	}
	return clean(s, maxHost)
}

// isDomain reports whether s, in the form of dns.Normal, can be a domain with mail: letters, digits, hyphens and
// underscores. Everything else, such as an address literal, cannot ask for reports, nor stand in the header of one.
func isDomain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.' && len(s) > 1:
		default:
			return false
		}
	}
	return s != ""
}

// quote returns s for the text of an error.
func quote(s string) string { return strconv.Quote(clean(s, 200)) }
