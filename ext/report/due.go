package report

import (
	"io"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A Message is what a server has accepted, and what notifications report on.
type Message struct {
	// From is the reverse-path. Notifications go there; the null reverse-path gets none.
	From proto.Address
	// Mail are the parameters of the MAIL command.
	Mail proto.Params
	// Content is the message, such as a file, a bytes.Reader, or an io.SectionReader of something larger. It is read from
	// offset 0 to io.EOF, and its position is neither used nor moved. Lines may end in LF or CRLF. It must not change
	// until the notifications have been sent. If nil, nothing of the message is returned.
	Content io.ReaderAt
	// ReceivedFrom is the client that sent the message: the name of its EHLO, with its network address as Comment (RFC
	// 3464 section 2.2.4). It may be zero.
	ReceivedFrom MTA
	// Arrival is when the message was accepted. Zero means unknown.
	Arrival time.Time
}

// Due returns the reports that the sender of m has to get about outcomes (RFC 3461 sections 5.2.1 to 5.2.7). The
// parameter NOTIFY of a recipient decides:
//
//   - Failure is reported if NOTIFY says FAILURE, or is missing.
//   - Delay is reported if NOTIFY says DELAY, or is missing.
//   - Delivery, relaying and expansion are reported if NOTIFY says SUCCESS.
//   - NOTIFY=NEVER means no report. Recipients without one do not appear in the reports on others (section 5.2.8).
//
// If m is from the null reverse-path there are no reports, so that bounces are never bounced.
//
// There are at most three reports: of failures, of delays, and of the rest. Due does not remember what it has returned:
// give it each outcome once.
func (m *Message) Due(outcomes []Outcome) []*Report {
	if m.From.IsNull() {
		return nil
	}
	var due []*Report
	kinds := make(map[ehlo.Action]*Report)
	for i := range outcomes {
		o := &outcomes[i]
		rcpt, _ := ehlo.ReadDSNRcpt(o.To.Params) // without parameters, the zero value is right
		kind := kindOf(o.Action)
		if kind == "" || !rcpt.Notify.Wants(o.Action) {
			continue
		}
		r := kinds[kind]
		if r == nil {
			mail, _ := ehlo.ReadDSNMail(m.Mail)
			r = &Report{EnvelopeID: mail.EnvID, ReceivedFrom: m.ReceivedFrom, Arrival: m.Arrival}
			kinds[kind] = r
			due = append(due, r)
		}
		r.Recipients = append(r.Recipients, o.recipient(rcpt.Original))
	}
	return due
}

// kindOf returns the action that stands for all those that are reported together with a. It returns "" if a is none
// that package ehlo has.
func kindOf(a ehlo.Action) ehlo.Action {
	switch a {
	case ehlo.Failed, ehlo.Delayed:
		return a
	case ehlo.Delivered, ehlo.Relayed, ehlo.Expanded:
		return ehlo.Delivered
	}
	return ""
}

// kind returns the kind of the most serious action in r.
func (r *Report) kind() ehlo.Action {
	kind := ehlo.Action("")
	for i := range r.Recipients {
		switch k := kindOf(r.Recipients[i].Action); {
		case k == ehlo.Failed:
			return k
		case k == ehlo.Delayed || kind == "":
			kind = k
		}
	}
	return kind
}
