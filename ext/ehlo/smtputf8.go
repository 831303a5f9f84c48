package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// SMTPUTF8 returns the extension SMTPUTF8 (RFC 6531): addresses and header fields may have UTF-8 in them. It requires
// 8BITMIME (section 3.1).
//
// A client adds the parameter to MAIL if the envelope needs it or has a local part that is not ASCII, and only then:
// a domain alone is sent as A-labels, which every server takes. A server refuses such addresses in transactions
// without the parameter: senders with 550 5.6.7, recipients with 553 5.6.7 (section 3.5).
func SMTPUTF8() ext.Extension {
	return ext.Extension{
		Keyword:  "SMTPUTF8",
		Mail:     []ext.Param{{Key: "SMTPUTF8", MaxLength: 10, Flag: true, UTF8: true}}, // RFC 6531 section 3.1, item 5
		Provides: ext.UTF8,
		Missing:  proto.Status{5, 6, 7}, // RFC 6531 section 3.5
		Requires: []string{"8BITMIME"},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if e.Needs&ext.UTF8 != 0 || e.NonASCII() != "" {
				e.Mail = e.Mail.SetFlag("SMTPUTF8")
			}
			return nil
		},
	}
}
