package exttest

import (
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

const (
	ruleDefinition = "RFC 5321 section 2.2.2"
	ruleOffer      = "RFC 5321 section 4.1.1.1"
	ruleValue      = "RFC 5321 section 4.1.2"
	ruleUnknown    = "RFC 5321 section 4.1.1.11"
	ruleSyntax     = "RFC 5321 section 4.2.2"
	ruleLine       = "RFC 5321 section 4.5.3.1.4"
	ruleReplyLine  = "RFC 5321 section 4.5.3.1.5"
	ruleCase       = "RFC 5321 section 2.4"
	ruleOrder      = "RFC 5321 section 4.1.4"
	ruleReply      = "RFC 5321 section 4.2"
	ruleCode       = "RFC 5321 section 4.2.1"
	ruleCommand    = "RFC 5321 section 4.2.4"
	ruleService    = "RFC 5321 section 2.2.1"
	ruleGroups     = "RFC 2920 section 3.1"
)

// description checks the fields of the extension, beside all extensions of the library and in several orders.
func (s *suite) description() {
	var with []ext.Extension
	for i := range s.samples {
		with = append(with, s.samples[i].With...)
	}
	base := required(&s.e, with, nil)
	rest := without(library(), &s.e)
	for i := range base {
		rest = without(rest, &base[i])
	}
	alone := append(slices.Clone(base), s.e)
	for _, list := range [][]ext.Extension{
		alone,
		append(slices.Clone(alone), rest...),
		append(append(slices.Clone(base), rest...), s.e),
		append([]ext.Extension{s.e}, append(slices.Clone(rest), base...)...),
	} {
		for _, p := range []proto.Protocol{proto.SMTP, proto.LMTP} {
			if _, err := ext.NewSet(p, list); err != nil {
				s.broken(ruleDefinition, "it cannot be used: %s", strings.TrimPrefix(err.Error(), "smtp: "))
			}
		}
	}
	if !s.found.none() {
		return
	}
	for i := range s.samples {
		for _, text := range slices.Concat(s.samples[i].Mail, s.samples[i].Rcpt) {
			if parse(text) == nil {
				s.broken(ruleValue, "%q in the Sample are not parameters: write them as in a command, such as "+
					"\"KEY=value FLAG\"", text)
			}
		}
	}
	s.describeVerbs()
	s.describeParams("MAIL", s.e.Mail, func(e *ext.Extension) []ext.Param { return e.Mail })
	s.describeParams("RCPT", s.e.Rcpt, func(e *ext.Extension) []ext.Param { return e.Rcpt })
}

func (s *suite) describeVerbs() {
	for i := range s.e.Verbs {
		v := &s.e.Verbs[i]
		if strings.HasPrefix(s.e.Keyword, "X") && v.Name[0] != 'X' {
			s.broken(ruleDefinition, "the verb %s of a private extension has to begin with X, as its keyword does", v.Name)
		}
		if (v.OK == proto.Handover || v.More == proto.Exchange || v.More == proto.Content) && !v.Last {
			s.broken(ruleGroups, "after the verb %s the wire carries something else than commands, so nothing may "+
				"be sent behind it: set Last", v.Name)
		}
		if s.e.Serve == nil && v.Name != s.e.Chunk && (s.e.Fetch == nil || v.In&proto.Chunks == 0) {
			s.broken(ruleCommand, "the verb %s is never carried out: set Serve", v.Name)
		}
	}
}

func (s *suite) describeParams(command string, params []ext.Param, of func(*ext.Extension) []ext.Param) {
	for i := range params {
		p := &params[i]
		known := false
		for _, other := range without(library(), &s.e) {
			known = known || find(of(&other), p.Key) != nil
		}
		if strings.HasPrefix(s.e.Keyword, "X") && p.Key[0] != 'X' && !known {
			s.broken(ruleDefinition, "the %s parameter %s of a private extension has to begin with X, as its keyword does",
				command, p.Key)
		}
		if p.Binary != "" && p.Values != nil && !slices.Contains(p.Values, p.Binary) {
			s.broken(ruleDefinition, "the Binary of the %s parameter %s is %q, which is none of its Values",
				command, p.Key, p.Binary)
		}
		for _, v := range p.Values {
			switch {
			case !isValue(v):
				s.broken(ruleValue, "the %s parameter %s cannot have %q for one of its Values: it cannot be sent",
					command, p.Key, v)
			case v != strings.ToUpper(v):
				s.broken(ruleCase, "the value %q of the %s parameter %s has to be in upper case in Values; any case matches",
					v, command, p.Key)
			case len(" "+p.Key+"="+v) > p.MaxLength:
				s.broken(ruleLine, "the %s parameter %s=%s takes %d octets with the space before it, and its MaxLength "+
					"is %d: raise it",
					command, p.Key, v, len(" "+p.Key+"="+v), p.MaxLength)
			}
		}
	}
}

// find returns the parameter of that key, or nil.
func find(params []ext.Param, key string) *ext.Param {
	for i := range params {
		if strings.EqualFold(params[i].Key, key) {
			return &params[i]
		}
	}
	return nil
}
