package proto

// A Recipient is one recipient of a message: the address of a RCPT command and its parameters.
type Recipient struct {
	Address Address
	Params  Params
}

// An Outcome is what happened to a message for one recipient, as the sending side of a connection sees it.
type Outcome struct {
	Recipient
	// Rcpt is the reply to RCPT. It is zero if there was none, and if MAIL was refused.
	Rcpt Reply
	// Reply is the reply that decided: that to RCPT if it refused the recipient, otherwise that to the content. It is zero
	// if there was none.
	Reply Reply
	// Err is nil if the server has taken responsibility for the message to this recipient. It is an [*Error] if the
	// server refused, whose Verb names the command; any other error says why there was no answer. When a server ran
	// out of room for recipients and said 552, the error has the code 452 (RFC 5321 section 4.5.3.1.10).
	Err error
}
