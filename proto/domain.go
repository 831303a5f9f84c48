package proto

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// The lengths that RFC 5321 section 4.5.3.1 requires everybody to accept, in octets. Longer ones are refused, because
// hardly any other server would take them. 63 is the limit of the DNS (RFC 1035 section 2.3.4).
const (
	maxLocal  = 64
	maxDomain = 255
	maxLabel  = 63
	maxPath   = 256 // with the angle brackets and a source route
)

// A Domain is the right-hand side of a mailbox, or the name by which a host introduces itself in EHLO: a domain name or
// an address literal. Only parsing makes one, so a Domain that is not zero is safe to write to the wire. The zero value
// is no domain.
//
// Do not compare Domains with ==: names may differ in case and in the form of their labels, and still be the same.
// Compare with Equal, and use Key as the key of a map or a database.
type Domain struct {
	name string     // as given, with U-labels if it was given so; empty in a literal
	addr netip.Addr // of a literal
}

// ParseDomain parses a domain name such as "example.org" or "münchen.example", or an address literal such as
// "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 section 4.1.2 and RFC 5321 section 4.1.3).
//
// Labels beyond ASCII (U-labels) have to be valid for look-up under UTS 46. Case and width are mapped, but the full
// stops of other scripts are not dots here. A label that begins with "xn--" (an A-label) is not decoded.
//
// A name is an error if it is longer than 255 octets, ends with a dot, or has an underscore. A literal is an error if
// it has a zone, a tag other than IPv6, the only one registered, or an IPv4 address with leading zeros, which some
// programs read as octal.
func ParseDomain(s string) (Domain, error) {
	d, f := parseDomain(s, false)
	if f != "" {
		return Domain{}, fmt.Errorf("smtp: %q is not a domain: %w", s, f)
	}
	return d, nil
}

// AddrLiteral returns the address literal of a. An IPv4 address mapped into IPv6 becomes an IPv4 literal, and a zone is
// left out. The invalid address gives the zero Domain.
func AddrLiteral(a netip.Addr) Domain {
	return Domain{addr: a.Unmap().WithZone("")}
}

// Name returns the name as it was given, or "" for an address literal.
func (d Domain) Name() string { return d.name }

// Addr returns the address of an address literal, or the zero Addr for a name. An IPv4 address that the literal has
// mapped into IPv6 stays mapped.
func (d Domain) Addr() netip.Addr { return d.addr }

// IsZero reports whether d is no domain.
func (d Domain) IsZero() bool { return d == Domain{} }

// ASCII returns the name with A-labels in place of U-labels. This is the form for the DNS, and for a server without
// SMTPUTF8 (RFC 6531 section 3.2). A name in ASCII is returned as it was given, in its own case. For an address literal
// ASCII is the same as String.
func (d Domain) ASCII() string {
	if isASCII(d.name) {
		return d.String()
	}
	ascii, _ := lookup.ToASCII(d.name) // without an error, since parseDomain has checked it
	return ascii
}

// String returns the name as it was given, or the literal with its brackets and the address in canonical form.
func (d Domain) String() string {
	if !d.addr.IsValid() {
		return d.name
	}
	return string(d.append(nil, true))
}

// Equal reports whether d and e mean the same. Names are compared without case and whatever the form of their labels,
// literals by their address.
func (d Domain) Equal(e Domain) bool {
	return d == e || equalFold(d.ASCII(), e.ASCII())
}

// Key returns a string that is the same for two domains if and only if they are Equal. Use it for maps and databases,
// and to compare with names that are written in a program. It is the name in lower case and with A-labels, such as
// "xn--mnchen-3ya.example", or the literal with its brackets, in lower case. It is "" for the zero value.
func (d Domain) Key() string { return toLower(d.ASCII()) }

// append appends d for the wire, with A-labels unless utf8 is set.
func (d Domain) append(dst []byte, utf8 bool) []byte {
	if !d.addr.IsValid() {
		if utf8 {
			return append(dst, d.name...)
		}
		return append(dst, d.ASCII()...)
	}
	dst = append(dst, '[')
	if !d.addr.Is4() {
		dst = append(dst, "IPv6:"...)
	}
	return append(d.addr.AppendTo(dst), ']')
}

