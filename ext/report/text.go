package report

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"smtpkit.example/smtp/ext/ehlo"
)

// DefaultSubject returns the subject of a notification in English.
func DefaultSubject(r *Report) string {
	switch r.kind() {
	case ehlo.Failed:
		return "Undelivered mail"
	case ehlo.Delayed:
		return "Delayed mail"
	}
	return "Delivered mail"
}

// DefaultText returns the part of a notification for people to read, in English: what happened to the message for each
// recipient, and what the server said.
func DefaultText(r *Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail system at %s.\n\n", r.ReportingMTA.Name)
	for _, s := range sentences {
		some := false
		for i := range r.Recipients {
			p := &r.Recipients[i]
			if p.Action != s.action {
				continue
			}
			if !some {
				fmt.Fprintf(&b, "%s\n\n", s.text)
				some = true
			}
			writeRecipient(&b, p)
		}
	}
	if r.EnvelopeID != "" {
		fmt.Fprintf(&b, "You gave the message the name %s.\n", r.EnvelopeID)
	}
	return b.String()
}

var sentences = []struct {
	action ehlo.Action
	text   string
}{
	{ehlo.Failed, "Your message could not be delivered to the recipients below. Nobody is\ngoing to try again."},
	{ehlo.Delayed, "Your message has not yet been delivered to the recipients below. You need\n" +
		"not send it again: more attempts are going to be made."},
	{ehlo.Delivered, "Your message was delivered to these recipients:"},
	{ehlo.Relayed, "Your message was handed to a mail system that does not confirm delivery.\n" +
		"Unless it fails, this is the last you hear of it for these recipients:"},
	{ehlo.Expanded, "Your message was delivered to these addresses, and sent on from there to\nothers:"},
}

// writeRecipient writes the paragraph on p.
func writeRecipient(b *strings.Builder, p *Recipient) {
	fmt.Fprintf(b, "<%s>", p.Final.Address)
	if p.Original.Address != "" && p.Original.Address != p.Final.Address {
		fmt.Fprintf(b, ", sent to <%s>", p.Original.Address)
	}
	b.WriteString("\n")
	if p.Action == ehlo.Delayed && !p.WillRetryUntil.IsZero() {
		fmt.Fprintf(b, "    Attempts are made until %s.\n", p.WillRetryUntil.Format("Mon, 2 Jan 2006 15:04 -0700"))
	}
	if p.Comment != "" {
		fmt.Fprintf(b, "    %s\n", p.Comment)
	}
	if p.Diagnostic.Text != "" {
		who := "The reason"
		if p.Remote.Name != "" {
			who = "The server " + p.Remote.Name + " said"
		}
		fmt.Fprintf(b, "    %s:\n", who)
		lines := []string{p.Diagnostic.Text}
		if _, ok := p.Diagnostic.Reply(); ok {
			lines = replyLines(trim(p.Diagnostic.Text))
		}
		for _, line := range lines {
			b.WriteString(wrap(line))
		}
	}
	b.WriteString("\n")
}

// maxTextLine is the maximum length of a line of text in characters. Quoted-printable does not break such a line if it
// is ASCII.
const maxTextLine = 75

// wrap returns s as indented lines.
func wrap(s string) string {
	const indent = "        "
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent) + n
		case column+1+n > maxTextLine:
			b.WriteString("\n" + indent)
			column = len(indent) + n
		default:
			b.WriteString(" ")
			column += 1 + n
		}
		b.WriteString(word)
	}
	b.WriteString("\n")
	return b.String()
}
