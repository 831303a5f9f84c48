package report

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// Lengths of lines in octets, without CRLF (RFC 5322 section 2.1.1).
const (
	maxLine    = 998
	foldedLine = 78 // fields are folded to this length where they can be
)

// A fieldWriter appends fields to dst. A value cannot forge another field: it has no line endings and no control
// characters but those that fold it.
type fieldWriter struct {
	dst  []byte
	utf8 bool // values may have UTF-8
	lost bool // a character was replaced because it is not ASCII
}

// blank appends the empty line between groups of fields.
func (w *fieldWriter) blank() { w.dst = append(w.dst, "\r\n"...) }

// field appends a field, unless value is empty.
func (w *fieldWriter) field(name, value string) {
	value = w.clean(value)
	if value == "" {
		return
	}
	w.dst = append(append(w.dst, name...), ':')
	column := len(name) + 1
	for first := true; value != ""; first = false {
		word := nextWord(value)
		value = value[len(word):]
		// The first word stays on the line of the name. Several spaces stay on the line of what precedes them, since
		// readers reduce the white space at the beginning of a line to one space.
		limit := foldedLine
		if strings.HasPrefix(word, "  ") {
			limit = maxLine
		}
		if column+len(word)+1 > limit && !first {
			w.dst, column = append(w.dst, "\r\n"...), 0
		}
		if first || word[0] != ' ' {
			w.dst = append(w.dst, ' ')
			column++
		}
		w.dst = append(w.dst, word...)
		column += len(word)
	}
	w.dst = append(w.dst, "\r\n"...)
}

// nextWord returns the spaces at the beginning of s with what follows up to the next space, cut off so that it fits in
// a line. S does not end in a space.
func nextWord(s string) string {
	n := len(s) - len(strings.TrimLeft(s, " "))
	if end := strings.IndexByte(s[n:], ' '); end >= 0 {
		n += end
	} else {
		n = len(s)
	}
	const maxWord = maxLine / 2 // the other half is for the name of the field
	if n > maxWord {
		for n = maxWord; !utf8.RuneStart(s[n]); n-- {
		}
	}
	return s[:n]
}

// clean returns s as it can stand in a field. White space and line endings become spaces. What is not printable becomes
// a question mark, and so does a character that is not ASCII unless w permits UTF-8.
func (w *fieldWriter) clean(s string) string {
	s, lost := clean(s, w.utf8)
	w.lost = w.lost || lost
	return s
}

// clean is fieldWriter.clean. Lost reports whether a character was replaced because it is not ASCII.
func clean(s string, utf8Allowed bool) (_ string, lost bool) {
	s = strings.Map(func(c rune) rune {
		if c = visible(c); c >= utf8.RuneSelf && !utf8Allowed {
			lost = true
			return '?'
		}
		return c
	}, s)
	// Lines with so many spaces could not be folded. Only in an address do several spaces matter, and no address has so
	// many.
	for strings.Contains(s, manySpaces) {
		s = strings.ReplaceAll(s, manySpaces, " ")
	}
	return strings.Trim(s, " "), lost
}

// visible returns c if it is printable. It returns a space for white space and for the end of a line, and a question
// mark for other control characters and for what is not UTF-8.
func visible(c rune) rune {
	switch {
	case c == '\t' || c == '\n' || c == '\r':
		return ' '
	case c == utf8.RuneError || unicode.IsControl(c) || c == '\u2028' || c == '\u2029':
		return '?'
	}
	return c
}

// manySpaces are more than any ORCPT has: it has at most 500 octets (RFC 3461 section 5.4), and a space takes three.
var manySpaces = strings.Repeat(" ", 200)

// typed appends a field whose value has a type in front. If kind is not an atom, the type is unknown.
func (w *fieldWriter) typed(name, kind, unknown, value string) {
	if value = w.clean(value); value == "" {
		return
	}
	if !isAtom(kind) {
		kind = unknown
	}
	w.field(name, kind+"; "+value)
}

