package grammar

import "strings"

// MaxKeyword is the maximum length of a keyword or verb in octets. RFC 5321 has no limit. No registered name comes near
// it.
const MaxKeyword = 64

// MaxOffer is the maximum length of a line of the reply to EHLO, in octets without the code and CRLF. A whole reply
// line may have 512 octets (RFC 5321 section 4.5.3.1.5).
const MaxOffer = 500

// IsKeyword reports whether s is an ehlo-keyword or an esmtp-keyword in upper case (RFC 5321 section 4.1.1.1).
func IsKeyword(s string) bool {
	return s != "" && len(s) <= MaxKeyword && s[0] != '-' && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// Printable reports whether s has only printable ASCII and spaces. The empty string is printable.
func Printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// EqualFold reports whether a and b are equal, ignoring the case of ASCII letters. strings.EqualFold would also equate
// some other letters with ASCII ones, such as the Kelvin sign with K.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if Upper(a[i]) != Upper(b[i]) {
			return false
		}
	}
	return true
}

// Upper returns c in upper case, if it is an ASCII letter, or else c.
func Upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// IsAlpha reports whether c is an ASCII letter.
func IsAlpha(c byte) bool { return 'A' <= Upper(c) && Upper(c) <= 'Z' }

// IsAlnum reports whether c is an ASCII letter or digit.
func IsAlnum(c byte) bool { return IsAlpha(c) || '0' <= c && c <= '9' }
