package ext

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// An UnsupportedError means that a client did not send a message or a command, because it needs an extension that the
// server lacks, or supports in part. Nothing of the message has been sent. errors.Is reports it as an
// errors.ErrUnsupported.
type UnsupportedError struct {
	Keyword string // of the extension; "" if no extension in the client's list would do
	What    string // what needs the extension, such as "the recipient jörg@example.org"
	// Err says why the extension will not do although the server advertises it. It is nil if the server does not.
	Err error

	// Code is the status code that Status returns. Zero stands for 5.3.3.
	Code proto.Status
}

// Unwrap returns Err.
func (e *UnsupportedError) Unwrap() error { return e.Err }

// Is reports whether target is errors.ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// Status returns the status code to report to the sender of the message if no other server takes it. Its class is 5.
// The default is 5.3.3, "system not capable of selected features" (RFC 3463 section 3.4).
func (e *UnsupportedError) Status() proto.Status {
	if e.Code.IsZero() {
		return proto.Status{5, 3, 3}
	}
	return e.Code
}

func (e *UnsupportedError) Error() string {
	if e.Err != nil {
		return "smtp: " + e.What + " cannot be sent by " + e.Keyword + ": " + grammar.Cause(e.Err)
	}
	if e.Keyword == "" {
		return "smtp: no extension in use provides for what " + e.What + " needs: add one to Options.Extensions"
	}
	return "smtp: the server does not offer " + e.Keyword + ", which " + e.What + " needs"
}

// A TLSError means that a client gave up a connection because it did not get TLS as its policy requires. Nothing of the
// message or the credentials has been sent. If the server did not offer STARTTLS, errors.Is reports it as an
// errors.ErrUnsupported.
type TLSError struct {
	Err error
	// Optional means that the policy did not require TLS, and that TLS failed all the same: in TLSOpportunistic the server
	// offered STARTTLS, and the handshake failed. A program that delivers to mail exchangers may then make one further
	// attempt with TLSInsecureNone, since plaintext is no worse than what its policy permits (RFC 7435). It must not if
	// another policy forbids plaintext: REQUIRETLS (RFC 8689), MTA-STS (RFC 8461), DANE (RFC 7672), or one of its own. The
	// client makes no such attempt by itself.
	//
	// It is false if a function of the TLS configuration rejected the server, and if the context had ended.
	Optional bool
}

func (e *TLSError) Error() string { return "smtp: TLS: " + grammar.Cause(e.Err) }

// Unwrap returns the cause: a *proto.Error if the server refused, or an error of crypto/tls or of the network.
func (e *TLSError) Unwrap() error { return e.Err }

// Status returns the status code to report to the sender of the message if no other server takes it. It is the code of
// the cause if that has one, such as that of a function which verifies the server. Of the others these are temporary:
//
//   - 4.7.10 if the server refused STARTTLS for now, with 454 for instance;
//   - 4.4.2 if the connection broke, or the handshake took too long;
//   - 4.7.5, cryptographic failure (RFC 3463 section 3.8), if TLS was Optional.
//
// Otherwise it is 5.7.10 (RFC 8689 section 4.2.1): TLS is required, and the server does not offer it, refuses it for
// good, or ended the handshake with an alert, or its certificate does not verify. That takes somebody to mend it.
func (e *TLSError) Status() proto.Status {
	r, refused := grammar.AsType[*proto.Error](e.Err)
	verifier, own := grammar.AsType[interface {
		error
		Status() proto.Status
	}](e.Err)
	switch {
	case refused && r.Temporary():
		return proto.Status{4, 7, 10}
	case own && !refused:
		return verifier.Status()
	case ofNetwork(e.Err):
		return proto.Status{4, 4, 2}
	case e.Optional:
		return proto.Status{4, 7, 5}
	}
	return proto.Status{5, 7, 10}
}

// An AuthError means that a client gave up a connection because it could not authenticate.
type AuthError struct {
	Mechanism string // the mechanism tried last; "" if the client tried none
	Err       error
}

func (e *AuthError) Error() string {
	if e.Mechanism == "" {
		return "smtp: AUTH: " + grammar.Cause(e.Err)
	}
	return "smtp: AUTH " + e.Mechanism + ": " + grammar.Cause(e.Err)
}

// Unwrap returns the cause: a *proto.Error if the server refused.
func (e *AuthError) Unwrap() error { return e.Err }

// Status returns the status code to report to the sender of the message if no other server takes it. It is the code of
// the cause if that has one. Otherwise it is 5.7.0 (RFC 3463 section 3.8), or 4.7.0 if the cause may pass.
func (e *AuthError) Status() proto.Status {
	other := proto.Status{5, 7, 0}
	if r, ok := grammar.AsType[*proto.Error](e.Err); ok {
		if !r.Status.IsZero() {
			return r.Status
		}
		other[0] = uint16(r.Code / 100)
		return other
	}
	if s, ok := grammar.AsType[interface {
		error
		Status() proto.Status
	}](e.Err); ok {
		return s.Status()
	}
	if ofNetwork(e.Err) {
		other[0] = 4
	}
	return other
}

// ofNetwork reports whether err comes from the network, and not from the peer in a TLS handshake or from a source of
// credentials.
func ofNetwork(err error) bool {
	if e, ok := grammar.AsType[*net.DNSError](err); ok {
		return e.Temporary()
	}
	if e, ok := grammar.AsType[*net.OpError](err); ok {
		return e.Op != "remote error" // crypto/tls reports a TLS alert so
	}
	for _, cause := range []error{
		context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	e, ok := grammar.AsType[net.Error](err)
	return ok && e.Timeout()
}
