package report

import (
	"strconv"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A Report is what a delivery status notification says about one message (RFC 3464 section 2). If [Parse] has read it,
// every field may be empty, and no text has control characters.
type Report struct {
	// EnvelopeID is the name that the sender gave to the message with ENVID, decoded from xtext, or "".
	EnvelopeID string
	// ReportingMTA is the mail system that tried to deliver the message. If it is zero, [Compose] uses Options.Hostname.
	ReportingMTA MTA
	// Gateway is the mail system that translated the report from that of a foreign system.
	Gateway MTA
	// ReceivedFrom is the client that sent the message to the reporting MTA: the name of its EHLO, with its address as
	// Comment.
	ReceivedFrom MTA
	// Arrival is when the reporting MTA received the message.
	Arrival time.Time
	// Fields are fields of extensions, such as "X-Postfix-Queue-ID".
	Fields []Field
	// Recipients say what happened to the message for each recipient. There is at least one.
	Recipients []Recipient
}

// An MTA is the name of a mail system, with the type of the name. The zero value means none.
type MTA struct {
	Type string // "dns" for a domain name or an address literal; "" stands for "dns"
	Name string
	// Comment is what follows the name in parentheses, such as the network address of a client.
	Comment string
}

// DNS returns the MTA of the type dns with that name, or the zero value if name is "".
func DNS(name string) MTA {
	if name == "" {
		return MTA{}
	}
	return MTA{Type: "dns", Name: name}
}

// A Recipient is what a report says about one recipient (RFC 3464 section 2.3).
type Recipient struct {
	// Original is the address that the sender gave with ORCPT, or zero.
	Original ehlo.OriginalRecipient
	// Final is the address for which the reporting MTA had the message. [Compose] requires it.
	Final ehlo.OriginalRecipient
	// Action says what happened, in lower case. One that was read may be none that package ehlo has.
	Action ehlo.Action
	// Status says why. One that could not be read is zero.
	//
	// Failed goes with the classes 4 and 5, Delayed with 4, Relayed with 2 and 5, and the others with 2. If the class does
	// not fit, [Compose] writes a code that says only the class (RFC 3461 section 6.3). This is 2.0.0 if the message has
	// reached the recipient, 4.0.0 if it is delayed or the last reply was 4yz, and otherwise 5.0.0.
	Status proto.Status
	// Comment is for people; it follows the status code in parentheses.
	Comment string
	// Remote is the server that Diagnostic came from. It is zero if that is the reporting MTA itself.
	Remote MTA
	// Diagnostic is the reason, as the reporting MTA got it.
	Diagnostic Diagnostic
	// Localized has translations of the text of Diagnostic (RFC 6533 section 4.1).
	Localized []Localized
	// LastAttempt is when the reporting MTA last tried.
	LastAttempt time.Time
	// LogID is the name of the message in the log of the MTA that delivered it.
	LogID string
	// WillRetryUntil is when the reporting MTA intends to give up. Compose writes it only if Action is Delayed.
	WillRetryUntil time.Time
	// Fields are fields of extensions.
	Fields []Field
}

// A Diagnostic is a reason in the words of a mail system (RFC 3464 section 2.3.6). The zero value means none.
type Diagnostic struct {
	Type string // "smtp" for a reply; otherwise the name of another system, or of a program with "x-" in front
	// Text is the reason. For a reply it has the lines as they came, with code and status, joined by spaces.
	Text string
}

// SMTP returns the reply of a server as a Diagnostic of the type smtp (RFC 3461 section 9.2).
func SMTP(r proto.Reply) Diagnostic {
	code := strconv.Itoa(r.Code)
	lines := strings.Split(r.Text, "\n")
	for i, text := range lines {
		head := code + "-"
		if i == len(lines)-1 {
			head = code + " "
		}
		if !r.Status.IsZero() {
			head += r.Status.String() + " "
		}
		lines[i] = strings.TrimSuffix(head+strings.TrimSuffix(text, "\r"), " ")
	}
	return Diagnostic{Type: "smtp", Text: strings.Join(lines, " ")}
}

// Reply returns the reply in a Diagnostic of the type smtp, divided into its lines again. It reports false if d has no
// reply.
func (d Diagnostic) Reply() (proto.Reply, bool) {
	text := trim(d.Text)
	if !strings.EqualFold(d.Type, "smtp") || len(text) < 3 || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return proto.Reply{}, false
	}
	code, err := strconv.ParseUint(text[:3], 10, 16)
	if err != nil || code < 200 || code > 599 {
		return proto.Reply{}, false
	}
	r := proto.Reply{Code: int(code)}
	lines := replyLines(text)
	for i, line := range lines {
		line = strings.TrimLeft(line[3:], " -")
		word, after, _ := strings.Cut(line, " ")
		if st, ok := proto.ParseStatus(word); ok && st.Class() == r.Code/100 {
			r.Status, line = st, trim(after)
		}
		lines[i] = line
	}
	r.Text = strings.Join(lines, "\n")
	return r, true
}

// replyLines divides a reply, as the text of a Diagnostic has it, into its lines, each with its code.
func replyLines(text string) []string {
	const digits = 3
	var lines []string
	for code := text[:digits]; ; {
		line, rest := text, ""
		if strings.HasPrefix(text[digits:], "-") {
			start := len(text) - len(strings.TrimLeft(text[digits:], " -"))
			line, rest = cutReplyLine(text[start:], code)
			line = text[:start] + line
		}
		lines = append(lines, trim(line))
		if rest == "" {
			return lines
		}
		text = rest
	}
}

// cutReplyLine cuts text where the next line of a reply begins. That is at the code, if a space stands before it, and a
// space, a hyphen or nothing behind it.
func cutReplyLine(text, code string) (line, rest string) {
	for i := 0; i+len(code) <= len(text); i++ {
		at := strings.Index(text[i:], code)
		if at < 0 {
			break
		}
		i += at
		if after := text[i+len(code):]; (i == 0 || text[i-1] == ' ') && (after == "" || after[0] == ' ' || after[0] == '-') {
			return text[:i], text[i:]
		}
	}
	return text, ""
}

// A Localized is the text of a Diagnostic in another language.
type Localized struct {
	Language string // a tag such as "de" (RFC 5646)
	Text     string
}

// A Field is a field of an extension (RFC 3464 section 2.4).
type Field struct{ Name, Value string }
