package proto

// What a Receiver refuses commands with. They are shared and not to be changed.
var (
	errUnknown         = &Error{Code: 500, Status: Status{5, 5, 1}, Text: "Command not recognized"}
	errLineTooLong     = &Error{Code: 500, Status: Status{5, 5, 2}, Text: "Line too long"}
	errExchangeTooLong = &Error{Code: 500, Status: Status{5, 5, 6}, Text: "Authentication exchange line is too long"}
	errBareLF          = &Error{Code: 500, Status: Status{5, 5, 2}, Text: "Bare LF in a command: lines end with CRLF"}
	errControl         = &Error{Code: 501, Status: Status{5, 5, 2}, Text: "Control character in a command"}
	errNotUTF8         = &Error{Code: 501, Status: Status{5, 5, 2}, Text: "Command is neither ASCII nor valid UTF-8"}
	errNoLineEnd       = &Error{Code: 500, Status: Status{5, 5, 2}, Text: "Line far too long, closing connection"}
	errTLS             = &Error{Code: 500, Status: Status{5, 5, 2}, Text: "TLS handshake where a command was expected, closing connection"}
	errPayloadSize     = &Error{Code: 501, Status: Status{5, 5, 4}, Text: "Cannot tell how many octets follow, closing connection"}

	errNoHello       = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "Introduce yourself first: EHLO, or LHLO in LMTP"}
	errNoMail        = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "Bad sequence of commands: MAIL first"}
	errNoRcpt        = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "Bad sequence of commands: no valid recipients"}
	errInTransaction = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "Bad sequence of commands: a transaction is open"}
	errChunks        = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "Bad sequence of commands: content has begun in chunks"}
	errBroken        = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "Bad sequence of commands: a chunk was refused, RSET first"}
	errNoService     = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "No service here: only QUIT is accepted"}
	errBadOrder      = &Error{Code: 503, Status: Status{5, 5, 1}, Text: "Bad sequence of commands"}
)

// outOfSequence returns what to tell a client that sent a command which is not allowed in the state now.
func outOfSequence(now State, v *Verb) *Error {
	switch {
	case now == Greeting:
		return errNoService
	case now == Hello:
		return errNoHello
	case now == Broken:
		return errBroken
	case now == Chunks:
		return errChunks
	case now == Ready && v.In&(Mail|Rcpt) != 0:
		return errNoMail
	case now == Mail && v.In&(Rcpt|Chunks) != 0:
		return errNoRcpt
	case now&(Mail|Rcpt) != 0 && v.In&Ready != 0:
		return errInTransaction
	}
	return errBadOrder
}
