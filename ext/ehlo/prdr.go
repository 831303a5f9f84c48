package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// PRDR returns the extension PRDR (draft-hall-prdr, as Exim has it), by which a client is told in SMTP what became of the
// content for each recipient, as it is in LMTP: some may accept a message that others refuse for what is in it.
//
// A server offers it if the session has the method DataEach of server.RecipientData, which is then called for the messages
// of clients that have asked. A client asks for it with each message for more than one recipient; the outcome is in the
// result of each. If the last of the replies, that for all, refuses, then none has got the message.
//
// It has no part in LMTP. It is not among the extensions of [Default].
func PRDR() ext.Extension {
	return ext.Extension{
		Keyword: "PRDR",
		Mail:    []ext.Param{{Key: "PRDR", MaxLength: len(" PRDR"), Flag: true, PerRecipient: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[ext.RecipientData](x.Session())
			return "", ok && x.Protocol() == proto.SMTP
		},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if len(e.To) > 1 && !e.Mail.Has("PRDR") {
				e.Mail = e.Mail.SetFlag("PRDR")
			}
			return nil
		},
	}
}
