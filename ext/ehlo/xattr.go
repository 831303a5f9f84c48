package ehlo

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// An attribute is a field of an Origin under its name in XCLIENT and XFORWARD.
type attribute struct {
	name  string
	value func(*ext.Origin) *string
}

var attributes = []attribute{
	{"NAME", func(o *ext.Origin) *string { return &o.Name }},
	{"REVERSE_NAME", func(o *ext.Origin) *string { return &o.ReverseName }},
	{"ADDR", func(o *ext.Origin) *string { return &o.Addr }},
	{"PORT", func(o *ext.Origin) *string { return &o.Port }},
	{"DESTADDR", func(o *ext.Origin) *string { return &o.DestAddr }},
	{"DESTPORT", func(o *ext.Origin) *string { return &o.DestPort }},
	{"PROTO", func(o *ext.Origin) *string { return &o.Protocol }},
	{"HELO", func(o *ext.Origin) *string { return &o.Hello }},
	{"LOGIN", func(o *ext.Origin) *string { return &o.Login }},
	{"IDENT", func(o *ext.Origin) *string { return &o.Ident }},
	{"SOURCE", func(o *ext.Origin) *string { return &o.Source }},
}

// maxAttribute is the longest value in octets, decoded.
const maxAttribute = 255

// A checker reports whether an attribute can have the value, which is neither empty nor Unavailable. It returns the
// value in its normal form.
type checker func(value string) (string, bool)

// parseOrigin reads 1*( SP name "=" xtext ). It permits the attributes that checks has.
func parseOrigin(verb, args string, checks map[string]checker) (ext.Origin, error) {
	var o ext.Origin
	if args == "" {
		return o, grammar.BadArgs(verb + " needs an attribute")
	}
	for text := range strings.SplitSeq(args, " ") {
		name, value, ok := strings.Cut(text, "=")
		a, check := findAttribute(name, checks)
		if !ok || a == nil {
			return o, grammar.BadArgs(verb + ": name=value expected, with a name that was offered")
		}
		if *a.value(&o) != "" {
			return o, grammar.BadArgs(verb + ": " + a.name + " is there twice")
		}
		value, ok = parseAttribute(a.name, value, check)
		if !ok {
			return o, grammar.BadArgs(verb + ": the value of " + a.name + " is malformed")
		}
		*a.value(&o) = value
	}
	return o, nil
}

func findAttribute(name string, checks map[string]checker) (*attribute, checker) {
	for i := range attributes {
		a := &attributes[i]
		if check := checks[a.name]; check != nil && grammar.EqualFold(a.name, name) {
			return a, check
		}
	}
	return nil, nil
}

func parseAttribute(name, value string, check checker) (string, bool) {
	value, err := proto.DecodeXtext(value)
	switch {
	case err != nil || value == "" || len(value) > maxAttribute || !isText(value):
		return "", false
	case grammar.EqualFold(value, ext.Unavailable):
		return ext.Unavailable, true
	case grammar.EqualFold(value, ext.TempUnavailable):
		return ext.TempUnavailable, name == "NAME" || name == "REVERSE_NAME"
	}
	return check(value)
}

// isText reports whether s is UTF-8 without control characters.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
}

// offeredAttributes returns the attributes that a server stated as arguments of keyword.
func offeredAttributes(c proto.Caps, keyword string) map[string]bool {
	args, _ := c.Args(keyword)
	offered := make(map[string]bool)
	for _, name := range strings.Fields(strings.ToUpper(args)) {
		offered[name] = true
	}
	return offered
}

// appendAttribute appends an attribute to the arguments of a command.
func appendAttribute(args, name, value string) string {
	if name == "ADDR" || name == "DESTADDR" {
		value = prefixIPv6(value)
	}
	if args != "" {
		args += " "
	}
	return args + name + "=" + string(proto.AppendXtext(nil, value))
}

const ipv6Prefix = "IPV6:"

// prefixIPv6 writes an IP address in the form of commands. It returns any other text unchanged.
func prefixIPv6(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Zone() != "" {
		return addr
	}
	if ip = ip.Unmap(); ip.Is6() {
		return ipv6Prefix + ip.String()
	}
	return ip.String()
}

// anyValue accepts any text.
func anyValue(value string) (string, bool) { return value, true }

// hostValue accepts a name that is safe in a header or a log: printable ASCII without spaces.
func hostValue(value string) (string, bool) {
	return value, grammar.Printable(value) && !strings.Contains(value, " ")
}

// addrValue accepts an IP address: IPv6 with a prefix, IPv4 without.
func addrValue(value string) (string, bool) {
	six := len(value) > len(ipv6Prefix) && grammar.EqualFold(value[:len(ipv6Prefix)], ipv6Prefix)
	if six {
		value = value[len(ipv6Prefix):]
	}
	ip, err := netip.ParseAddr(value)
	if err != nil || ip.Is6() != six || ip.Zone() != "" {
		return "", false
	}
	return ip.Unmap().String(), true
}

// looseAddrValue accepts an address of any kind.
func looseAddrValue(value string) (string, bool) {
	if ip, ok := addrValue(prefixIPv6(value)); ok {
		return ip, true
	}
	return hostValue(value)
}

// portValue accepts the number of a port.
func portValue(value string) (string, bool) {
	n, err := strconv.ParseUint(value, 10, 16)
	return strconv.FormatUint(n, 10), err == nil && len(value) <= len("65535") && value[0] != '+'
}

// oneOf returns a checker that accepts the values, given in upper case.
func oneOf(values ...string) checker {
	return func(value string) (string, bool) {
		for _, v := range values {
			if grammar.EqualFold(v, value) {
				return v, true
			}
		}
		return "", false
	}
}

// isTrusted reports whether addr is in one of the networks.
func isTrusted(networks []netip.Prefix, addr net.Addr) bool {
	a, ok := addr.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return false
	}
	ip := a.AddrPort().Addr().Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}
