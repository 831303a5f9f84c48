package ext

import (
	"fmt"
	"reflect"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// A Set is the list of extensions that a server or a client uses, checked and prepared. It is immutable and safe for
// concurrent use. Authors of extensions do not need it: it is for those who build a server or a client of their own.
type Set struct {
	list     []Extension
	requires []Offer // for each extension, those that it requires
	table    *proto.Table
	owner    map[string]int // from the name of a verb to the index of its extension
	mail     []rule
	rcpt     []rule
}

// NewSet returns the set of the extensions in list, which is copied. An empty list is a set without extensions; for the
// usual ones use ehlo.DefaultFor. The error names the two extensions that clash over a keyword, a verb or a parameter,
// or says what is wrong with one of them. A set has at most 64 extensions.
func NewSet(p proto.Protocol, list []Extension) (*Set, error) {
	if len(list) > maxExtensions {
		return nil, fmt.Errorf("smtp: %d extensions are more than the %d that can be used at once", len(list), maxExtensions)
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

// Table returns the commands of the protocol and of the extensions. The lines of MAIL and RCPT have room for all
// parameters of the set at once.
func (s *Set) Table() *proto.Table { return s.table }

// Extensions returns the list. It belongs to the set and must not be changed.
func (s *Set) Extensions() []Extension { return s.list }

// Owner returns the extension that v, or a variant of it, belongs to, and the index of that extension in the list. It
// returns nil and -1 for a command of the protocol itself.
func (s *Set) Owner(v *proto.Verb) (*Extension, int) {
	if v != nil {
		if i, ok := s.owner[v.Name]; ok {
			return &s.list[i], i
		}
	}
	return nil, -1
}

// verbs checks keywords and the names of verbs, and returns the rows of all extensions. It fills in s.owner.
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
	for _, t := range e.Interfaces {
		if t == nil || t.Kind() != reflect.Interface || t.NumMethod() == 0 {
			return fmt.Errorf("smtp: %v in %s.Interfaces is no interface with methods: use reflect.TypeFor with the "+
				"interface that the extension looks for", t, e.name())
		}
	}
	return nil
}

// onlyRefuses reports whether e has no keyword and needs none, because a client can use nothing in it.
func (e *Extension) onlyRefuses() bool {
	for i := range e.Verbs {
		if e.Verbs[i].OK != proto.Never {
			return false
		}
	}
	refuses := len(e.Verbs) > 0 || e.Guard != nil || e.CheckMail != nil || e.CheckRcpt != nil
	return e.Keyword == "" && refuses && len(e.Mail)+len(e.Rcpt) == 0
}

// name returns the name of e for errors.
func (e *Extension) name() string {
	switch {
	case e.Role == MakesSubmission:
		return "the submission policy"
	case e.Keyword == "":
		return "an extension without keyword"
	}
	return e.Keyword
}

// resolve looks up the extensions that others require, and fills in s.requires.
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
			s.requires[i].add(j)
		}
	}
	return nil
}
