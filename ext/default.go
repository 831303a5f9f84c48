package ext

// Default returns the extensions that servers and clients use whose options name none, in the order in which a server
// offers them. STARTTLS comes before AUTH, so that a client authenticates on the protected connection.
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
	}
}
