package proto

import (
	"slices"
	"strings"
)

// Caps is what a server advertises in its reply to EHLO or LHLO (RFC 5321 section 4.1.1.1). Keywords are compared
// without regard to case. The zero value advertises nothing. Caps is immutable, cheap to copy, and safe for concurrent
// use.
type Caps struct {
	t *capTable
}

type capTable struct {
	domain string
	names  []string          // in upper case, in the order received
	args   map[string]string // by name
}

// ParseCaps parses the reply to EHLO. A reply other than 2yz advertises nothing. Lines that are no keywords are
// ignored, and if a keyword comes twice, the first line counts. AUTH is an exception: for the sake of old clients
// servers send "AUTH=PLAIN" beside or in place of "AUTH PLAIN", so the mechanisms of all its lines are collected.
func ParseCaps(r Reply) Caps {
	if r.Code/100 != 2 {
		return Caps{}
	}
	first, rest, more := strings.Cut(r.Text, "\n")
	t := &capTable{args: make(map[string]string)}
	t.domain, _, _ = strings.Cut(first, " ")
	var mechanisms []string
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		name, args, ok := parseKeyword(line)
		if !ok {
			continue
		}
		if name == "AUTH" {
			mechanisms = append(mechanisms, args...)
		}
		if _, twice := t.args[name]; !twice {
			t.names = append(t.names, name)
			t.args[name] = strings.Join(args, " ")
		}
	}
	if len(mechanisms) > 0 {
		t.args["AUTH"] = strings.Join(distinct(mechanisms), " ")
	}
	return Caps{t}
}

// Domain returns the name by which the server introduced itself. Nothing has verified it.
func (c Caps) Domain() string {
	if c.t == nil {
		return ""
	}
	return c.t.domain
}

// Has reports whether the server advertises keyword.
func (c Caps) Has(keyword string) bool {
	_, ok := c.Args(keyword)
	return ok
}

// Args returns the parameters of keyword with one space between them, and whether the server advertises it.
func (c Caps) Args(keyword string) (string, bool) {
	if c.t == nil {
		return "", false
	}
	args, ok := c.t.args[strings.ToUpper(keyword)]
	return args, ok
}

// Keywords returns all keywords in upper case, in the order in which they came.
func (c Caps) Keywords() []string {
	if c.t == nil {
		return nil
	}
	return slices.Clone(c.t.names)
}

// Without returns c without some keywords, for a server that is known not to do what it advertises. A keyword cannot be
// added.
func (c Caps) Without(keywords ...string) Caps {
	if c.t == nil {
		return c
	}
	t := &capTable{domain: c.t.domain, args: make(map[string]string, len(c.t.args))}
	drop := make(map[string]bool, len(keywords))
	for _, k := range keywords {
		drop[strings.ToUpper(k)] = true
	}
	for _, name := range c.t.names {
		if !drop[name] {
			t.names = append(t.names, name)
			t.args[name] = c.t.args[name]
		}
	}
	return Caps{t}
}

// parseKeyword parses an ehlo-line (RFC 5321 section 4.1.1.1).
func parseKeyword(line string) (name string, args []string, ok bool) {
	if len(line) > 5 && strings.EqualFold(line[:5], "AUTH=") {
		line = "AUTH " + line[5:]
	}
	args = strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(args) == 0 || !strings.HasPrefix(line, args[0]) || !isKeyword(args[0]) {
		return "", nil, false
	}
	for _, arg := range args[1:] {
		for i := range len(arg) {
			if arg[i] < '!' || arg[i] > '~' {
				return "", nil, false
			}
		}
	}
	return strings.ToUpper(args[0]), args[1:], true
}

// isKeyword reports whether s is an ehlo-keyword.
func isKeyword(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if !('a' <= c && c <= 'z' || '0' <= s[i] && s[i] <= '9' || s[i] == '-' && i > 0) {
			return false
		}
	}
	return s != ""
}

// distinct returns list in its order without repetitions, which may differ in case.
func distinct(list []string) []string {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(s string) bool {
		s = strings.ToUpper(s)
		twice := seen[s]
		seen[s] = true
		return twice
	})
}
