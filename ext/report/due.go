package report

import (
	"errors"
	"io"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Message is a message as a server has accepted it, which is to be reported on.
type Message struct {
	// From is the reverse-path, to which notifications go. The null reverse-path gets none.
	From proto.Address
	// Mail are the parameters of the MAIL command.
	Mail proto.Params
	// Content is the message: a file, a [bytes.Reader], or an [io.SectionReader] of something larger. It is read from offset
	// 0 to io.EOF, and no position in it is used or moved. Lines may end in LF or CRLF. It must stay as it is until the
	// notifications have been sent. With nil nothing of the message is returned.
	Content io.ReaderAt
	// ReceivedFrom is the client it came from: the name of its EHLO, with its network address for a comment (RFC 3464
	// section 2.2.4). It may be zero.
	ReceivedFrom MTA
	// Arrival is when the message was accepted, zero if that is not known.
	Arrival time.Time
}

// An Outcome is what became of a message for a recipient.
type Outcome struct {
	// To is the recipient as he was accepted: the address of the RCPT command, with its parameters.
	To proto.Recipient
	// Action is what became of the message. It is "" if nothing has to be said, since a server that offers DSN
	// has taken over and will say it.
	Action ehlo.Action
	// The rest is that of Recipient, whose fields of these names tell more.
	Status         proto.Status
	Comment        string
	Remote         MTA
	Diagnostic     Diagnostic
	LastAttempt    time.Time
	LogID          string
	WillRetryUntil time.Time
	Fields         []Field
}

// A NextHop is a server to which a message was sent on.
type NextHop struct {
	Host string     // the domain name by which it was looked for
	Caps proto.Caps // what it offered in its last reply to EHLO
}

// Outcome returns what a report says of the outcome of an attempt to send a message to h for one recipient. The Recipient in it
// has to be the one that the message was accepted for, with the parameters that RCPT had then.
//
// If h accepted the message and offers DSN, it has the duty to notify, and the Action is "" (RFC 3461 section 5.2.1). If it
// does not offer DSN, the Action is Relayed. After a reply of 5yz it is Failed, and so it is after an error without a reply that
// is about the message or the connection that it needs, such as [ext.UnsupportedError], [ehlo.TooLargeError], [ext.TLSError] and
// MessageError of the package client: that is the outcome once there is no other host to be tried (RFC 8689 section 4.2.1).
// After anything else it is Delayed; when time is up, the caller makes that Failed, and leaves the Status: RFC 3464 section 2.3.3.
//
// Such an error, and one of a connection, tells the status by a method Status() proto.Status, which others can have too. The
// Comment then is a sentence of ours: the text of the error may name files and addresses that are nobody else's business. Of
// an error that has no such method and is no reply, such as that of a lookup, nothing is known: who knows more sets Status, such as
// to 4.4.3, and Comment.
func (h NextHop) Outcome(outcome proto.Outcome) Outcome {
	reply, err := outcome.Reply, outcome.Err
	o := Outcome{To: outcome.Recipient, Remote: DNS(h.Host)}
	var refused *proto.Error
	if errors.As(err, &refused) && reply.Code == 0 {
		reply = refused.Reply()
	}
	if reply.Code != 0 {
		o.Diagnostic = SMTP(reply)
		o.Status = reply.Status
	}
	if refused != nil && refused.Code/100 != reply.Code/100 {
		o.Status = refused.Status // 552 taken for 452 (RFC 5321 section 4.5.3.1.10)
	}
	var told interface{ Status() proto.Status }
	switch {
	case err == nil && h.Caps.Has("DSN"):
	case err == nil:
		o.Action = ehlo.Relayed
	case errors.As(err, &told) && told.Status().Class() == 4:
		o.Action, o.Status, o.Comment = ehlo.Delayed, told.Status(), explain(err, told.Status())
	case refused != nil && !refused.Permanent():
		o.Action = ehlo.Delayed
	case told != nil:
		o.Action, o.Status, o.Comment = ehlo.Failed, told.Status(), explain(err, told.Status())
	case refused != nil:
		o.Action = ehlo.Failed
	default:
		o.Action = ehlo.Delayed
	}
	return o
}

// explain returns in a few words of ASCII why a message could not be given to a server that has not refused it.
func explain(err error, status proto.Status) string {
	var need *ext.UnsupportedError
	var large *ehlo.TooLargeError
	var tls *ext.TLSError
	switch {
	case errors.As(err, &large):
		return strings.TrimPrefix(large.Error(), "smtp: ")
	case errors.As(err, &need) && need.Keyword != "" && need.Err == nil:
		return "the server does not offer " + need.Keyword + ", which the message needs"
	case errors.As(err, &need) && need.Keyword != "":
		return "the server offers " + need.Keyword + ", but not as the message needs it"
	case errors.As(err, &tls) && status[1] == 7:
		return "the server has no TLS that can be trusted, which is required"
	}
	switch status { // RFC 3463 sections 3.5 and 3.6
	case proto.Status{4, 4, 1}:
		return "the server cannot be reached"
	case proto.Status{4, 4, 2}:
		return "the connection to the server was lost"
	case proto.Status{4, 5, 3}:
		return "the server does not take so much at a time"
	}
	return "the message could not be given to the server"
}

// recipient returns what a report says of o.
func (o *Outcome) recipient(original ehlo.OriginalRecipient) Recipient {
	return Recipient{
		Original: original, Final: ehlo.NewOriginalRecipient(o.To.Address), Action: o.Action, Status: o.Status,
		Comment: o.Comment, Remote: o.Remote, Diagnostic: o.Diagnostic, LastAttempt: o.LastAttempt, LogID: o.LogID, WillRetryUntil: o.WillRetryUntil, Fields: o.Fields,
	}
}

// Due returns the reports on m that outcomes make due, by what its sender has asked for (RFC 3461 sections 5.2.1 to 5.2.7): of
// failure unless NOTIFY is there and does not say FAILURE, of delay unless it is there and does not say DELAY, and of
// delivery, relaying and expansion if it says SUCCESS. NOTIFY=NEVER means none, and so does the null reverse-path, so that
// bounces are never bounced. A report says nothing of recipients who are to have none (section 5.2.8).
//
// There are three at most: of failures, of delays and of the rest. Whom an outcome stands for is told of it each time
// that Due is called, so outcomes are given to it once.
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

// kindOf returns the action that stands for all those reported together with a, "" if a is none of ext.
func kindOf(a ehlo.Action) ehlo.Action {
	switch a {
	case ehlo.Failed, ehlo.Delayed:
		return a
	case ehlo.Delivered, ehlo.Relayed, ehlo.Expanded:
		return ehlo.Delivered
	}
	return ""
}

// kind returns the kind of the gravest action in r.
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
