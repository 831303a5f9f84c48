package grammar

import "strings"

// MaxKeyword bounds the names that extensions give to things, in octets. RFC 5321 has no limit; nobody has come near.
const MaxKeyword = 64

// MaxOffer bounds a line of the reply to EHLO, in octets without the code and CRLF; a reply line is 512 octets (RFC 5321
// section 4.5.3.1.5).
const MaxOffer = 500

// IsKeyword reports whether s is an ehlo-keyword, or esmtp-keyword, in upper case.
func IsKeyword(s string) bool {
	return s != "" && len(s) <= MaxKeyword && s[0] != '-' && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// Printable reports whether s is of printable ASCII and spaces.
func Printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// EqualFold compares without regard to the case of ASCII letters. strings.EqualFold has other letters fold to them.
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

func Upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// IsAlpha reports whether c is a letter.
func IsAlpha(c byte) bool { return 'A' <= Upper(c) && Upper(c) <= 'Z' }

// IsAlnum reports whether c is a letter or a digit.
func IsAlnum(c byte) bool { return IsAlpha(c) || '0' <= c && c <= '9' }
