package proto

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// An Address is a mailbox, as in a reverse-path or forward-path. The zero value is the null reverse-path "<>", which
// bounces have as their sender. An Address whose Local is "postmaster", in any case, needs no Domain.
//
// Do not compare Addresses with ==: domains may differ in case and in the form of their labels, and still be the same.
// Compare with Equal, and use Key as the key of a map or a database. Treat Local as data from a stranger: it may
// contain spaces, "@", metacharacters of shells and SQL, and text in any script.
type Address struct {
	Local  string // the local part, without the quotes and backslashes it may have on the wire
	Domain Domain
}

// A fault says what is wrong with an address or a parameter.
type fault string

func (f fault) Error() string { return string(f) }

// The faults of addresses. Servers send them to clients, and programs see them behind "smtp: ...".
const (
	faultUTF8       fault = "invalid UTF-8"
	faultControl    fault = "the local part has a control character"
	faultLocalEmpty fault = "the local part is missing"
	faultLocalChar  fault = "the local part has a character that is only allowed in a quoted string"
	faultLocalDot   fault = "the local part has a dot at an end, or two in a row, outside a quoted string"
	faultLocalLong  fault = "the local part is longer than 64 octets"
	faultQuote      fault = "the quoted string has no end"
	faultQuotedPair fault = "a backslash has to be followed by a printable ASCII character"
	faultNoDomain   fault = "the domain is missing: local@domain expected"
	faultDomainChar fault = "the domain has a character other than letters, digits, hyphens and dots"
	faultDomainDot  fault = "the domain has an empty label: a dot at an end, or two in a row"
	faultDomainLong fault = "the domain is longer than 255 octets"
	faultHyphen     fault = "a label of the domain begins or ends with a hyphen"
	faultLabelLong  fault = "a label of the domain is longer than 63 octets"
	faultIDN        fault = "the domain has a label that is not a valid internationalized one"
	faultLiteral    fault = "not an address literal: [192.0.2.1] or [IPv6:2001:db8::1] expected"
	faultPathLong   fault = "the address is longer than 254 octets"
	faultBracket    fault = "it has to stand between < and >"
	faultColonSpace fault = "no space may stand behind the colon"
	faultUnclosed   fault = "the closing > is missing"
	faultNull       fault = "<> is not a recipient"
	faultRoute      fault = "malformed source route"
	faultAfterPath  fault = "unexpected text after it"
	faultNotBare    fault = "write it without the angle brackets"
)

// ParseAddress parses a mailbox such as "user@example.org". It is for programs that send mail; see [ParseRcptArgs] for
// commands. The local part may be a quoted string, and both parts may be in UTF-8; see [ParseDomain] for the domain.
//
// Angle brackets, display names, comments and white space are errors. So are a local part of more than 64 octets and a
// mailbox of more than 254 (RFC 5321 section 4.5.3.1). For the null reverse-path write Address{}, and for the
// domainless postmaster Address{Local: "postmaster"}.
func ParseAddress(s string) (Address, error) {
	var a Address
	_, f := cutMailbox(&a, s, 0, false)
	switch {
	case strings.HasPrefix(s, "<"):
		f = faultNotBare
	case f == "" && len(s) > maxPath-len("<>"):
		f = faultPathLong
	}
	if f != "" {
		return Address{}, fmt.Errorf("smtp: %q is not a mail address: %w", s, f)
	}
	return a, nil
}

// IsNull reports whether a is the null reverse-path.
func (a Address) IsNull() bool { return a == Address{} }

// IsASCII reports whether the local part is in ASCII. If it is not, the address can only be given to a server that
// advertises SMTPUTF8. A domain in another script can be given to any server, see [Domain.ASCII].
func (a Address) IsASCII() bool { return isASCII(a.Local) }

// Equal reports whether a and b are the same mailbox. Local parts have to be identical, except for postmaster, which
// has no case (RFC 5321 section 4.5.1). Domains are compared as by [Domain.Equal].
func (a Address) Equal(b Address) bool {
	if a.Local != b.Local && !(isPostmaster(a.Local) && isPostmaster(b.Local)) {
		return false
	}
	return a.Domain.Equal(b.Domain)
}

