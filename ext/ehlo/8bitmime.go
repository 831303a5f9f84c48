package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// maxBodyParam is the length of the longest BODY parameter, " BODY=BINARYMIME" (RFC 3030 section 3).
const maxBodyParam = len(" BODY=BINARYMIME")

// EightBitMIME returns the extension 8BITMIME (RFC 6152): content may have octets above 127. A client adds
// BODY=8BITMIME to a message with such content and refuses to send it to a server that does not offer the extension;
// it converts nothing. A server passes content on unchanged, and the declaration to the session as the parameter
// BODY.
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
