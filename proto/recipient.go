package proto

// A Recipient is one recipient of a message: the address of a RCPT command and its parameters.
type Recipient struct {
	Address Address
	Params  Params
}

// String returns the address, for people to read; see [Address.String]. Parameters are left out.
func (r Recipient) String() string { return r.Address.String() }

// An Outcome is what happened to a message for one recipient, as the sending end of a connection sees it.
type Outcome struct {
	Recipient
	// Host is the name of the server that has replied, as ServerName of the client tells it. It is "" if there was none.
	Host string
	// Rcpt is the reply to RCPT. It is zero if there was none, and if MAIL was refused.
	Rcpt Reply
	// Reply is the reply that decided: the reply to RCPT if that refused the recipient, otherwise the reply to the
	// content. It is zero if there was none.
	Reply Reply
	// Err is nil if the server has taken responsibility for the message to this recipient. If the server refused, Err is
	// an [*Error] whose Verb names the command. Any other error says why there was no answer. If a server refuses a
	// recipient with 552 because it has no room for more recipients, the code of the error is 452
	// (RFC 5321 section 4.5.3.1.10).
	Err error
}

// String returns what happened on one line, such as "joe@example.net: 250 2.0.0 Queued", or the error behind the
// address. Characters of the server that are not printable are escaped.
func (o Outcome) String() string {
	b := append(appendVisible(nil, o.Address.String()), ": "...)
	switch {
	case o.Err != nil:
		b = append(b, o.Err.Error()...)
	case o.Reply.Code == 0:
		b = append(b, "accepted"...)
	default:
		b = o.Reply.appendLine(b)
	}
	return string(b)
}
