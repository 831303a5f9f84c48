package proto_test

import (
	"regexp"
	"strings"
)

// The grammar of RFC 5321 sections 4.1.2 and 4.1.3 as regular expressions, to hold the parsers against. Beyond the RFC
// are only the decisions that the parsers document: no empty quoted string, no leading zeros in IPv4 literals, and any
// number of spaces between parameters and after them.
const (
	reSub     = `[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?`
	reDomain  = reSub + `(?:\.` + reSub + `)*`
	reAtom    = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
	reDot     = reAtom + `(?:\.` + reAtom + `)*`
	reQuoted  = `"(?:[ !#-\[\]-~]|\\[ -~])+"`
	reSnum    = `(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	reIPv4    = reSnum + `(?:\.` + reSnum + `){3}`
	reHex     = `[0-9A-Fa-f]{1,4}`
	reFull    = reHex + `(?::` + reHex + `){7}`
	reComp    = `(?:` + reHex + `(?::` + reHex + `){0,5})?::(?:` + reHex + `(?::` + reHex + `){0,5})?`
	reV4Full  = reHex + `(?::` + reHex + `){5}:` + reIPv4
	reV4Comp  = `(?:` + reHex + `(?::` + reHex + `){0,3})?::(?:` + reHex + `(?::` + reHex + `){0,3}:)?` + reIPv4
	reIPv6    = `[Ii][Pp][Vv]6:(?:` + reFull + `|` + reComp + `|` + reV4Full + `|` + reV4Comp + `)`
	reLiteral = `\[(?:` + reIPv4 + `|` + reIPv6 + `)\]`
	reMailbox = `(` + reDot + `|` + reQuoted + `)@(` + reDomain + `|` + reLiteral + `)`
	rePath    = `<(?:(@` + reDomain + `(?:,@` + reDomain + `)*):)?` + reMailbox + `>`
	reParams  = `((?: +[A-Za-z0-9][A-Za-z0-9-]*(?:=[!-<>-~]+)?)*) *`
)

var (
	grammarDomain  = regexp.MustCompile(`\A(?:` + reDomain + `|` + reLiteral + `)\z`)
	grammarMailbox = regexp.MustCompile(`\A` + reMailbox + `\z`)
	grammarMail    = regexp.MustCompile(`\A[Ff][Rr][Oo][Mm]:(<>|` + rePath + `)` + reParams + `\z`)
	grammarRcpt    = regexp.MustCompile(`\A[Tt][Oo]:(<(?i:postmaster)>|<"(?i:postmaster)">|` + rePath + `)` + reParams + `\z`)
)

// inGrammar reports whether s, which is in ASCII, is in the grammar re and within the limits of
// RFC 5321 section 4.5.3.1. The groups of re are the path, the route, the local part, the domain and the parameters, as
// far as it has them.
func inGrammar(re *regexp.Regexp, s string) bool {
	m := re.FindStringSubmatch(s)
	switch {
	case m == nil:
		return false
	case re == grammarDomain:
		return domainFits(s)
	case re == grammarMailbox:
		return len(s) <= 254 && localFits(m[1]) && domainFits(m[2])
	}
	path, route, local, domain, params := m[1], m[2], m[3], m[4], m[5]
	for hop := range strings.SplitSeq(route, ",") {
		if !domainFits(strings.TrimPrefix(hop, "@")) {
			return false
		}
	}
	seen := make(map[string]bool)
	for _, p := range strings.Fields(params) {
		key, _, _ := strings.Cut(p, "=")
		key = strings.ToLower(key)
		if seen[key] {
			return false
		}
		seen[key] = true
	}
	return len(path) <= 256 && localFits(local) && domainFits(domain) && len(seen) <= 100
}

var quotedPair = regexp.MustCompile(`\\(.)`)

func localFits(s string) bool {
	if strings.HasPrefix(s, `"`) {
		s = quotedPair.ReplaceAllString(s[1:len(s)-1], "$1")
	}
	return len(s) <= 64
}

func domainFits(s string) bool {
	if len(s) > 255 {
		return false
	}
	if strings.HasPrefix(s, "[") {
		return groupsFit(strings.Trim(s, "[]"))
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > 63 {
			return false
		}
	}
	return true
}

// groupsFit checks what the comments in the grammar of IPv6 addresses add to it: "::" stands for two groups at least.
func groupsFit(s string) bool {
	if !strings.Contains(s, "::") {
		return true
	}
	groups := len(regexp.MustCompile(`[0-9A-Fa-f]+`).FindAllString(s[len("IPv6:"):], -1))
	if strings.Contains(s, ".") {
		return groups-4 <= 4
	}
	return groups <= 6
}
