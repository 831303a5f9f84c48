package ext

import (
	"fmt"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// A Param describes a parameter of MAIL or RCPT (RFC 5321 section 4.1.2). Two extensions may describe the same Key if
// both have Values; the parameter then takes the values of both.
type Param struct {
	Key string // in upper case
	// MaxLength is the largest number of octets that the parameter adds to the command line, with the space before it: the
	// length of " KEY=" and of the longest value.
	MaxLength int
	// Flag says that the parameter takes no value. Optional says that it may have one. By default it must have one.
	Flag, Optional bool
	// ConflictsWith is the Key of another parameter, described before this one. A command with both gets 501 5.5.4, and
	// the command line has room for the longer one.
	ConflictsWith string
	// Values are the possible values, in upper case; case does not matter. Nil means that Check decides.
	Values []string
	// Check returns an error if value is malformed. The server answers 501 5.5.4 with the text of the error. If the error
	// is a *proto.Error with a Status of class 5, that replaces 5.5.4. Nil accepts every value.
	//
	// Check need not look for values that the grammar forbids anyway, such as "" or "a=b" (RFC 5321 section 4.1.2).
	Check func(value string) error
	// UTF8 says that the parameter permits UTF-8 in the addresses of the transaction and in replies to it (RFC 6531
	// section 3.4).
	UTF8 bool
	// PerRecipient says that this parameter of MAIL asks for an outcome for each recipient. The server may then answer the
	// content with 353, one reply for each recipient, and one for all.
	PerRecipient bool
	// Binary is the value that declares the content to be binary: CR and LF are octets like any other, and only chunks can
	// carry it (RFC 3030 section 3).
	Binary string
}

// CheckMail checks the parameters of a MAIL command against o, and returns the reply to refuse it with, or nil. An
// unknown parameter gets 555, a malformed one 501 (RFC 5321 section 4.1.1.11). CheckMail does not call the extensions'
// CheckMail.
func (s *Set) CheckMail(o Offer, p proto.Params) *proto.Error { return check(s.mail, o, p) }

// CheckRcpt checks the parameters of a RCPT command in the same way.
func (s *Set) CheckRcpt(o Offer, p proto.Params) *proto.Error { return check(s.rcpt, o, p) }

// UTF8 reports whether the parameters of a MAIL command permit UTF-8 in the addresses of the transaction.
func (s *Set) UTF8(o Offer, p proto.Params) bool {
	return s.declares(o, p, func(u *use, _ *proto.Param) bool { return u.UTF8 })
}

// Binary reports whether the parameters of a MAIL command declare the content to be binary.
func (s *Set) Binary(o Offer, p proto.Params) bool {
	return s.declares(o, p, func(u *use, p *proto.Param) bool {
		return u.Binary != "" && p.HasValue && grammar.EqualFold(u.Binary, p.Value)
	})
}

func (s *Set) declares(o Offer, params proto.Params, f func(*use, *proto.Param) bool) bool {
	for i := range params {
		r := find(s.mail, params[i].Key)
		if r == nil {
			continue
		}
		for j := range r.uses {
			if u := &r.uses[j]; o.Has(u.ext) && f(u, &params[i]) {
				return true
			}
		}
	}
	return false
}

// A rule is a parameter, with what each extension that has it says of it.
type rule struct {
	key  string
	uses []use
}

// A use is the description of a parameter by one extension.
type use struct {
	Param
	ext int // index of the extension
}

// describe adds params, the parameters that the extension with the index ext adds to verb, to rules.
func (s *Set) describe(rules []rule, verb string, ext int, params []Param) ([]rule, error) {
	name := s.list[ext].Keyword
	for _, p := range params {
		var wrong string
		switch {
		case !grammar.IsKeyword(p.Key):
			wrong = "has to be of upper-case letters, digits and hyphens, with no hyphen at the beginning"
		case p.MaxLength < len(p.Key)+1:
			wrong = fmt.Sprintf("cannot be as short as its MaxLength, %d: count the space before it", p.MaxLength)
		case p.Flag && (p.Optional || p.Values != nil || p.Check != nil || p.Binary != ""):
			wrong = "is a Flag, and can have no Values, Check, Optional or Binary"
		case p.ConflictsWith != "" && find(rules, p.ConflictsWith) == nil:
			wrong = "can conflict with " + p.ConflictsWith + " only if that is described before it"
		}
		if wrong != "" {
			return nil, fmt.Errorf("smtp: the %s parameter %q of %s %s", verb, p.Key, name, wrong)
		}
		r := find(rules, p.Key)
		if r == nil {
			rules = append(rules, rule{key: p.Key, uses: []use{{p, ext}}})
			continue
		}
		for _, u := range r.uses {
			if u.Values == nil || p.Values == nil || u.Optional != p.Optional {
				return nil, fmt.Errorf("smtp: the %s parameter %s is defined by both %s and %s: use one of them, "+
					"or another key; they can share it if both have Values, and both or none are Optional",
					verb, p.Key, s.list[u.ext].Keyword, name)
			}
		}
		r.uses = append(r.uses, use{p, ext})
	}
	return rules, nil
}

// grow returns how many octets all parameters together may add to a command line (RFC 5321 section 4.5.3.1.4).
func grow(rules []rule) int {
	sum := 0
	for i := range rules {
		sum += rules[i].maxLength()
		for _, u := range rules[i].uses {
			if u.ConflictsWith != "" {
				sum -= min(rules[i].maxLength(), find(rules, u.ConflictsWith).maxLength())
				break
			}
		}
	}
	return sum
}

// maxLength returns how many octets the parameter may add to a command line.
func (r *rule) maxLength() int {
	n := 0
	for i := range r.uses {
		n = max(n, r.uses[i].MaxLength)
	}
	return n
}

// split returns a function that reports whether the arguments of MAIL ask for an outcome for each recipient. It returns
// nil if no parameter can ask for that.
func split(rules []rule) func([]byte) bool {
	var keys []string
	for _, r := range rules {
		for _, u := range r.uses {
			if u.PerRecipient {
				keys = append(keys, r.key)
			}
		}
	}
	if keys == nil {
		return nil
	}
	return func(args []byte) bool {
		for _, key := range keys {
			if !mentions(args, key) {
				continue // messages that do not ask need no parsing
			}
			if _, params, err := proto.ParseMailArgs(args, true); err == nil && params.Has(key) {
				return true
			}
		}
		return false
	}
}

// mentions reports whether key stands anywhere in args, in any case.
func mentions(args []byte, key string) bool {
	for i := 0; i+len(key) <= len(args); i++ {
		j := 0
		for j < len(key) && grammar.Upper(args[i+j]) == key[j] {
			j++
		}
		if j == len(key) {
			return true
		}
	}
	return false
}

func find(rules []rule, key string) *rule {
	for i := range rules {
		if grammar.EqualFold(rules[i].key, key) {
			return &rules[i]
		}
	}
	return nil
}

func check(rules []rule, o Offer, params proto.Params) *proto.Error {
	for i := range params {
		p := &params[i]
		r := find(rules, p.Key)
		if r == nil || !r.offered(o) {
			return proto.Refuse(555, proto.Status{5, 5, 4}, "The parameter "+p.Key+" is not known here")
		}
		if f := r.check(o, params, p); f.text != "" {
			e := grammar.BadArgs("Bad parameter: " + f.text)
			if f.status.Class() == 5 {
				e.Status = f.status
			}
			return e
		}
	}
	return nil
}

// offered reports whether an extension that describes the parameter is advertised.
func (r *rule) offered(o Offer) bool {
	for i := range r.uses {
		if o.Has(r.uses[i].ext) {
			return true
		}
	}
	return false
}

// A flaw says what is wrong with a parameter. A flaw without text means that nothing is.
type flaw struct {
	text   string
	status proto.Status // zero stands for 5.5.4
}

// check returns what is wrong with p, one of params. The advertised ones among r.uses differ only in the values.
func (r *rule) check(o Offer, params proto.Params, p *proto.Param) flaw {
	for i := range r.uses {
		u := &r.uses[i]
		switch {
		case !o.Has(u.ext):
			continue
		case u.ConflictsWith != "" && params.Has(u.ConflictsWith):
			return flaw{text: u.Key + " and " + u.ConflictsWith + " cannot be used together"}
		case u.Flag:
			if p.HasValue {
				return flaw{text: u.Key + " takes no value"}
			}
			return flaw{}
		case !p.HasValue:
			if !u.Optional {
				return flaw{text: u.Key + " needs a value"}
			}
			return flaw{}
		case u.Values != nil && !u.has(p.Value):
			continue
		}
		return u.check(p.Value)
	}
	return flaw{text: r.key + " cannot have that value"}
}

func (u *use) has(value string) bool {
	for _, v := range u.Values {
		if grammar.EqualFold(v, value) {
			return true
		}
	}
	return false
}

func (u *use) check(value string) flaw {
	if u.Check == nil {
		return flaw{}
	}
	err := u.Check(value)
	if err == nil {
		return flaw{}
	}
	f := flaw{text: grammar.Cause(err)}
	if e, ok := grammar.AsType[*proto.Error](err); ok {
		f = flaw{e.Text, e.Status}
	}
	if f.text == "" {
		f.text = u.Key + " cannot have that value" // an error without a text refuses too
	}
	return f
}
