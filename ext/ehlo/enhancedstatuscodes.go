package ehlo

import "smtpkit.example/smtp/ext"

// EnhancedStatusCodes returns the extension ENHANCEDSTATUSCODES (RFC 2034): replies carry a status code of RFC 3463,
// such as 5.1.1, before their text. A server takes it from [proto.Error.Status], or finds one that fits the reply
// code.
func EnhancedStatusCodes() ext.Extension {
	return ext.Extension{Keyword: "ENHANCEDSTATUSCODES", StatusCodes: true}
}
