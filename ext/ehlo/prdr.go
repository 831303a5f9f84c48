package ehlo

import (
	"reflect"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// PRDR returns the extension PRDR (draft-hall-prdr, as Exim implements it), by which SMTP reports the outcome of a
// message for each recipient, as LMTP does. Some recipients can then accept a message that others refuse for its
// content.
//
// A server offers it if the session has the method DataEach (server.RecipientData). It calls DataEach for the messages
// of clients that ask for outcomes. The extension has no part in LMTP.
//
// A client asks with each message for more than one recipient, and puts the outcomes into the Result. It does not ask
// with a message that goes to all or to none (AllOrNone of client.Message). If the last reply, which is for all,
// refuses, then no recipient has got the message.
//
// The extension is not in [Default].
func PRDR() ext.Extension {
	return ext.Extension{
		Keyword:    "PRDR",
		Interfaces: []reflect.Type{reflect.TypeFor[ext.RecipientData]()},
		Mail:       []ext.Param{{Key: "PRDR", MaxLength: len(" PRDR"), Flag: true, PerRecipient: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[ext.RecipientData](x.Session())
			return "", ok && x.Protocol() == proto.SMTP
		},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if len(e.To) > 1 && !e.AllOrNone && !e.Mail.Has("PRDR") {
				e.Mail = e.Mail.SetFlag("PRDR")
			}
			return nil
		},
	}
}
