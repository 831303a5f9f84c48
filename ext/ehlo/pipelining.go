package ehlo

import "smtpkit.example/smtp/ext"

// Pipelining returns the extension PIPELINING (RFC 2920), by which a client sends commands in groups, without waiting
// for each reply.
//
// A server answers groups in order, whether or not the extension is in its list.
//
// A client pipelines only if the server offers the extension.
//
// The extension is in [Default].
func Pipelining() ext.Extension {
	return ext.Extension{Keyword: "PIPELINING", Pipelining: true}
}
