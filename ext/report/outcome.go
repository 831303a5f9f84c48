package report

import (
	"errors"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// An Outcome is what happened to a message for one recipient.
type Outcome struct {
	// To is the recipient that was accepted: the address of the RCPT command, with its parameters.
	To proto.Recipient
	// Action says what happened. It is "" if there is nothing to report, because the next server advertises DSN, has
	// accepted the message and will report.
	Action ehlo.Action
	// The other fields have the meaning of those of Recipient.
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
	Host string     // the domain name of the server
	Caps proto.Caps // what the server advertised in its last reply to EHLO
}

// Outcome returns the outcome of an attempt to send a message to h for one recipient, such as client.Result has. Its
// Recipient must be the one that was accepted, with the parameters of that RCPT command.
//
// The Action depends on what happened:
//
//   - "" if h has accepted the message and advertises DSN: then h has the duty to notify (RFC 3461 section 5.2.1).
//   - Relayed if h has accepted the message and does not advertise DSN.
//   - Failed after a reply of 5yz.
//   - Failed also after an error about the message or about what it needs, such as [ext.UnsupportedError],
//     [ehlo.TooLargeError], [ext.TLSError] and client.MessageError. Use it if there is no other host to try (RFC 8689
//     section 4.2.1).
//   - Delayed after anything else. Once you give up, make it Failed and keep the Status (RFC 3464 section 2.3.3).
//
// The Status is that of the reply. Errors without a reply have it from a method Status() proto.Status; yours may have
// one too. The Comment is then a sentence of this package, since the text of an error may name files and addresses that
// are private. If an error has neither reply nor Status, as one of a DNS lookup, set Status, such as to 4.4.3, and
// Comment yourself.
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

// explain says in a few words of ASCII why a message did not get to a server that has not refused it.
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
	case errors.As(err, &tls) && tls.Optional && status[1] == 7:
		return "the server offers TLS, and it failed"
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

// recipient returns o as a report has it.
func (o *Outcome) recipient(original ehlo.OriginalRecipient) Recipient {
	return Recipient{
		Original: original, Final: ehlo.NewOriginalRecipient(o.To.Address), Action: o.Action, Status: o.Status,
		Comment: o.Comment, Remote: o.Remote, Diagnostic: o.Diagnostic, LastAttempt: o.LastAttempt, LogID: o.LogID,
		WillRetryUntil: o.WillRetryUntil, Fields: o.Fields,
	}
}
