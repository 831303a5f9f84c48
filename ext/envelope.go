package ext

import (
	"errors"

	"smtpkit.example/smtp/proto"
)

// A Feature is something that a message can need from the server that takes it, and that an extension can provide.
// Features are bits and can be combined.
type Feature uint8

// The features.
const (
	EightBit Feature = 1 << iota // the content has octets above 127 (RFC 6152)
	Binary                       // the content is not lines of text (RFC 3030 section 3)
	UTF8                         // an address or a header field has UTF-8 in it (RFC 6531 section 3)
)

// An Envelope is what extensions see of a message that a client is about to send. It is a copy: Prepare may change Mail
// and the Params of each recipient, but not who the recipients are. It is valid only until Prepare returns.
type Envelope struct {
	From proto.Address
	Mail proto.Params // parameters of the MAIL command
	To   []proto.Recipient
	// Size is the size in octets of the content as it will be transmitted, without dot-stuffing (RFC 1870 section 6). It
	// is -1 if unknown. Of content that is longer than 256 KiB it may be an estimate.
	Size int64
	// Needs has the features that the message needs.
	Needs Feature
	// Verified says that the connection has TLS and that the server's certificate was verified.
	Verified bool
	// AllOrNone says that nobody is to get the message unless all of To do. An extension then must not ask the server for
	// what may give it to some.
	AllOrNone bool
}

// NonASCII names an address of e that cannot be written in ASCII, or returns "". A domain always can (RFC 5891).
func (e *Envelope) NonASCII() string {
	if !e.From.IsASCII() {
		return "the sender " + e.From.String()
	}
	for _, r := range e.To {
		if !r.Address.IsASCII() {
			return "the recipient " + r.Address.String()
		}
	}
	return ""
}

// Prepare makes e ready for a server whose reply to EHLO is c, of which o is made. Each advertised extension adds its
// parameters, or refuses the message. Then Prepare checks the parameters as a server would check them. An
// [UnsupportedError] says which extension the server lacks, for a parameter that the caller has set or for something
// that the message needs.
func (s *Set) Prepare(o Offer, c proto.Caps, e *Envelope) error {
	rcpts := len(e.To)
	for i := range s.list {
		if o.Has(i) && s.list[i].Prepare != nil {
			if err := s.list[i].Prepare(c, e); err != nil {
				return err
			}
			if len(e.To) != rcpts {
				return errors.New("smtp: the extension " + s.list[i].Keyword +
					" changes the recipients of a message: its Prepare may only add parameters")
			}
		}
	}
	if err := s.params(s.mail, "MAIL", o, e.Mail); err != nil {
		return err
	}
	for i := range e.To {
		if err := s.params(s.rcpt, "RCPT", o, e.To[i].Params); err != nil {
			return err
		}
	}
	return s.needs(o, e)
}

// params checks that the advertised extensions have the parameters, and that a server would accept them.
func (s *Set) params(rules []rule, verb string, o Offer, params proto.Params) error {
	for i := range params {
		p := &params[i]
		r := find(rules, p.Key)
		if r == nil {
			return &UnsupportedError{What: "the " + verb + " parameter " + p.Key}
		}
		if !r.offered(o) {
			return s.missing(r.uses[0].ext, "the "+verb+" parameter "+p.Key)
		}
		f := r.check(o, params, p)
		if f.text == "" {
			continue
		}
		for _, u := range r.uses {
			if !o.Has(u.ext) && u.has(p.Value) {
				return s.missing(u.ext, verb+" with "+p.Key+"="+p.Value)
			}
		}
		return errors.New("smtp: " + verb + " cannot be sent: " + f.text)
	}
	return nil
}

// needs checks that the advertised extensions provide what e needs.
func (s *Set) needs(o Offer, e *Envelope) error {
	var provided Feature
	for i := range s.list {
		if o.Has(i) {
			provided |= s.list[i].Provides
		}
	}
	if provided&UTF8 == 0 {
		if what := e.NonASCII(); what != "" {
			return s.Unsupported(UTF8, what)
		}
	}
	missing := e.Needs &^ provided
	if e.Needs&Binary != 0 {
		missing &^= EightBit // Binary covers octets above 127
	}
	for _, n := range []struct {
		feature Feature
		what    string
	}{
		{Binary, "binary content"},
		{EightBit, "content with 8-bit octets"},
		{UTF8, "a message with UTF-8 in its header or its addresses"},
	} {
		if missing&n.feature != 0 {
			e := s.Unsupported(n.feature, n.what)
			if n.feature == UTF8 {
				e.Code = proto.Status{5, 6, 9} // not an address but the content needs it (RFC 6531 section 3.5)
			}
			return e
		}
	}
	return nil
}

// Unsupported returns the error for a message that needs f while no advertised extension provides it. What names the
// part of the message that needs it.
func (s *Set) Unsupported(f Feature, what string) *UnsupportedError {
	for i := range s.list {
		if s.list[i].Provides&f != 0 {
			return s.missing(i, what)
		}
	}
	return &UnsupportedError{What: what}
}

// missing returns the error for a part of a message, what, that needs the i-th extension while that is not advertised.
func (s *Set) missing(i int, what string) *UnsupportedError {
	return &UnsupportedError{Keyword: s.list[i].Keyword, What: what, Code: s.list[i].Missing}
}
