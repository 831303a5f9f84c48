package mtasts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// The result types of RFC 8460 section 4.3.2.2, for reports.
const (
	ResultFetchError    = "sts-policy-fetch-error"
	ResultPolicyInvalid = "sts-policy-invalid"
	ResultWebPKIInvalid = "sts-webpki-invalid"
)

// An Error says why no policy could be discovered or fetched. It is no reason not to deliver.
type Error struct {
	Domain string // in A-labels
	Result string // one of the result types above
	Err    error  // what went wrong; of package tls, x509 or dns, as the case may be

	discovery bool // there was no fetch
}

func (e *Error) Error() string {
	return "smtp: MTA-STS policy of " + e.Domain + ": " + strings.TrimPrefix(e.Err.Error(), "smtp: ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// An invalidError is a policy that was fetched, and is none.
type invalidError struct{ error }

func (e invalidError) Unwrap() error { return e.error }

// resultOf returns the result type of a failed fetch.
func resultOf(err error) string {
	var (
		invalid   invalidError
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		cert      x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &invalid):
		return ResultPolicyInvalid
	case errors.As(err, &verify), errors.As(err, &authority), errors.As(err, &host), errors.As(err, &cert):
		return ResultWebPKIInvalid
	}
	return ResultFetchError
}
