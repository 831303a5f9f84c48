package server

import "strings"

// addressFields are the fields whose values are addresses (RFC 5322 sections 3.6.2, 3.6.3 and 3.6.6).
var addressFields = map[string]bool{
	"from": true, "sender": true, "reply-to": true, "to": true, "cc": true, "bcc": true,
	"resent-from": true, "resent-sender": true, "resent-to": true, "resent-cc": true, "resent-bcc": true, "resent-reply-to": true,
}

// A domainScan finds domains that are not fully qualified in the value of such a field, which it is given in pieces. It keeps
// no more of it than the beginning of a domain. What is malformed is nothing to it.
type domainScan struct {
	completes func(name string) bool

	quoted, literal bool // within "…" or […]
	comments        int  // that are open
	escaped         bool // behind a backslash in one of these
	domain          bool // behind an "@"
	name            []byte
	dotted          bool
	gap             bool   // white space or a comment has come behind the name
	bad             string // the domain to be told, unless it turns out to be part of a name that is displayed
}

// longestShown is how much of a domain is kept.
const longestShown = 64

// scan goes on with piece. It returns a domain that is not fully qualified, or "".
func (s *domainScan) scan(piece []byte) string {
	for _, b := range piece {
		switch {
		case s.escaped:
			s.escaped = false
		case b == '\\' && (s.quoted || s.literal || s.comments > 0):
			s.escaped = true
		case s.quoted:
			s.quoted = b != '"'
		case s.literal:
			s.literal = b != ']'
		case s.comments > 0 && b == ')':
			s.comments--
		case b == '(':
			s.comments++
			s.gap = true
		case s.comments > 0:
		default:
			if bad := s.next(b); bad != "" {
				return bad
			}
		}
	}
	return ""
}

// next goes on with an octet that is in none of what has marks at both ends.
func (s *domainScan) next(b byte) string {
	switch b {
	case ' ', '\t', '\r', '\n':
		s.gap = true
	case '"':
		s.finish()
		s.quoted = true
	case '[':
		s.domain, s.literal = false, true
	case '@':
		s.finish()
		s.domain, s.dotted, s.gap, s.name = true, false, false, s.name[:0]
	case '<':
		s.finish()
		s.bad = "" // it was in a name, which must not have an "@" in it and often has
	case '>', ',', ';', ':':
		return s.end()
	case '.':
		s.dotted = true
	default:
		// White space ends a domain, except around the dots of what is old (RFC 5322 section 4.4). That has dots then.
		if s.gap && len(s.name) > 0 {
			s.finish()
		}
		if s.gap = false; s.domain && len(s.name) < longestShown {
			s.name = append(s.name, b)
		}
	}
	return ""
}

// finish is called behind what may have been a domain.
func (s *domainScan) finish() {
	if s.domain && len(s.name) > 0 && !s.dotted && s.bad == "" {
		s.bad = string(s.name)
	}
	s.domain = false
}

// end is called behind each address and at the end of the field.
func (s *domainScan) end() string {
	s.finish()
	bad := s.bad
	s.bad = ""
	if s.completes != nil && s.completes(strings.ToLower(bad)) {
		return ""
	}
	return bad
}
