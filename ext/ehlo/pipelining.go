package ehlo

import "smtpkit.example/smtp/ext"

// Pipelining returns the extension PIPELINING (RFC 2920): a client sends commands in groups, without waiting for the
// reply to each. A server that offers it answers every group in order, as it does in any case.
func Pipelining() ext.Extension {
	return ext.Extension{Keyword: "PIPELINING", Pipelining: true}
}
