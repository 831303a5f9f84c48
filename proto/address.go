package proto

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// An Address is a mailbox, as in a reverse-path or forward-path. The zero value is the null reverse-path "<>" that
// bounces come from. An Address whose Local is "postmaster", in any case, needs no Domain.
//
// Two Addresses can be the same mailbox and differ by ==, since domains may differ in case and in the form of their
// labels: compare with Equal, and use Key as the key of a map. Local is to be taken as data: it may contain spaces, "@", shell and SQL metacharacters, and text in any script.
type Address struct {
	Local  string // the local part, without the quotes and backslashes it may have on the wire
	Domain Domain
}

// A fault says what is wrong with an address or a parameter.
type fault string

func (f fault) Error() string { return string(f) }

// The faults of addresses. They are sent to peers, and users of the library see them behind "smtp: ...".
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
	faultUnclosed   fault = "the closing > is missing"
	faultNull       fault = "<> is not a recipient"
	faultRoute      fault = "malformed source route"
	faultAfterPath  fault = "unexpected text after it"
	faultNotBare    fault = "write it without the angle brackets"
)

// ParseAddress parses a mailbox such as "user@example.org", for programs that send mail. The local part may be a quoted
// string, and both parts may be in UTF-8; see [ParseDomain] for the domain. Angle brackets, display names, comments and
// white space are errors, and so are a local part of more than 64 octets and a mailbox of more than 254
// (RFC 5321 section 4.5.3.1). The null reverse-path is Address{}, and the domainless postmaster Address{Local: "postmaster"}.
func ParseAddress(s string) (Address, error) {
	a, _, f := cutMailbox(s, 0, false)
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
// offers SMTPUTF8; a domain in another script can be given to any, see [Domain.ASCII].
func (a Address) IsASCII() bool { return isASCII(a.Local) }

// Equal reports whether a and b are the same mailbox: local parts exactly, but postmaster in any case
// (RFC 5321 section 4.5.1), and domains as in [Domain.Equal].
func (a Address) Equal(b Address) bool {
	if a.Local != b.Local && !(isPostmaster(a.Local) && isPostmaster(b.Local)) {
		return false
	}
	return a.Domain.Equal(b.Domain)
}

func isPostmaster(local string) bool { return equalFold(local, "postmaster") }

// Key returns a string that two addresses have in common if and only if they are Equal, for maps, databases and comparisons
// with addresses written in a program. It is "local@domain": the local part without quotes and in its own case, and the
// domain as [Domain.Key] has it. It is "postmaster" for the domainless postmaster and "" for the null reverse-path. To
// ignore the case of local parts as well, which only their own server may do (RFC 5321 section 2.4), lower the key.
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

// String returns the mailbox with no more quoting than it needs and the domain as it was given, for people to read. It
// is "" for the null reverse-path. Control characters and invalid UTF-8, which no parser here lets into an Address,
// become U+FFFD; use AppendPath for the wire.
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

// AppendPath appends a as a reverse-path or forward-path, "<local@domain>", with no more quoting than it needs
// (RFC 5321 section 4.1.2) and, unless utf8 is set, A-labels in the domain. What it appends always parses as the same address:
// whatever Local is, it cannot end the path early or the line (CVE-2025-59937).
//
// It returns an error, and dst as it was, for an address that cannot be written: one without local part or domain, with
// control characters, invalid UTF-8 or, unless utf8 is set, non-ASCII characters in the local part, or one
// that is too long.
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

var errNeedUTF8 = errors.New("the local part is not in ASCII, and the session does not permit UTF-8 in addresses (RFC 6531)")

// checkLocal returns an error if local cannot be written, with quotes or without.
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
