package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// BinaryMIME returns the extension BINARYMIME (RFC 3030 section 3), for content that does not consist of lines, such as
// an image without base64. It requires [Chunking], since only chunks can carry such content.
//
// A server answers DATA with 503 after BODY=BINARYMIME.
//
// A client adds BODY=BINARYMIME to a message whose Needs have [ext.Binary]. If the server does not offer the extension,
// the client refuses the message with an [ext.UnsupportedError].
//
// The extension is in [Default].
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