func isPostmaster(local string) bool { return equalFold(local, "postmaster") }

// Key returns a string that is the same for two addresses if and only if they are Equal. Use it for maps and databases,
// and to compare with addresses that are written in a program:
//
//	if to.Key() == "joe@example.org" { … }
//
// It is "local@domain": the local part without quotes and in its own case, and the domain as [Domain.Key] has it. It is
// "postmaster" for the domainless postmaster and "" for the null reverse-path. Only the server of a domain may ignore
// the case of local parts (RFC 5321 section 2.4); to do so, convert the key to lower case.
func (a Address) Key() string {
	if isPostmaster(a.Local) {
		a.Local = "postmaster"
		if a.Domain.IsZero() {
			return a.Local
		}
	}
	if a.IsNull() {
		return ""
	}
	return a.Local + "@" + a.Domain.Key()
}

// String returns the mailbox for people to read, with no more quoting than it needs and the domain as it was given. It
// is "" for the null reverse-path. Control characters and invalid UTF-8 become U+FFFD; no parser here lets them into an
// Address. Use AppendPath for the wire.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	if checkLocal(a.Local, true) != nil {
		a.Local = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return utf8.RuneError
			}
			return r
		}, strings.ToValidUTF8(a.Local, "\ufffd"))
	}
	return string(a.append(nil, true))
}

// AppendPath appends a as a path for the wire, "<local@domain>", with no more quoting than it needs
// (RFC 5321 section 4.1.2). The domain has A-labels unless utf8 is set. Whatever Local is, the path parses as the same
// address and cannot end early (CVE-2025-59937).
//
// It returns an error, and dst as it was, for an address that cannot be written: one that is too long, that lacks a
// part, or whose local part has control characters, invalid UTF-8 or, unless utf8 is set, characters beyond ASCII.
func (a Address) AppendPath(dst []byte, utf8 bool) ([]byte, error) {
	if a.IsNull() {
		return append(dst, "<>"...), nil
	}
	err := checkLocal(a.Local, utf8)
	if err == nil && a.Domain.IsZero() && !isPostmaster(a.Local) {
		err = faultNoDomain
	}
	if err != nil {
		return dst, fmt.Errorf("smtp: address %q cannot be sent: %w", a.String(), err)
	}
	out := append(dst, '<')
	out = a.append(out, utf8)
	out = append(out, '>')
	if len(out)-len(dst) > maxPath {
		return dst, fmt.Errorf("smtp: address %q cannot be sent: %w", a.String(), faultPathLong)
	}
	return out, nil
}

var errNeedUTF8 = errors.New(
	"the local part is not in ASCII, and the session does not permit UTF-8 in addresses (RFC 6531)")

// checkLocal returns why local cannot be written, with quotes or without, or nil.
func checkLocal(local string, utf8ok bool) error {
	switch {
	case local == "":
		return faultLocalEmpty
	case len(local) > maxLocal:
		return faultLocalLong
	}
	ascii := true
	for i := range len(local) {
		switch c := local[i]; {
		case c < ' ' || c == 0x7f:
			return faultControl
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	switch {
	case ascii:
		return nil
	case !utf8.ValidString(local):
		return faultUTF8
	case !utf8ok:
		return errNeedUTF8
	}
	return nil
}

// append appends the mailbox.
func (a Address) append(dst []byte, utf8 bool) []byte {
	if _, rest, f := scanDotString(a.Local, false); f == "" && rest == "" {
		dst = append(dst, a.Local...)
	} else {
		dst = append(dst, '"')
		for i := range len(a.Local) {
			if c := a.Local[i]; c == '"' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, a.Local[i])
		}
		dst = append(dst, '"')
	}
	if !a.Domain.IsZero() {
		dst = append(dst, '@')
		dst = a.Domain.append(dst, utf8)
	}
	return dst
}
