package report

import (
	"bufio"
	"bytes"
	"io"
	"net/mail"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// groups reads fields, in groups with empty lines between them, to the end of r or to an error. It ignores lines that
// are no fields.
func groups(r io.Reader) [][]Field {
	var all [][]Field
	var group []Field
	name, value := "", []byte(nil) // of the field that a folded line continues; without a name there is none
	endField := func() {
		if name != "" {
			text, _ := clean(string(value), true)
			group = append(group, Field{name, text})
		}
		name, value = "", value[:0]
	}
	endGroup := func() {
		endField()
		if len(group) > 0 {
			all = append(all, group)
		}
		group = nil
	}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxStatus+1)
	for sc.Scan() {
		line := sc.Bytes()
		text := bytes.Trim(line, blanks)
		switch {
		case len(text) == 0:
			endGroup()
		case line[0] == ' ' || line[0] == '\t':
			if name != "" {
				value = append(append(value, ' '), text...)
			}
		default:
			endField()
			if before, after, ok := bytes.Cut(line, []byte(":")); ok && isAtom(trim(string(before))) {
				name, value = trim(string(before)), append(value, after...)
			}
		}
	}
	endGroup()
	return all
}

// messageFields and recipientFields have a function for each field of RFC 3464 sections 2.2 and 2.3 and of RFC 6533
// section 4.1. The names are in lower case.
var (
	messageFields = map[string]func(*Report, string){
		"original-envelope-id": func(r *Report, s string) { r.EnvelopeID = s },
		"reporting-mta":        func(r *Report, s string) { r.ReportingMTA = readMTA(s) },
		"dsn-gateway":          func(r *Report, s string) { r.Gateway = readMTA(s) },
		"received-from-mta":    func(r *Report, s string) { r.ReceivedFrom = readMTA(s) },
		"arrival-date":         func(r *Report, s string) { r.Arrival = readDate(s) },
	}
	recipientFields = map[string]func(*Recipient, string){
		"original-recipient": func(r *Recipient, s string) { r.Original = readAddress(s) },
		"final-recipient":    func(r *Recipient, s string) { r.Final = readAddress(s) },
		"action": func(r *Recipient, s string) {
			s, _ = cutComment(s)
			r.Action = ehlo.Action(strings.ToLower(s))
		},
		"status":               (*Recipient).readStatus,
		"remote-mta":           func(r *Recipient, s string) { r.Remote = readMTA(s) },
		"diagnostic-code":      func(r *Recipient, s string) { r.Diagnostic.Type, r.Diagnostic.Text = cutType(s) },
		"localized-diagnostic": (*Recipient).readLocalized,
		"last-attempt-date":    func(r *Recipient, s string) { r.LastAttempt = readDate(s) },
		"final-log-id":         func(r *Recipient, s string) { r.LogID = s },
		"will-retry-until":     func(r *Recipient, s string) { r.WillRetryUntil = readDate(s) },
	}
)

// readReport reads the groups of message/delivery-status. A group with an address begins a new recipient. Recipient
// fields in a group without one belong to the recipient before it. Message fields are accepted in any group.
func readReport(r *Report, all [][]Field) {
	for _, group := range all {
		seen := make(map[string]bool)
		for _, f := range group {
			if name := strings.ToLower(f.Name); name == "final-recipient" || name == "original-recipient" {
				r.Recipients = append(r.Recipients, Recipient{})
				break
			}
		}
		for _, f := range group {
			name := strings.ToLower(f.Name)
			ofMessage, ofRecipient := messageFields[name], recipientFields[name]
			if (ofMessage != nil || ofRecipient != nil) && seen[name] && name != "localized-diagnostic" {
				continue // at most once (RFC 3464 section 2.2)
			}
			seen[name] = true
			if len(r.Recipients) == 0 && ofRecipient != nil {
				r.Recipients = append(r.Recipients, Recipient{})
			}
			switch n := len(r.Recipients); {
			case ofMessage != nil:
				ofMessage(r, f.Value)
			case ofRecipient != nil:
				ofRecipient(&r.Recipients[n-1], f.Value)
			case n > 0:
				r.Recipients[n-1].Fields = append(r.Recipients[n-1].Fields, f)
			default:
				r.Fields = append(r.Fields, f)
			}
		}
	}
}

func (r *Recipient) readStatus(s string) {
	s, r.Comment = cutComment(s)
	code, _, _ := strings.Cut(s, " ")
	r.Status, _ = proto.ParseStatus(strings.TrimPrefix(code, "#"))
}

func (r *Recipient) readLocalized(s string) {
	language, text := cutType(s)
	r.Localized = append(r.Localized, Localized{language, text})
}

// cutType divides a value into the type in front, which some mail systems leave out, and the rest.
func cutType(s string) (kind, rest string) {
	before, after, ok := strings.Cut(s, ";")
	if before = trim(before); !ok || !isAtom(before) {
		return "", s
	}
	return before, trim(after)
}

func readMTA(s string) MTA {
	var m MTA
	m.Type, s = cutType(s)
	m.Name, m.Comment = cutComment(s)
	return m
}

// readAddress reads an address with its type. Without a type it is rfc822. Some mail systems add comments and angle
// brackets.
func readAddress(s string) ehlo.OriginalRecipient {
	if kind, _ := cutType(s); kind == "" {
		s = "rfc822;" + s
	}
	if kind, _ := cutType(s); strings.EqualFold(kind, "rfc822") || isUTF8Type(kind) {
		s, _ = cutComment(s)
		kind, address := cutType(s)
		if strings.HasPrefix(address, "<") && strings.HasSuffix(address, ">") {
			s = kind + ";" + address[1:len(address)-1]
		}
	}
	a, _ := ehlo.ParseOriginalRecipient(s)
	if strings.Map(visible, a.Address) != a.Address { // decoding RFC 6533 section 3 made some
		_, a.Address, _ = strings.Cut(a.ASCII(), ";")
	}
	return a
}

// readDate reads a time. It returns the zero value if s is malformed.
func readDate(s string) time.Time {
	s, _ = cutComment(s)
	t, err := mail.ParseDate(s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// cutComment divides s into the comment at its end, if there is one with a space before it, and the rest.
func cutComment(s string) (rest, comment string) {
	if !strings.HasSuffix(s, ")") {
		return s, ""
	}
	depth := 0
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != '(' && s[i] != ')' || escaped(s, i) {
			continue
		}
		if s[i] == ')' {
			depth++
		} else if depth--; depth == 0 {
			if i > 0 && s[i-1] != ' ' {
				break
			}
			return trim(s[:i]), trim(commentUnescaper.Replace(s[i+1 : len(s)-1]))
		}
	}
	return s, ""
}

// escaped reports whether a backslash that is not itself escaped stands before s[i].
func escaped(s string, i int) bool {
	n := 0
	for ; i > n && s[i-1-n] == '\\'; n++ {
	}
	return n%2 == 1
}

// trim returns s without the white space around it. That is the white space of RFC 822 section 3.3; spaces of other
// scripts are text.
func trim(s string) string { return strings.Trim(s, blanks) }

const blanks = " \t\r"
