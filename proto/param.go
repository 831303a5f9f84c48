package proto

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxParams bounds the parameters of one command. No command comes near it, and the search for duplicates is quadratic.
const maxParams = 100

// A Param is a parameter of MAIL or RCPT: KEY or KEY=VALUE (RFC 5321 section 4.1.2). The Value is text as it stands on
// the wire. If it may contain spaces, "=" or characters beyond ASCII, it has to be encoded, mostly as xtext, see
// [AppendXtext].
type Param struct {
	Key      string // as it was given, in any case
	Value    string
	HasValue bool // false: a key alone
}

// Params are the parameters of a command in their order. No key is there twice.
type Params []Param

// Get returns the value of the parameter key, in any case, and whether the parameter is there. The value is "" if it
// has none.
func (p Params) Get(key string) (value string, ok bool) {
	if i := p.index(key); i >= 0 {
		return p[i].Value, true
	}
	return "", false
}

// Has reports whether the parameter key is there, in any case, with or without a value.
func (p Params) Has(key string) bool { return p.index(key) >= 0 }

// Set returns p with the parameter key=value, in place of one with the same key if there is one. It does not change p.
// Malformed keys and values are found when the command is written, see [AppendMailArgs].
func (p Params) Set(key, value string) Params { return p.with(Param{key, value, true}) }

// SetFlag returns p with the parameter key, without a value. Otherwise it is like Set.
func (p Params) SetFlag(key string) Params { return p.with(Param{Key: key}) }

func (p Params) with(param Param) Params {
	out := make(Params, len(p), len(p)+1)
	copy(out, p)
	if i := p.index(param.Key); i >= 0 {
		out[i] = param
		return out
	}
	return append(out, param)
}

func (p Params) index(key string) int {
	return slices.IndexFunc(p, func(q Param) bool { return equalFold(q.Key, key) })
}

// The faults of parameters.
const (
	faultParams     fault = "too many parameters"
	faultParamKey   fault = "a parameter is KEY or KEY=VALUE, and KEY is of letters, digits and hyphens"
	faultParamTwice fault = "it is given twice"
	faultParamFlag  fault = "it has a Value, but HasValue is not set"
	faultParamEmpty fault = "its value is empty"
	faultParamValue fault = `its value has a control character, space or "=" in it`
	faultParamUTF8  fault = "its value is not valid UTF-8"
	faultParamASCII fault = "its value is not in ASCII, and the session does not permit UTF-8 there (RFC 6531)"
)

// check returns what is wrong with param as the next of p, or "" if nothing is.
func (p Params) check(param Param, utf8ok bool) fault {
	switch {
	case !isParamKey(param.Key):
		return faultParamKey
	case p.Has(param.Key):
		return faultParamTwice
	case !param.HasValue && param.Value != "":
		return faultParamFlag
	case !param.HasValue:
		return ""
	}
	return checkValue(param.Value, utf8ok)
}

func isParamKey(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && (s[i] != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

func checkValue(s string, utf8ok bool) fault {
	if s == "" {
		return faultParamEmpty
	}
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c == '=' || c == 0x7f:
			return faultParamValue
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	switch {
	case ascii:
		return ""
	case !utf8.ValidString(s):
		return faultParamUTF8
	case !utf8ok:
		return faultParamASCII
	}
	return ""
}

// parseParams parses parameters with spaces before each.
func parseParams(s string) (Params, fault) {
	s = strings.Trim(s, " ")
	if s == "" {
		return nil, ""
	}
	p := make(Params, 0, min(maxParams, 1+strings.Count(s, " ")))
	for s != "" {
		var item string
		item, s, _ = strings.Cut(s, " ")
		s = strings.TrimLeft(s, " ")
		if len(p) == maxParams {
			return nil, faultParams
		}
		var param Param
		param.Key, param.Value, param.HasValue = strings.Cut(item, "=")
		switch f := p.check(param, true); f {
		case "":
		case faultParamKey:
			return nil, f // the key must not be repeated in a reply
		default:
			return nil, "parameter " + fault(param.Key) + ": " + f
		}
		p = append(p, param)
	}
	return p, ""
}

// appendParams appends p with a space before each.
func appendParams(dst []byte, p Params, utf8 bool) ([]byte, error) {
	if len(p) > maxParams {
		return dst, fmt.Errorf("smtp: %w: at most %d can be sent", faultParams, maxParams)
	}
	out := dst
	for i, param := range p {
		if f := p[:i].check(param, utf8); f != "" {
			return dst, fmt.Errorf("smtp: parameter %q cannot be sent: %w", param.Key, f)
		}
		out = append(out, ' ')
		out = append(out, param.Key...)
		if param.HasValue {
			out = append(out, '=')
			out = append(out, param.Value...)
		}
	}
	return out, nil
}
