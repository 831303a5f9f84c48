package ext

import (
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// A Set is the list of extensions that a server or a client uses, checked and made ready. It is immutable and safe
// for concurrent use.
type Set struct {
	list     []Extension
	requires []Offer // for each extension, those it builds on
	table    *proto.Table
	owner    map[string]int // from the name of a verb to the extension it belongs to
	mail     []rule
	rcpt     []rule
}

// NewSet returns the set of the extensions in list, which is copied. It is for those who build an end of their own: package
// server and package client make the set from their options. An error names the two extensions that clash over a keyword, a
// verb or a parameter, or says what is wrong with one of them. A set can have 64 extensions.
func NewSet(p proto.Protocol, list []Extension) (*Set, error) {
	if len(list) > 64 {
		return nil, fmt.Errorf("smtp: %d extensions are more than the 64 that can be used at once", len(list))
	}
	s := &Set{list: append([]Extension(nil), list...), owner: make(map[string]int)}
	verbs, err := s.verbs()
	if err != nil {
		return nil, err
	}
	for i := range s.list {
		e := &s.list[i]
		if s.mail, err = s.describe(s.mail, "MAIL", i, e.Mail); err != nil {
			return nil, err
		}
		if s.rcpt, err = s.describe(s.rcpt, "RCPT", i, e.Rcpt); err != nil {
			return nil, err
		}
	}
	if err := s.resolve(); err != nil {
		return nil, err
	}
	verbs = append(verbs,
		proto.Verb{Name: "MAIL", Grow: grow(s.mail), Split: split(s.mail)},
		proto.Verb{Name: "RCPT", Grow: grow(s.rcpt)})
	s.table, err = proto.NewTable(p, verbs...)
	return s, err
}

// Table returns the commands: those of the protocol and those of the extensions. Their lines have room for all
// parameters of the set at once.
func (s *Set) Table() *proto.Table { return s.table }

// Extensions returns the list. It belongs to the set and must not be changed.
func (s *Set) Extensions() []Extension { return s.list }

// Owner returns the extension that v, or a variant of it, belongs to and its place in the list; nil and -1 for a
// command of the protocol itself.
func (s *Set) Owner(v *proto.Verb) (*Extension, int) {
	if v != nil {
		if i, ok := s.owner[v.Name]; ok {
			return &s.list[i], i
		}
	}
	return nil, -1
}

// An Offer tells which extensions of a set are on offer in a session. Bit i stands for the i-th of the list.
type Offer uint64

// Has reports whether the i-th extension is on offer.
func (o Offer) Has(i int) bool { return i >= 0 && i < 64 && o&(1<<i) != 0 }

// Offer asks the extensions what they have to offer to the session x now. It returns the lines of the reply to EHLO
// as well, those after the first: each a keyword and its arguments. An extension whose arguments could not be sent as
// they are (RFC 5321 section 4.1.1.1) is left out, and arguments that would make a line longer than 500 octets are
// cut off behind the last one that fits.
func (s *Set) Offer(x ServerConn) (Offer, []string) {
	var o Offer
	lines := make([]string, len(s.list))
	for i := range s.list {
		e := &s.list[i]
		lines[i] = e.Keyword
		if e.Keyword == "" || e.Role == SubmissionOnly && isRelay(x) {
			continue
		}
		if e.Advertise != nil {
			args, ok := e.Advertise(x)
			if !ok || strings.Trim(args, " ") != args || !grammar.Printable(args) {
				continue
			}
			if args != "" {
				lines[i] += " " + args
			}
			if len(lines[i]) > grammar.MaxOffer {
				lines[i] = lines[i][:strings.LastIndexByte(lines[i][:grammar.MaxOffer+1], ' ')]
			}
		}
		o |= 1 << i
	}
	o = s.founded(o)
	said := lines[:0]
	for i, line := range lines {
		if o.Has(i) {
			said = append(said, line)
		}
	}
	return o, said
}

// Offered returns which extensions of the set a server has offered in its reply to EHLO.
func (s *Set) Offered(c proto.Caps) Offer {
	var o Offer
	for i := range s.list {
		if keyword := s.list[i].Keyword; keyword != "" && c.Has(keyword) {
			o |= 1 << i
		}
	}
	return s.founded(o)
}

// founded takes those from o that build on something not in it. Of a server's mistakes in this the known one is
// SMTPUTF8 without 8BITMIME; it is then as if SMTPUTF8 had not been offered (RFC 6531 section 3.1).
func (s *Set) founded(o Offer) Offer {
	for {
		was := o
		for i, need := range s.requires {
			if need&^o != 0 {
				o &^= 1 << i
			}
		}
		if o == was {
			return o
		}
	}
}

// Status reports whether replies carry enhanced status codes.
func (s *Set) StatusCodes(o Offer) bool {
	for i := range s.list {
		if o.Has(i) && s.list[i].StatusCodes {
			return true
		}
	}
	return false
}

// Groups reports whether commands may be sent in groups.
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

// verbs returns the rows of all extensions, having checked keywords and the names of verbs.
func (s *Set) verbs() ([]proto.Verb, error) {
	core, err := proto.NewTable(proto.SMTP)
	if err != nil {
		return nil, err
	}
	var verbs []proto.Verb
	keywords := make(map[string]bool)
	for i := range s.list {
		e := &s.list[i]
		if err := e.check(); err != nil {
			return nil, err
		}
		if keywords[e.Keyword] {
			return nil, fmt.Errorf("smtp: the extension %s is in the list twice", e.Keyword)
		}
		keywords[e.Keyword] = e.Keyword != ""
		chunk := e.Chunk == ""
		for _, v := range e.Verbs {
			if j, ok := s.owner[v.Name]; ok {
				return nil, fmt.Errorf("smtp: the verb %s is defined by both %s and %s: use one of them",
					v.Name, s.list[j].name(), e.name())
			}
			if core.Lookup(v.Name) != nil || v.Name == "LHLO" {
				return nil, fmt.Errorf("smtp: the verb %s of %s is one of the protocol itself", v.Name, e.name())
			}
			s.owner[v.Name] = i
			verbs = append(verbs, v)
			chunk = chunk || v.Name == e.Chunk && v.Payload != nil
		}
		if !chunk {
			return nil, fmt.Errorf("smtp: %s.Chunk is %q: it has to name one of its Verbs, with a Payload",
				e.Keyword, e.Chunk)
		}
	}
	return verbs, nil
}

// check returns what is wrong with e by itself.
func (e *Extension) check() error {
	switch {
	case e.Invalid != nil:
		return e.Invalid
	case !grammar.IsKeyword(e.Keyword) && !e.onlyRefuses():
		return fmt.Errorf("smtp: %q is not an EHLO keyword: use upper-case letters, digits and hyphens, with "+
			"no hyphen at the beginning (RFC 5321 section 4.1.1.1)", e.Keyword)
	}
	return nil
}

// onlyRefuses reports whether e has no keyword and needs none, because there is nothing in it that a client can use.
func (e *Extension) onlyRefuses() bool {
	for i := range e.Verbs {
		if e.Verbs[i].OK != proto.Never {
			return false
		}
	}
	refuses := len(e.Verbs) > 0 || e.Guard != nil || e.CheckMail != nil || e.CheckRcpt != nil
	return e.Keyword == "" && refuses && len(e.Mail)+len(e.Rcpt) == 0
}

// name is what e is called in errors.
func (e *Extension) name() string {
	switch {
	case e.Role == MakesSubmission:
		return "the submission policy"
	case e.Keyword == "":
		return "an extension without keyword"
	}
	return e.Keyword
}

// resolve looks up what the extensions build on.
func (s *Set) resolve() error {
	s.requires = make([]Offer, len(s.list))
	for i := range s.list {
		for _, keyword := range s.list[i].Requires {
			j := 0
			for j < len(s.list) && s.list[j].Keyword != keyword {
				j++
			}
			if j == len(s.list) {
				return fmt.Errorf("smtp: %s requires %s: add that to the list, or leave this one out",
					s.list[i].name(), keyword)
			}
			s.requires[i] |= 1 << j
		}
	}
	return nil
}
