package proto

import (
	"errors"
	"strings"
)

// AppendXtext appends s as xtext (RFC 3461 section 4). Printable ASCII other than "+" and "=" stands for itself. Every
// other octet becomes "+" and two hexadecimal digits; text in UTF-8 is encoded octet by octet.
func AppendXtext(dst []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; isXchar(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '+', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

var errXtext = errors.New(
	"smtp: malformed xtext: printable ASCII expected, and + only before two upper-case hexadecimal digits")

// DecodeXtext decodes xtext (RFC 3461 section 4). The result may have any octets in it, control characters included, so
// check that they make sense. Lower-case digits are an error, as in the RFC.
func DecodeXtext(s string) (string, error) {
	literal := true
	for i := range len(s) {
		if s[i] == '+' {
			literal = false
		} else if !isXchar(s[i]) {
			return "", errXtext
		}
	}
	if literal {
		return s, nil
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", errXtext
			}
			high, ok1 := hexDigit(s[i+1])
			low, ok2 := hexDigit(s[i+2])
			if !ok1 || !ok2 {
				return "", errXtext
			}
			c = high<<4 | low
			i += 2
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// isXchar reports whether c stands for itself in xtext.
func isXchar(c byte) bool { return '!' <= c && c <= '~' && c != '+' && c != '=' }

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
