package auth

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"

	"smtpkit.example/smtp/ext/internal/grammar"
)

var errPrep = errors.New("smtp: a name or a password has characters that SASLprep prohibits (RFC 4013)")

// saslPrep normalises a name or a password, so that its octets do not depend on how it was typed (RFC 4013). It accepts
// code points that Unicode 3.2 did not assign, as in a query string (RFC 3454 section 7). The tables for normalisation
// add nothing to a program: package idna has them anyway.
func saslPrep(s string) (string, error) {
	if s != "" && grammar.Printable(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", errPrep
	}
	s = norm.NFKC.String(strings.Map(func(r rune) rune {
		switch {
		case r == '\u200b', r > 0x7f && unicode.Is(unicode.Zs, r): // RFC 3454 table C.1.2
			return ' '
		case unicode.Is(mappedToNothing, r):
			return -1
		}
		return r
	}, s))
	if s == "" || strings.ContainsFunc(s, isProhibited) || !isBidi([]rune(s)) {
		return "", errPrep
	}
	return s, nil
}

// mappedToNothing is RFC 3454 table B.1.
var mappedToNothing = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x00ad, Hi: 0x00ad, Stride: 1}, {Lo: 0x034f, Hi: 0x034f, Stride: 1}, {Lo: 0x1806, Hi: 0x1806, Stride: 1},
		{Lo: 0x180b, Hi: 0x180d, Stride: 1}, {Lo: 0x200b, Hi: 0x200d, Stride: 1}, {Lo: 0x2060, Hi: 0x2060, Stride: 1},
		{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1}, {Lo: 0xfeff, Hi: 0xfeff, Stride: 1},
	},
	LatinOffset: 1,
}

// prohibited is RFC 3454 tables C.2.2, C.6, C.7, C.8 and C.9. isProhibited has the others.
var prohibited = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0080, Hi: 0x009f, Stride: 1}, {Lo: 0x0340, Hi: 0x0341, Stride: 1}, {Lo: 0x06dd, Hi: 0x06dd, Stride: 1},
		{Lo: 0x070f, Hi: 0x070f, Stride: 1}, {Lo: 0x180e, Hi: 0x180e, Stride: 1}, {Lo: 0x200c, Hi: 0x200f, Stride: 1},
		{Lo: 0x2028, Hi: 0x202e, Stride: 1}, {Lo: 0x2060, Hi: 0x2063, Stride: 1}, {Lo: 0x206a, Hi: 0x206f, Stride: 1},
		{Lo: 0x2ff0, Hi: 0x2ffb, Stride: 1}, {Lo: 0xfeff, Hi: 0xfeff, Stride: 1}, {Lo: 0xfff9, Hi: 0xfffd, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1d173, Hi: 0x1d17a, Stride: 1}, {Lo: 0xe0001, Hi: 0xe0001, Stride: 1}, {Lo: 0xe0020, Hi: 0xe007f, Stride: 1},
	},
	LatinOffset: 1,
}

// isProhibited reports whether r must not be in the output (RFC 4013 section 2.3).
func isProhibited(r rune) bool {
	return r < ' ' || r == 0x7f || unicode.Is(prohibited, r) ||
		unicode.Is(unicode.Co, r) || // C.3: private use
		0xfdd0 <= r && r <= 0xfdef || r&0xfffe == 0xfffe // C.4: non-characters
}

// isBidi reports whether s meets the requirements of RFC 3454 section 6: if s has a right-to-left character, it has no
// left-to-right one, and begins and ends with a right-to-left one.
func isBidi(s []rune) bool {
	var left, right bool
	for _, r := range s {
		left = left || class(r) == bidi.L
		right = right || isRight(r)
	}
	return !right || !left && isRight(s[0]) && isRight(s[len(s)-1])
}

func isRight(r rune) bool { return class(r) == bidi.R || class(r) == bidi.AL }

func class(r rune) bidi.Class {
	p, _ := bidi.LookupRune(r)
	return p.Class()
}
