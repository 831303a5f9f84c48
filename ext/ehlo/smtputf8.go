package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// SMTPUTF8 returns the extension SMTPUTF8 (RFC 6531), by which addresses and header fields may have UTF-8 in them. It
// requires [EightBitMIME] (RFC 6531 section 3.1).
//
// A server refuses addresses with UTF-8 in a transaction without the parameter: senders with 550 5.6.7, recipients with
// 553 5.6.7 (RFC 6531 section 3.5).
//
// A client adds the parameter to MAIL if Needs of the message have [ext.UTF8], or if a local part is not ASCII. It
// sends a domain in UTF-8 as A-labels, which every server accepts. If the server does not offer the extension, the
// client refuses the message with an [ext.UnsupportedError].
//
// The extension is in [Default].
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