// mta appends a field with the name of an MTA.
func (w *fieldWriter) mta(name string, m MTA) {
	value := w.clean(m.Name)
	if value == "" {
		return
	}
	if m.Type == "" {
		m.Type = "dns"
	}
	w.typed(name, m.Type, "x-unknown", value+w.comment(m.Comment))
}

// comment returns s as a comment with a space in front, or "".
func (w *fieldWriter) comment(s string) string {
	if s = w.clean(s); s == "" {
		return ""
	}
	return " (" + commentEscaper.Replace(s) + ")"
}

var (
	commentEscaper   = strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`)
	commentUnescaper = strings.NewReplacer(`\\`, `\`, `\(`, "(", `\)`, ")")
)

// address appends a field with an address. It is in ASCII unless w permits UTF-8 and every character is printable.
func (w *fieldWriter) address(name string, a ehlo.OriginalRecipient) {
	if isUTF8Type(a.Type) && (!w.utf8 || strings.Map(visible, a.Address) != a.Address) {
		_, value, _ := strings.Cut(a.ASCII(), ";")
		w.typed(name, a.Type, "unknown", value)
		return
	}
	w.typed(name, a.Type, "unknown", a.Address)
}

func isUTF8Type(kind string) bool { return strings.EqualFold(kind, "utf-8") }

// date appends a field with a time, unless that is zero.
func (w *fieldWriter) date(name string, t time.Time) {
	if !t.IsZero() {
		w.field(name, t.Format(time.RFC1123Z))
	}
}

// fields appends fields of extensions.
func (w *fieldWriter) fields(fields []Field) {
	for _, f := range fields {
		w.field(f.Name, f.Value)
	}
}

// report appends r as the content of message/delivery-status (RFC 3464 section 2.1), or of
// message/global-delivery-status if w permits UTF-8 (RFC 6533 section 4.1).
func (w *fieldWriter) report(r *Report) {
	w.field("Original-Envelope-Id", r.EnvelopeID)
	w.mta("Reporting-MTA", r.ReportingMTA)
	w.mta("DSN-Gateway", r.Gateway)
	w.mta("Received-From-MTA", r.ReceivedFrom)
	w.date("Arrival-Date", r.Arrival)
	w.fields(r.Fields)
	for i := range r.Recipients {
		w.blank()
		w.recipient(&r.Recipients[i])
	}
}

func (w *fieldWriter) recipient(r *Recipient) {
	w.address("Original-Recipient", r.Original)
	w.address("Final-Recipient", r.Final)
	w.field("Action", string(r.Action))
	w.field("Status", r.status().String()+w.comment(r.Comment))
	w.mta("Remote-MTA", r.Remote)
	w.typed("Diagnostic-Code", r.Diagnostic.Type, "x-unknown", r.Diagnostic.Text)
	for _, l := range r.Localized {
		w.typed("Localized-Diagnostic", l.Language, "i-default", l.Text)
	}
	w.date("Last-Attempt-Date", r.LastAttempt)
	w.field("Final-Log-ID", r.LogID)
	if r.Action == ehlo.Delayed {
		w.date("Will-Retry-Until", r.WillRetryUntil) // MUST NOT be in others (RFC 3464 section 2.3.9)
	}
	w.fields(r.Fields)
}

// status returns the status code to write for r; see Recipient.Status.
func (r *Recipient) status() proto.Status {
	kind := kindOf(r.Action)
	fits := false
	switch r.Status.Class() {
	case 2:
		fits = kind == ehlo.Delivered
	case 4:
		fits = kind != ehlo.Delivered
	case 5:
		fits = kind != ehlo.Delayed && kind != ehlo.Delivered || r.Action == ehlo.Relayed // with a loss (RFC 3464 section 2.3.3)
	}
	if fits {
		return r.Status
	}
	reply, _ := r.Diagnostic.Reply()
	switch {
	case kind == ehlo.Delivered:
		return proto.Status{2, 0, 0}
	case kind == ehlo.Delayed || reply.Code/100 == 4:
		return proto.Status{4, 0, 0}
	}
	return proto.Status{5, 0, 0}
}

// isAtom reports whether s is an atom of RFC 822 section 3.3, as the names of fields and types are.
func isAtom(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(`()<>@,;:\".[]`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}
