package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// maxBodyParam is the length of the longest BODY parameter, " BODY=BINARYMIME" (RFC 3030 section 3).
const maxBodyParam = len(" BODY=BINARYMIME")

// EightBitMIME returns the extension 8BITMIME (RFC 6152), for content with octets above 127, such as text in UTF-8.
//
// A server passes such content on unchanged. The session finds the declaration in the parameter BODY.
//
// A client adds BODY=8BITMIME to a message with such content. It converts nothing: if the server does not offer the
// extension, the client refuses the message with an [ext.UnsupportedError].
//
// The extension is in [Default].
func EightBitMIME() ext.Extension {
	return ext.Extension{
		Keyword:  "8BITMIME",
		Mail:     []ext.Param{{Key: "BODY", MaxLength: maxBodyParam, Values: []string{"7BIT", "8BITMIME"}}},
		Provides: ext.EightBit,
		Missing:  proto.Status{5, 6, 3}, // RFC 3463 section 3.7
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if e.Needs&ext.EightBit == 0 {
				return nil
			}
			if body, ok := e.Mail.Get("BODY"); !ok || grammar.EqualFold(body, "7BIT") {
				e.Mail = e.Mail.Set("BODY", "8BITMIME")
			}
			return nil
		},
	}
}
