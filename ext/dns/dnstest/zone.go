package dnstest

import (
	"strings"

	"smtpkit.example/smtp/ext/dns"
)

// A zone has what each name has, by type.
type zone struct {
	names map[string]map[dns.Type]*set
	below map[string]int // how many of names are below this one
}

// A set is what a name has of one type: records or a fault.
type set struct {
	records []record
	fault   fault
}

// A link is one step of the way from the name asked for to the one that has the records.
type link struct {
	name    string
	records []record
}

func (z *zone) put(q question, s *set) {
	if s.fault != none {
		s.records = nil
	}
	if z.names[q.name] == nil {
		z.names[q.name] = map[dns.Type]*set{}
		z.count(q.name, 1)
	}
	z.names[q.name][q.t] = s
}

func (z *zone) remove(name string, types ...dns.Type) {
	has, ok := z.names[name]
	if !ok {
		return
	}
	for _, t := range types {
		delete(has, t)
	}
	if len(has) == 0 || len(types) == 0 {
		delete(z.names, name)
		z.count(name, -1)
	}
}

func (z *zone) count(name string, n int) {
	for name != "." {
		name = parent(name)
		z.below[name] += n
	}
}

// parent returns the name above name, which is not the root.
func parent(name string) string {
	if _, above, ok := strings.Cut(name, "."); ok {
		return above
	}
	return "."
}

// chain follows aliases from name. It returns all the links, the last one with the records of type t if there are any.
// The fault is noName if the last name does not exist.
func (z *zone) chain(name string, t dns.Type) ([]link, fault) {
	var links []link
	for range maxAliases + 1 {
		types, exists := z.at(name)
		found, alias := types[Any], types[dns.CNAME]
		if found == nil {
			found = types[t]
		}
		switch {
		case !exists:
			return append(links, link{name: name}), noName
		case found != nil && found.fault == noData:
			return append(links, link{name: name}), none
		case found != nil:
			return append(links, link{name, found.records}), found.fault
		case alias == nil || alias.fault != none:
			return append(links, link{name: name}), none
		}
		links = append(links, link{name, alias.records})
		name = alias.records[0].name
	}
	return nil, tooLong
}

// at returns what name has, by itself or by a wildcard (RFC 4592 section 3.3.1), and whether it exists. A name exists
// if one below it does (RFC 8020 section 2).
func (z *zone) at(name string) (types map[dns.Type]*set, exists bool) {
	if types, ok := z.names[name]; ok || z.below[name] > 0 || name == "." {
		return types, true
	}
	encloser := parent(name)
	for encloser != "." && z.names[encloser] == nil && z.below[encloser] == 0 {
		encloser = parent(encloser)
	}
	wildcard := "*"
	if encloser != "." {
		wildcard += "." + encloser
	}
	types, exists = z.names[wildcard]
	return types, exists
}
