package ext

import "strings"

// isKeyword reports whether s is an ehlo-keyword, or esmtp-keyword, in upper case.
func isKeyword(s string) bool {
	return s != "" && len(s) <= maxKeyword && s[0] != '-' && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// printable reports whether s is of printable ASCII and spaces.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// equalFold compares without regard to the case of ASCII letters. strings.EqualFold has other letters fold to them.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if upper(a[i]) != upper(b[i]) {
			return false
		}
	}
	return true
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// isAlpha reports whether c is a letter.
func isAlpha(c byte) bool { return 'A' <= upper(c) && upper(c) <= 'Z' }

// isAlnum reports whether c is a letter or a digit.
func isAlnum(c byte) bool { return isAlpha(c) || '0' <= c && c <= '9' }
