package ehlo

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// An OriginalRecipient is the address to which the sender sent a message, in the parameter ORCPT and in notifications
// (RFC 3461 section 4.2).
type OriginalRecipient struct {
	Type string // such as "rfc822" or "utf-8"; "" if there is no original recipient
	// Address is the address in plain text, decoded. It need not be valid for the type. It is printable ASCII unless the
	// type is utf-8, and never has control characters.
	Address string
}

// NewOriginalRecipient returns a as an original recipient. The type is rfc822 if a can be written in ASCII, and utf-8
// otherwise.
func NewOriginalRecipient(a proto.Address) OriginalRecipient {
	if path, err := a.AppendPath(nil, false); err == nil {
		return OriginalRecipient{"rfc822", string(path[1 : len(path)-1])}
	}
	return OriginalRecipient{"utf-8", a.String()}
}

// String returns r in the form of a notification (RFC 3464 section 2.3.1), such as "rfc822;user@example.org". It has
// UTF-8 if the type is utf-8.
func (r OriginalRecipient) String() string {
	if r.Type == "" {
		return ""
	}
	return r.Type + ";" + r.Address
}

// ASCII returns r in the form of a notification without UTF-8. An address of the type utf-8 is written as
// utf-8-addr-xtext (RFC 6533 section 3), such as `utf-8;j\x{F6}rg@example.org`.
func (r OriginalRecipient) ASCII() string {
	if grammar.EqualFold(r.Type, "utf-8") {
		return r.encode()
	}
	return r.String()
}

// ParseOriginalRecipient parses the form that a notification has: the type, a semicolon and the address (RFC 3464
// section 2.3.1). For the type utf-8 it accepts all forms (RFC 6533 section 3). It keeps the case of the type. It
// reports false if s is malformed.
func ParseOriginalRecipient(s string) (OriginalRecipient, bool) {
	kind, address, ok := strings.Cut(s, ";")
	kind, address = strings.Trim(kind, " \t"), strings.Trim(address, " \t")
	if !ok || !isAtom(kind) {
		return OriginalRecipient{}, false
	}
	if grammar.EqualFold(kind, "utf-8") {
		if text, ok := decodeUnitext(address); ok {
			address = text
		}
	}
	if strings.ContainsFunc(address, unicode.IsControl) {
		return OriginalRecipient{}, false
	}
	return OriginalRecipient{kind, address}, true
}

// encode returns r as a value of ORCPT. It writes an address of the type utf-8 as utf-8-addr-xtext (RFC 6533 section
// 3), which needs no SMTPUTF8 and can be sent to any server.
func (r OriginalRecipient) encode() string {
	value := []byte(r.Type + ";")
	if !grammar.EqualFold(r.Type, "utf-8") {
		return string(proto.AppendXtext(value, r.Address))
	}
	for _, c := range r.Address {
		if isQChar(c) {
			value = append(value, byte(c))
		} else {
			value = append(value, `\x{`...)
			value = append(value, strings.ToUpper(strconv.FormatUint(uint64(c), 16))...)
			value = append(value, '}')
		}
	}
	return string(value)
}

// parseORCPT reads addr-type ";" xtext, and for the type utf-8 the forms of RFC 6533 section 3. It keeps text of the
// type utf-8 that has none of these forms.
//
// Postfix 3.7 (2026-11) writes an address in UTF-8 as type rfc822, with its octets in xtext. It does so for every
// recipient with such an address if the client sent no ORCPT. RFC 3461 section 4.2 demands ASCII within the xtext, but
// a server that insisted would refuse all such mail. So parseORCPT reads the address as the utf-8 that it is.
func parseORCPT(value string) (OriginalRecipient, bool) {
	kind, text, ok := strings.Cut(value, ";")
	if !ok || !isAtom(kind) || len(value) > maxORCPT {
		return OriginalRecipient{}, false
	}
	if grammar.EqualFold(kind, "utf-8") {
		if address, ok := decodeUnitext(text); ok {
			return OriginalRecipient{kind, address}, true
		}
	}
	address, err := proto.DecodeXtext(text)
	switch {
	case err != nil:
		return OriginalRecipient{}, false
	case grammar.Printable(address):
		return OriginalRecipient{kind, address}, true
	case isUTF8(address) && (grammar.EqualFold(kind, "rfc822") || grammar.EqualFold(kind, "utf-8")):
		return OriginalRecipient{"utf-8", address}, true
	}
	return OriginalRecipient{}, false
}

// decodeUnitext reads 1*(QUCHAR / EmbeddedUnicodeChar), which covers all three forms of a utf-8-enc-addr.
func decodeUnitext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); {
		if strings.HasPrefix(s[i:], `\x{`) {
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return "", false
			}
			c, ok := parseHexpoint(s[i+len(`\x{`) : i+end])
			if !ok {
				return "", false
			}
			b.WriteRune(c)
			i += end + 1
			continue
		}
		c, n := utf8.DecodeRuneInString(s[i:])
		if c == utf8.RuneError && n <= 1 || c < utf8.RuneSelf && !isQChar(c) || unicode.IsControl(c) {
			return "", false
		}
		b.WriteRune(c)
		i += n
	}
	return b.String(), s != ""
}

// isUTF8 reports whether s is UTF-8 text without control characters.
func isUTF8(s string) bool { return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0 }

// parseHexpoint reads HEXPOINT: two to six digits, with leading zeros only where there are two, for a character that is
// not ASCII or cannot stand for itself. It rejects control characters, which the grammar permits, and no address has.
func parseHexpoint(s string) (rune, bool) {
	if len(s) < 2 || len(s) > 6 || len(s) > 2 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 32)
	c := rune(n)
	if err != nil || n > unicode.MaxRune || !utf8.ValidRune(c) || unicode.IsControl(c) {
		return 0, false
	}
	return c, c >= utf8.RuneSelf || !isQChar(c)
}

// isQChar reports whether c stands for itself in the type utf-8.
func isQChar(c rune) bool { return '!' <= c && c <= '~' && c != '\\' && c != '+' && c != '=' }

// isAtom reports whether s is an atom of RFC 822 section 3.3 without "=". The value of a parameter cannot have one (RFC
// 5321 section 4.1.2).
func isAtom(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(`()<>@,;:\".[]=`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}
