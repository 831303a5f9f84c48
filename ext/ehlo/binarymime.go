package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// BinaryMIME returns the extension BINARYMIME (RFC 3030 section 3): content need not consist of lines. It requires
// [Chunking], since only chunks can carry such content; a server answers DATA with 503. A client adds BODY=BINARYMIME
// to an envelope that needs it, and refuses to send it to a server that does not offer the extension.
func BinaryMIME() ext.Extension {
	return ext.Extension{
		Keyword: "BINARYMIME",
		Mail: []ext.Param{{
			Key: "BODY", MaxLength: maxBodyParam, Values: []string{"BINARYMIME"}, Binary: "BINARYMIME",
		}},
		Provides: ext.Binary,
		Missing:  proto.Status{5, 6, 3}, // RFC 3463 section 3.7
		Requires: []string{"CHUNKING"},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if e.Needs&ext.Binary != 0 {
				e.Mail = e.Mail.Set("BODY", "BINARYMIME")
			}
			return nil
		},
	}
}
