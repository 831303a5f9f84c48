package ext

import (
	"errors"

	"smtpkit.example/smtp/proto"
)

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
			return &UnsupportedError{Keyword: s.list[r.uses[0].ext].Keyword, What: "the " + verb + " parameter " + p.Key}
		}
		f := r.check(o, params, p)
		if f.text == "" {
			continue
		}
		for _, u := range r.uses {
			if !o.Has(u.ext) && u.has(p.Value) {
				return &UnsupportedError{Keyword: s.list[u.ext].Keyword, What: verb + " with " + p.Key + "=" + p.Value}
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
		if what := beyondASCII(e); what != "" {
			return &UnsupportedError{Keyword: s.meets(UTF8), What: what}
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
			return &UnsupportedError{Keyword: s.meets(n.need), What: n.what, header: n.need == UTF8}
		}
	}
	return nil
}

// meets returns the keyword of the extension that would meet n, or "".
func (s *Set) meets(n Feature) string {
	for i := range s.list {
		if s.list[i].Provides&n != 0 {
			return s.list[i].Keyword
		}
	}
	return ""
}

// beyondASCII names an address that cannot be written in ASCII, or returns "". A domain always can (RFC 5891).
func beyondASCII(e *Envelope) string {
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
