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

// A UnsupportedError is why a client did not send a message: it needs an extension that is not on offer, or more than is
// offered. Nothing of the message has been sent.
type UnsupportedError struct {
	Keyword string // of the extension; "" if no extension in use would do
	What    string // what needs it, such as "the recipient jörg@example.org"
	// Err says why the extension will not do although the server offers it; nil if it does not offer it.
	Err error

	// Code is the status code that Status returns; zero stands for 5.3.3.
	Code proto.Status
}

// Unwrap returns Err.
func (e *UnsupportedError) Unwrap() error { return e.Err }

// Is reports whether target is errors.ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// Status returns the status code to report to the sender of the message if no other server takes it. Its class is 5. By
// default it is 5.3.3, the system cannot do what was asked of it (RFC 3463 section 3.4).
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

// A TLSError is why a client gave up a session in which TLS was not to be had as its policy demands.
type TLSError struct {
	Err error
}

func (e *TLSError) Error() string { return "smtp: TLS: " + grammar.Cause(e.Err) }

// Unwrap returns the cause: a *proto.Error if the server refused, or an error of crypto/tls or of the network.
func (e *TLSError) Unwrap() error { return e.Err }

// Status returns the status code by which the sender of a message is told, should no server with TLS take it: 5.7.10
// (RFC 8689 section 4.2.1). It is 4.4.2 if the connection
// broke, and 4.7.10 if the server said that it may do so later.
func (e *TLSError) Status() proto.Status {
	if r, ok := grammar.AsType[*proto.Error](e.Err); ok && r.Temporary() {
		return proto.Status{4, 7, 10}
	}
	if ofNetwork(e.Err) {
		return proto.Status{4, 4, 2}
	}
	return proto.Status{5, 7, 10}
}

// ofNetwork reports whether err is of the network, in a handshake or on the way to a source of credentials, and not of what is
// at the other end of it.
func ofNetwork(err error) bool {
	if e, ok := grammar.AsType[*net.DNSError](err); ok {
		return e.Temporary()
	}
	if e, ok := grammar.AsType[*net.OpError](err); ok {
		return e.Op != "remote error" // an alert of TLS
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

// An AuthError is why a client gave up a session in which it could not authenticate.
type AuthError struct {
	Mechanism string // the mechanism tried last; "" if none was
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

// Status returns the status code by which the sender of a message is told, should no server let this one in: that of the cause,
// if it has one, or 5.7.0 (RFC 3463 section 3.8), and 4.7.0 for what may pass.
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
