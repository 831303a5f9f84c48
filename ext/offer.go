package ext

import (
	"strings"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// An Offer says which extensions of a [Set] are advertised in a session. The zero value says that none is. Only the Set
// that made an Offer can use it.
type Offer struct{ bits uint64 }

// maxExtensions is how many extensions of a set an Offer has room for.
const maxExtensions = 64

// Has reports whether the i-th extension in the list of the set is advertised.
func (o Offer) Has(i int) bool { return i >= 0 && i < maxExtensions && o.bits&(1<<i) != 0 }

func (o *Offer) add(i int)    { o.bits |= 1 << i }
func (o *Offer) remove(i int) { o.bits &^= 1 << i }

// includes reports whether all extensions of other are in o.
func (o Offer) includes(other Offer) bool { return other.bits&^o.bits == 0 }

// Offer asks the extensions what they advertise to the session x now. It also returns the lines of the reply to EHLO
// after the first: each is a keyword and its arguments. An extension is left out if its arguments could not be sent as
// they are (RFC 5321 section 4.1.1.1). Arguments that would make a line longer than 500 octets are cut off after the
// last one that fits.
func (s *Set) Offer(x ServerConn) (Offer, []string) {
	var o Offer
	lines := make([]string, len(s.list))
	for i := range s.list {
		if line, ok := s.list[i].line(x); ok {
			lines[i] = line
			o.add(i)
		}
	}
	o = s.withRequired(o)
	advertised := lines[:0]
	for i, line := range lines {
		if o.Has(i) {
			advertised = append(advertised, line)
		}
	}
	return o, advertised
}

// line returns the line of e in the reply to EHLO, and reports whether e is advertised to x.
func (e *Extension) line(x ServerConn) (string, bool) {
	if e.Keyword == "" || e.Role == SubmissionOnly && isRelay(x) {
		return "", false
	}
	if e.Advertise == nil {
		return e.Keyword, true
	}
	args, ok := e.Advertise(x)
	if !ok || strings.Trim(args, " ") != args || !grammar.Printable(args) {
		return "", false
	}
	line := e.Keyword
	if args != "" {
		line += " " + args
	}
	if len(line) > grammar.MaxOffer {
		line = line[:strings.LastIndexByte(line[:grammar.MaxOffer+1], ' ')]
	}
	return line, true
}

// Offered returns which extensions of the set a server advertises in c, its reply to EHLO.
func (s *Set) Offered(c proto.Caps) Offer {
	var o Offer
	for i := range s.list {
		if keyword := s.list[i].Keyword; keyword != "" && c.Has(keyword) {
			o.add(i)
		}
	}
	return s.withRequired(o)
}

// withRequired returns o without the extensions that require one that o does not have. Servers are known to advertise
// SMTPUTF8 without 8BITMIME: then SMTPUTF8 counts as not advertised (RFC 6531 section 3.1).
func (s *Set) withRequired(o Offer) Offer {
	for {
		before := o
		for i, required := range s.requires {
			if !o.includes(required) {
				o.remove(i)
			}
		}
		if o == before {
			return o
		}
	}
}

// StatusCodes reports whether replies carry enhanced status codes.
func (s *Set) StatusCodes(o Offer) bool {
	for i := range s.list {
		if o.Has(i) && s.list[i].StatusCodes {
			return true
		}
	}
	return false
}

// Pipelining reports whether commands may be sent in groups.
func (s *Set) Pipelining(o Offer) bool {
	for i := range s.list {
		if o.Has(i) && s.list[i].Pipelining {
			return true
		}
	}
	return false
}

// Chunk returns the verb that carries content in counted chunks, or nil.
func (s *Set) Chunk(o Offer) *proto.Verb {
	for i := range s.list {
		if o.Has(i) && s.list[i].Chunk != "" {
			return s.table.Lookup(s.list[i].Chunk)
		}
	}
	return nil
}
