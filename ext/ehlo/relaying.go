package ehlo

import (
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Relaying is the parameters of a message that a relay sends on, as the RFCs of the extensions demand. It leaves out
// those that concern the relay alone, and states the time of BY that is left. When an attempt to send the message fails
// with an [ext.UnsupportedError], Lacks leaves out what a relay may do without. Package queue uses it.
type Relaying struct {
	mail    proto.Params
	lacking []string // keywords of extensions that the next server does not offer
	report  bool     // see OfReport
}

// ofRelay are the parameters that a client sets by itself, or that concern one relay alone.
var ofRelay = map[string]bool{
	"BODY": true, "SIZE": true, "SMTPUTF8": true, "AUTH": true, "HOLDFOR": true, "HOLDUNTIL": true, "SUBMITTER": true,
	"PRDR": true,
}

// dispensable are the extensions that a relay may do without, with their parameters: RFC 3461 section 5.2.2, RFC 6710
// section 4.3, RFC 3885 section 4.2, RFC 7293 section 5.2, RFC 3865 section 4.2, RFC 2852 section 4.1.4.2. Reports may
// do without REQUIRETLS (RFC 8689 section 5).
var dispensable = map[string][]string{
	"DSN": {"RET", "ENVID", "NOTIFY", "ORCPT"}, "MT-PRIORITY": {"MT-PRIORITY"}, "MTRK": {"MTRK"}, "RRVS": {"RRVS"},
	"NO-SOLICITING": {"SOLICIT"}, "DELIVERBY": {"BY"}, "REQUIRETLS": {"REQUIRETLS"},
}

// NewRelaying returns the parameters of a message that came with those of mail, and has been kept for so long. It
// reports false if the message is too late to be sent on: then it is returned with 5.4.7 (RFC 2852 section 4.1.4).
func NewRelaying(mail proto.Params, kept time.Duration) (r *Relaying, ok bool) {
	r = &Relaying{}
	for _, p := range mail {
		if !ofRelay[strings.ToUpper(p.Key)] {
			r.mail = append(r.mail, p)
		}
	}
	if by, has := ReadBy(mail); has {
		left, ok := by.After(kept)
		if !ok {
			return nil, false
		}
		r.mail = left.AddTo(r.mail)
	}
	return r, true
}

// OfReport says that the message is a report: it has the null reverse-path. Such a one is sent without REQUIRETLS
// rather than lost (RFC 8689 section 5).
func (r *Relaying) OfReport() { r.report = true }

// Mail returns the parameters of MAIL.
func (r *Relaying) Mail() proto.Params { return r.mail }

// Rcpt returns the parameters of RCPT of a recipient who came with those of p. If BY could not be passed on, the next
// server is asked to report delays (RFC 2852 section 4.1.4.2).
func (r *Relaying) Rcpt(p proto.Params) proto.Params {
	p = r.without(p)
	if !r.lacks("DELIVERBY") || r.lacks("DSN") {
		return p
	}
	d, _ := ReadDSNRcpt(p)
	switch {
	case d.Notify == NotifyNever:
		return p
	case d.Notify == 0:
		d.Notify = NotifyFailure
	}
	return DSNRcpt{Notify: d.Notify | NotifyDelay}.AddTo(p)
}

// Lacks leaves out the parameters of an extension that the next server does not offer, and reports whether the message
// may be sent without, and has not been tried so. It reports false for a message that the extension is essential to.
func (r *Relaying) Lacks(keyword string) bool {
	if !r.May(keyword) {
		return false
	}
	r.lacking = append(r.lacking, keyword)
	r.mail = r.without(r.mail)
	return true
}

// May reports what Lacks would, and changes nothing.
func (r *Relaying) May(keyword string) bool {
	if _, ok := dispensable[keyword]; !ok || r.lacks(keyword) || keyword == "REQUIRETLS" && !r.report {
		return false
	}
	by, ok := ReadBy(r.mail)
	return keyword != "DELIVERBY" || ok && !by.Return // RFC 2852 section 4.1.4.1
}

func (r *Relaying) lacks(keyword string) bool { return slices.Contains(r.lacking, keyword) }

// without returns p without the parameters of what the next server does not offer. It does not change p.
func (r *Relaying) without(p proto.Params) proto.Params {
	if len(r.lacking) == 0 {
		return p
	}
	var left proto.Params
	for _, param := range p {
		of := func(keyword string) bool { return slices.Contains(dispensable[keyword], strings.ToUpper(param.Key)) }
		if !slices.ContainsFunc(r.lacking, of) {
			left = append(left, param)
		}
	}
	return left
}

// Reports reports whether the relay has to tell the sender, if he has asked for it, that it has relayed the message to
// a recipient. Otherwise the next server was asked to report by itself (RFC 3461 section 5.2.1).
func (r *Relaying) Reports() bool { return r.lacks("DSN") }

// ReportsBy reports whether the sender is to be told that the message was relayed to a recipient who came with the
// parameters p, whether or not NOTIFY asks for it: BY wants it (RFC 2852 section 4.1.4).
func (r *Relaying) ReportsBy(p proto.Params) bool {
	by, ok := ReadBy(r.mail)
	d, _ := ReadDSNRcpt(p)
	return (ok && by.Trace || r.lacks("DELIVERBY")) && d.Notify != NotifyNever
}

// Needs returns what the parameters of MAIL say of the content: BODY and SMTPUTF8.
func Needs(mail proto.Params) (f ext.Feature) {
	switch body, _ := mail.Get("BODY"); strings.ToUpper(body) {
	case "8BITMIME":
		f |= ext.EightBit
	case "BINARYMIME":
		f |= ext.Binary
	}
	if mail.Has("SMTPUTF8") {
		f |= ext.UTF8
	}
	return f
}
