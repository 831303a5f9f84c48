package ehlo

import (
	"errors"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// RequireTLS returns the extension REQUIRETLS (RFC 8689): the message may travel only by connections with TLS between
// servers that are known to be the right ones and that offer the extension themselves.
//
// A server offers it under TLS, if the session is a [RequireTLSSession] that promises to go on like that. [ReadRequireTLS] tells the
// session that a message is to be treated so. The header field TLS-Required is then of no account (section 4.1).
//
// On a client the caller adds the parameter with [AddRequireTLS]. The message is refused with a [ext.UnsupportedError] unless the server
// offers the extension, and the connection has TLS with a certificate that was verified. That the name of the server was
// not made up, because DNSSEC or MTA-STS vouches for it (section 4.2.1), is for whoever looked it up. The status codes for
// the sender of a message that no server can take are 5.7.30 and 5.7.10; UnsupportedError and TLSError have them. A notification about a message that required TLS
// requires it too, unless it says nothing of the message; with the null reverse-path, it may go without (section 5).
func RequireTLS() ext.Extension {
	return ext.Extension{
		Keyword: "REQUIRETLS",
		Missing: proto.Status{5, 7, 30}, // RFC 8689 section 4.2.1
		Mail:    []ext.Param{{Key: "REQUIRETLS", MaxLength: len(" REQUIRETLS"), Flag: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			k, ok := ext.As[RequireTLSSession](x.Session())
			return "", ok && x.TLS() != nil && k.KeepsTLS()
		},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if !ReadRequireTLS(e.Mail) || e.Verified {
				return nil
			}
			return &ext.UnsupportedError{Keyword: "REQUIRETLS", What: "a message that requires TLS", Code: proto.Status{5, 7, 10},
				Err: errors.New("the connection has no TLS, or the certificate of the server was not verified")}
		},
	}
}

// A RequireTLSSession is a session that can honour REQUIRETLS.
type RequireTLSSession interface {
	// KeepsTLS reports whether messages with REQUIRETLS that the session accepts are sent on only as RFC 8689
	// section 4.2.1 demands. One that delivers them where they arrive can say so.
	KeepsTLS() bool
}

// ReadRequireTLS reports whether the parameters of a MAIL command have REQUIRETLS.
func ReadRequireTLS(p proto.Params) bool { return p.Has("REQUIRETLS") }

// AddRequireTLS returns p with REQUIRETLS.
func AddRequireTLS(p proto.Params) proto.Params { return p.SetFlag("REQUIRETLS") }
