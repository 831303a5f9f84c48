package ehlo

import (
	"reflect"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// ConPerm returns the extension CONPERM (RFC 4141 section 4), by which a sender permits relays to convert a message for
// its recipients. A relay that needs to convert the message and cannot has to return it.
//
// A server offers it if the session implements [ConPermSession] and its Converts is true. The session reads the
// parameter with [ReadConPerm].
//
// On a client, add the parameter with [AddConPerm]. If the server does not offer the extension, the client refuses the
// message with an [ext.UnsupportedError]. Report 5.6.3 to the sender in that case (RFC 4141 section 3.3).
//
// The extension is not in [Default].
func ConPerm() ext.Extension {
	return ext.Extension{
		Keyword:    "CONPERM",
		Interfaces: []reflect.Type{reflect.TypeFor[ConPermSession]()},
		Mail:       []ext.Param{{Key: "CONPERM", MaxLength: len(" CONPERM"), Flag: true}},
		Advertise:  advertiseIf(ConPermSession.Converts),
	}
}

// A ConPermSession is a session that converts content where the sender permits it.
type ConPermSession interface {
	// Converts reports whether this server or a later one converts the messages that need it, as RFC 4141 section 3
	// demands.
	Converts() bool
}

// ReadConPerm reports whether the parameters of a MAIL command have CONPERM. Which conversions the sender permits is in
// the header field Content-Convert of each part of the message.
func ReadConPerm(p proto.Params) bool { return p.Has("CONPERM") }

// AddConPerm returns p with the parameter CONPERM.
func AddConPerm(p proto.Params) proto.Params { return p.SetFlag("CONPERM") }
