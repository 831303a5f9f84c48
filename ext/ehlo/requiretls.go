package ehlo

import (
	"errors"
	"reflect"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// RequireTLS returns the extension REQUIRETLS (RFC 8689), by which a sender demands that a message travels only over
// TLS. All servers on its way must have proved their names, and offer the extension themselves.
//
// A server offers it under TLS if the session implements [RequireTLSSession] and its KeepsTLS is true. The session
// finds out with [ReadRequireTLS] whether a message requires TLS. It then ignores the header field TLS-Required (RFC
// 8689 section 4.1).
//
// On a client, add the parameter with [AddRequireTLS]. The client refuses the message with an [ext.UnsupportedError]
// unless the server offers the extension, and the connection has TLS with a verified certificate. The client cannot
// know whether the server's name is genuine: look it up with DNSSEC or MTA-STS (RFC 8689 section 4.2.1).
//
// If no server can take the message, report 5.7.30 or 5.7.10 to the sender; [ext.UnsupportedError] and [ext.TLSError]
// have these status codes. A notification requires TLS too, unless it says nothing of the message. From the null
// reverse-path it may go without (RFC 8689 section 5).
//
// The extension is in [Default].
func RequireTLS() ext.Extension {
	return ext.Extension{
		Keyword:    "REQUIRETLS",
		Interfaces: []reflect.Type{reflect.TypeFor[RequireTLSSession]()},
		Missing:    proto.Status{5, 7, 30}, // RFC 8689 section 4.2.1
		Mail:       []ext.Param{{Key: "REQUIRETLS", MaxLength: len(" REQUIRETLS"), Flag: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			k, ok := ext.As[RequireTLSSession](x.Session())
			return "", ok && x.TLS() != nil && k.KeepsTLS()
		},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if !ReadRequireTLS(e.Mail) || e.Verified {
				return nil
			}
			return &ext.UnsupportedError{Keyword: "REQUIRETLS",
				What: "a message that requires TLS", Code: proto.Status{5, 7, 10},
				Err: errors.New("the connection has no TLS, or the certificate of the server was not verified")}
		},
	}
}

// A RequireTLSSession is a session that relays messages with REQUIRETLS as RFC 8689 demands, or does not relay them.
type RequireTLSSession interface {
	// KeepsTLS reports whether the session sends messages with REQUIRETLS on only as RFC 8689 section 4.2.1 demands. A
	// session that delivers to mailboxes of this host can return true.
	KeepsTLS() bool
}

// ReadRequireTLS reports whether the parameters of a MAIL command have REQUIRETLS.
func ReadRequireTLS(p proto.Params) bool { return p.Has("REQUIRETLS") }

// AddRequireTLS returns p with the parameter REQUIRETLS.
func AddRequireTLS(p proto.Params) proto.Params { return p.SetFlag("REQUIRETLS") }
