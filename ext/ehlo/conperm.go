package ehlo

import (
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// ConPerm returns the extension CONPERM (RFC 4141 section 4): whoever relays a message may convert its content to what the
// recipients can take, and has to return it if that is needed and cannot be done.
//
// A server offers it if the session is a [ConPermSession]. On a client the caller adds the parameter with [AddConPerm], and the
// message is refused with a [ext.UnsupportedError] if the server does not offer the extension; the status code for the sender is then
// 5.6.3 (section 3.3). The extension is not among those of [Default].
func ConPerm() ext.Extension {
	return ext.Extension{
		Keyword:   "CONPERM",
		Mail:      []ext.Param{{Key: "CONPERM", MaxLength: len(" CONPERM"), Flag: true}},
		Advertise: advertiseIf(ConPermSession.Converts),
	}
}

// A Converter is a session that can honour CONPERM.
type ConPermSession interface {
	// Converts reports whether messages that need it are converted here or further on, as RFC 4141 section 3 has it.
	Converts() bool
}

// ReadConPerm reports whether the parameters of a MAIL command have CONPERM. What conversions are permitted is in the
// header fields Content-Convert of the parts of the message.
func ReadConPerm(p proto.Params) bool { return p.Has("CONPERM") }

// AddConPerm returns p with CONPERM.
func AddConPerm(p proto.Params) proto.Params { return p.SetFlag("CONPERM") }
