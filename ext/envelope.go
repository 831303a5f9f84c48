package ext

import (
	"errors"

	"smtpkit.example/smtp/proto"
)

// A Feature is something that a message needs of the way it is sent. Features are bits and can be combined.
type Feature uint8

// The needs of a message.
const (
	EightBit Feature = 1 << iota // the content has octets above 127 (RFC 6152)
	Binary                       // the content is not lines of text (RFC 3030 section 3)
	UTF8                         // an address or a header field has UTF-8 in it (RFC 6531 section 3)
)

// An Envelope is a message as a client is about to send it.
type Envelope struct {
	From  proto.Address
	Mail  proto.Params // parameters of the MAIL command
	To    []proto.Recipient
	Size  int64 // of the content as it will be transmitted, without dot-stuffing; -1 if unknown (RFC 1870 section 6)
	Needs Feature
	// Verified says that the connection has TLS and that the server's certificate was verified.
	Verified bool
}

// Prepare makes e ready to be sent to a server that offers o, with c its reply to EHLO: each extension on offer adds
// its parameters, or refuses. A [UnsupportedError] says what the server lacks for e, be it a parameter that the caller put
// there or something that the message needs. Parameters are checked as a server would check them.
func (s *Set) Prepare(o Offer, c proto.Caps, e *Envelope) error {
	rcpts := len(e.To)
	for i := range s.list {
		if o.Has(i) && s.list[i].Prepare != nil {
			if err := s.list[i].Prepare(c, e); err != nil {
				return err
			}
			if len(e.To) != rcpts {
				return errors.New("smtp: the extension " + s.list[i].Keyword + " changes the recipients of a message: its Prepare may only add parameters")
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

// params checks that what is on offer covers the parameters.
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

// needs checks that what is on offer meets the needs of e.
func (s *Set) needs(o Offer, e *Envelope) error {
	var met Feature
	for i := range s.list {
		if o.Has(i) {
			met |= s.list[i].Provides
		}
	}
	if met&UTF8 == 0 {
		if what := e.NonASCII(); what != "" {
			return s.Unsupported(UTF8, what)
		}
	}
	missing := e.Needs &^ met
	if e.Needs&Binary != 0 {
		missing &^= EightBit // binary content may have any octets
	}
	for _, n := range []struct {
		need Feature
		what string
	}{
		{Binary, "binary content"},
		{EightBit, "content with 8-bit octets"},
		{UTF8, "a message with UTF-8 in its header or its addresses"},
	} {
		if missing&n.need != 0 {
			e := s.Unsupported(n.need, n.what)
			if n.need == UTF8 {
				e.Code = proto.Status{5, 6, 9} // it is the content, and no address (RFC 6531 section 3.5)
			}
			return e
		}
	}
	return nil
}

// Unsupported returns the error for a message that has to be refused because no extension on offer provides f. What names
// the part of the message that needs it.
func (s *Set) Unsupported(f Feature, what string) *UnsupportedError {
	for i := range s.list {
		if s.list[i].Provides&f != 0 {
			return s.missing(i, what)
		}
	}
	return &UnsupportedError{What: what}
}

// missing returns the error for what needs the i-th extension, which is not on offer.
func (s *Set) missing(i int, what string) *UnsupportedError {
	return &UnsupportedError{Keyword: s.list[i].Keyword, What: what, Code: s.list[i].Missing}
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
