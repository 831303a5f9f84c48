package ext

// Default returns the extensions that servers and clients use whose options name none, in the order in which a server
// offers them. STARTTLS comes before AUTH, so that a client authenticates on the protected connection. What takes a
// session's part is on offer only if the session has the interface for it.
func Default() []Extension {
	return []Extension{
		Pipelining(),
		Size(),
		EightBitMIME(),
		EnhancedStatusCodes(),
		StartTLS(),
		Auth(),
		SMTPUTF8(),
		Chunking(),
		BinaryMIME(),
		Help(),
		Vrfy(),
		Expn(),
		DSN(),
		RequireTLS(),
		MTPriority(),
		DeliverBy(),
		RRVS(),
		Limits(),
		Obsolete(),
	}
}