// lookup maps case and width, and checks labels, as UTS 46 says. It leaves it to checkLabels which ASCII characters are
// allowed, because lax parsing allows underscores.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false), idna.Transitional(false))

func parseDomain(s string, lax bool) (Domain, fault) {
	if len(s) > maxDomain {
		return Domain{}, faultDomainLong
	}
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	f := fault("")
	if isASCII(s) {
		f = checkLabels(s, lax)
	} else {
		f = checkIDN(s, lax)
	}
	if f != "" {
		return Domain{}, f
	}
	return Domain{name: s}, ""
}

// checkLabels checks the syntax of a name. It takes characters beyond ASCII for letters.
func checkLabels(s string, lax bool) fault {
	if s == "" {
		return faultNoDomain
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if c := s[i]; !isAlnum(c) && c != '-' && c < utf8.RuneSelf && !(lax && c == '_') {
				return faultDomainChar
			}
			continue
		}
		label := s[start:i]
		switch {
		case label == "":
			return faultDomainDot
		case label[0] == '-' || label[len(label)-1] == '-':
			return faultHyphen
		case len(label) > maxLabel && isASCII(label): // of a U-label only the A-label is limited
			return faultLabelLong
		}
		start = i + 1
	}
	return ""
}

// checkIDN checks a name that is not in ASCII.
func checkIDN(s string, lax bool) fault {
	if !utf8.ValidString(s) {
		return faultUTF8
	}
	if f := checkLabels(s, lax); f != "" {
		return f // with SMTPUTF8 the name is written as it was given, so that form is checked as well
	}
	ascii, err := lookup.ToASCII(s)
	switch {
	case err != nil, !isASCII(ascii):
		return faultIDN
	case strings.Count(ascii, ".") != strings.Count(s, "."):
		return faultIDN // UTS 46 maps U+3002, U+FF0E and U+FF61 to dots, and so makes labels that are not seen
	case strings.Count(ascii, "_") != strings.Count(s, "_"):
		return faultIDN // it maps U+FE34 and others to underscores; lax parsing allows only those that are seen
	case len(ascii) > maxDomain:
		return faultDomainLong
	}
	return checkLabels(ascii, lax) // what the mapping made of it
}

func parseLiteral(s string) (Domain, fault) {
	if len(s) < 2 || s[len(s)-1] != ']' {
		return Domain{}, faultLiteral
	}
	s = s[1 : len(s)-1]
	const tag = "IPv6:"
	six := len(s) >= len(tag) && equalFold(s[:len(tag)], tag)
	if six {
		s = s[len(tag):]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Is6() != six || addr.Zone() != "" || six && !isIPv6Literal(s) {
		return Domain{}, faultLiteral
	}
	return Domain{addr: addr}, ""
}

// isIPv6Literal reports whether an IPv6 address in the syntax of RFC 4291 is also in that of RFC 5321 section 4.1.3,
// where "::" stands for at least two groups of zeros.
func isIPv6Literal(s string) bool {
	if !strings.Contains(s, "::") {
		return true
	}
	groups := 0
	for part := range strings.SplitSeq(s, ":") {
		if strings.Contains(part, ".") {
			groups += 2
		} else if part != "" {
			groups++
		}
	}
	return groups <= 6
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool { return classes[c]&alnum != 0 }

// equalFold compares without regard to case in ASCII. strings.EqualFold would find "ſize" equal to "SIZE".
func equalFold(s, t string) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != lower(t[i]) {
			return false
		}
	}
	return true
}

// toLower returns s with the letters of ASCII in lower case. It returns s itself if there is nothing to change.
func toLower(s string) string {
	for i := range len(s) {
		if s[i] != lower(s[i]) {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				b[j] = lower(b[j])
			}
			return string(b)
		}
	}
	return s
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
