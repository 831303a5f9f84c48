package ehlo

import "smtpkit.example/smtp/ext"

// EnhancedStatusCodes returns the extension ENHANCEDSTATUSCODES (RFC 2034), by which replies carry a status code of RFC
// 3463, such as 5.1.1, before their text.
//
// A server takes the code from Status of the [proto.Error] or [proto.Reply]. If that is zero, it uses a status code
// that fits the reply code.
//
// A client reads the codes into [proto.Reply.Status].
//
// The extension is in [Default].
func EnhancedStatusCodes() ext.Extension {
	return ext.Extension{Keyword: "ENHANCEDSTATUSCODES", StatusCodes: true}
}
