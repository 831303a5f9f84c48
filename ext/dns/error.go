package dns

import (
	"errors"
	"net"
	"strings"

	"smtpkit.example/smtp/proto"
)

// An Error means that a question about the DNS has no answer now. It is temporary, unless the name cannot exist.
type Error struct {
	Name   string // what was asked for
	Type   Type
	Server string // the name server that was asked, or ""
	// Bogus says that the resolver has refused the answer since DNSSEC proves it wrong, as far as the resolver tells
	// (RFC 8914). Without such a word a bogus answer is a failure like others.
	Bogus bool
	Err   error // what went wrong
}

func (e *Error) Error() string {
	s := "smtp: looking up " + e.Type.String() + " of " + e.Name
	if e.Server != "" {
		s += " at " + e.Server
	}
	return s + ": " + strings.TrimPrefix(e.Err.Error(), "smtp: ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrName is the cause of an [Error] for a name that cannot be one in the DNS.
var ErrName = errors.New("smtp: it is not a domain name")

// Status returns the status code for a delivery status notification: 4.4.3 (RFC 3463 section 3.5), or 5.1.2 for a name
// that cannot be one.
func (e *Error) Status() proto.Status {
	if errors.Is(e.Err, ErrName) {
		return proto.Status{5, 1, 2}
	}
	return proto.Status{4, 4, 3}
}

// Timeout reports whether the servers took too long.
func (e *Error) Timeout() bool {
	var t net.Error
	return errors.As(e.Err, &t) && t.Timeout()
}
