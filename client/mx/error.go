package mx

import (
	"errors"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A RouteError means that no host takes the mail of a domain, or that none was found. Nothing was sent.
type RouteError struct {
	Domain string // in A-labels, or as it was given if it is malformed
	Code   proto.Status
	Err    error // the reason, such as a *dns.Error
}

func (e *RouteError) Error() string {
	if inner, ok := e.Err.(*RouteError); ok && inner.Domain == e.Domain {
		return inner.Error() // the domain is its own host
	}
	return "smtp: no route to " + e.Domain + ": " + cause(e.Err)
}

// Unwrap returns the reason.
func (e *RouteError) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification. If its class is 4, the DNS gave no answer, and may
// give one later.
func (e *RouteError) Status() proto.Status { return e.Code }

// routeError returns err as a RouteError for the domain.
func routeError(domain string, err error) error {
	code := proto.Status{4, 4, 3}
	var s statusError
	if errors.As(err, &s) {
		code = s.Status()
	}
	if e, ok := err.(*RouteError); ok && e.Domain == "" {
		err = e.Err
	}
	return &RouteError{Domain: domain, Code: code, Err: err}
}

// A statusError is an error that has a status code.
type statusError interface {
	error
	Status() proto.Status
}

// A PolicyError means that a host was not given the message, because the connection did not fulfil the policy for TLS
// that holds for the domain. Nothing was sent.
type PolicyError struct {
	Host   string
	Policy Policy // whose demand it was
	Code   proto.Status
	Err    error // what was lacking
}

func (e *PolicyError) Error() string {
	reason := strings.TrimPrefix(cause(e.Err), "DANE: "+e.Host+": ") // which is said already
	var failed *ext.TLSError
	if errors.As(e.Err, &failed) && errors.Is(failed, errors.ErrUnsupported) {
		reason = "it does not offer TLS, or somebody in between hides the offer" // without advice for a smarthost
	}
	return "smtp: " + e.Host + " is not used, because of " + e.Policy.demand() + ": " + reason
}

// Unwrap returns what was lacking, such as a *dane.Error or an *ext.TLSError.
func (e *PolicyError) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification. If its class is 4, try again later.
func (e *PolicyError) Status() proto.Status { return e.Code }

// cause is the text of err as part of a longer one.
func cause(err error) string { return strings.TrimPrefix(err.Error(), "smtp: ") }
