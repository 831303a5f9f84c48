package proto

// The refusals of a Receiver. They are shared and must not be changed.
var (
	errUnknown         = Refuse(500, Status{5, 5, 1}, "Command not recognized")
	errLineTooLong     = Refuse(500, Status{5, 5, 2}, "Line too long")
	errExchangeTooLong = Refuse(500, Status{5, 5, 6}, "Authentication exchange line is too long")
	errBareLF          = Refuse(500, Status{5, 5, 2}, "Bare LF in a command: lines end with CRLF")
	errControl         = Refuse(501, Status{5, 5, 2}, "Control character in a command")
	errNotUTF8         = Refuse(501, Status{5, 5, 2}, "Command is neither ASCII nor valid UTF-8")
	errNoLineEnd       = Refuse(500, Status{5, 5, 2}, "Line far too long, closing connection")
	errTLS             = Refuse(500, Status{5, 5, 2}, "TLS handshake where a command was expected, closing connection")
	errSSH             = Refuse(500, Status{5, 5, 2}, "SSH where a command was expected, closing connection")
	errPayloadSize     = Refuse(501, Status{5, 5, 4}, "Cannot tell how many octets follow, closing connection")

	errNoHello       = Refuse(503, Status{5, 5, 1}, "Introduce yourself first: EHLO, or LHLO in LMTP")
	errNoMail        = Refuse(503, Status{5, 5, 1}, "Bad sequence of commands: MAIL first")
	errNoRcpt        = Refuse(503, Status{5, 5, 1}, "Bad sequence of commands: no valid recipients")
	errInTransaction = Refuse(503, Status{5, 5, 1}, "Bad sequence of commands: a transaction is open")
	errChunks        = Refuse(503, Status{5, 5, 1}, "Bad sequence of commands: content has begun in chunks")
	errBroken        = Refuse(503, Status{5, 5, 1}, "Bad sequence of commands: a chunk was refused, RSET first")
	errNoService     = Refuse(503, Status{5, 5, 1}, "No service here: only QUIT is accepted")
	errBadOrder      = Refuse(503, Status{5, 5, 1}, "Bad sequence of commands")
)

// outOfSequence returns the refusal of a command that is not allowed in the state now.
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
