package tlsrpt

import (
	"crypto/x509"
	"errors"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// The result types of RFC 8460 section 4.3, which say how a session failed.
const (
	// These are about the session.

	StartTLSNotSupported    = "starttls-not-supported"
	CertificateHostMismatch = "certificate-host-mismatch"
	CertificateExpired      = "certificate-expired"
	CertificateNotTrusted   = "certificate-not-trusted"
	ValidationFailure       = "validation-failure"

	// These are about DANE.

	TLSAInvalid   = "tlsa-invalid"
	DNSSECInvalid = "dnssec-invalid"
	DANERequired  = "dane-required"

	// These are about MTA-STS.

	STSPolicyFetchError = "sts-policy-fetch-error"
	STSPolicyInvalid    = "sts-policy-invalid"
	STSWebPKIInvalid    = "sts-webpki-invalid"
)

// known reports whether s is a result type of the RFC. There are so few that they can be counted apart without bound.
func known(s string) bool {
	switch s {
	case StartTLSNotSupported, CertificateHostMismatch, CertificateExpired, CertificateNotTrusted, ValidationFailure,
		TLSAInvalid, DNSSECInvalid, DANERequired, STSPolicyFetchError, STSPolicyInvalid, STSWebPKIInvalid:
		return true
	}
	return false
}

// ResultOf returns the result type for the error of an attempt to have TLS: that of a handshake, such as client.Dial
// returns it, or that of a policy. It is "" for nil. [CodeOf] has the rest of what a report says of an error.
//
//   - An error in the tree of err with a method Result() string tells itself, such as those of packages dane and
//     mtasts.
//   - [StartTLSNotSupported]: the server did not offer STARTTLS, or refused it.
//   - [CertificateHostMismatch]: the certificate is for other names.
//   - [CertificateExpired]: the certificate has expired, or is not valid yet.
//   - [CertificateNotTrusted]: its authority is unknown, or the chain of certificates is broken in another way.
//   - [ValidationFailure]: everything else.
//
// Ask only for errors of TLS. An attempt that failed before it came to TLS, since no connection could be made for
// instance, need not be reported (RFC 8460 section 4.3.4), and is no event.
func ResultOf(err error) string {
	if err == nil {
		return ""
	}
	var told interface{ Result() string }
	if errors.As(err, &told) {
		if s := told.Result(); s != "" {
			return s
		}
	}
	if s := ofCertificate(err); s != "" {
		return s
	}
	var e *ext.TLSError
	if errors.As(err, &e) {
		var refused *proto.Error
		if errors.Is(e.Err, errors.ErrUnsupported) || errors.As(e.Err, &refused) {
			return StartTLSNotSupported
		}
	}
	return ValidationFailure
}

// ofCertificate returns the result type for an error of crypto/x509, or "".
func ofCertificate(err error) string {
	var (
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		weak      x509.InsecureAlgorithmError
		forbidden x509.ConstraintViolationError
	)
	switch {
	case errors.As(err, &host):
		return CertificateHostMismatch
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return CertificateExpired
	case errors.As(err, &invalid), errors.As(err, &authority), errors.As(err, &weak), errors.As(err, &forbidden):
		return CertificateNotTrusted
	}
	return ""
}

// CodeOf returns a short text on err for Event.Code, which reports have as failure-reason-code: the innermost error,
// without what differs from one attempt to the next, such as times and ports. It is "" for nil.
func CodeOf(err error) string {
	if err == nil {
		return ""
	}
	var told interface{ Result() string }
	if errors.As(err, &told) { // these wrap what they met on the way, and their own text says more
		if e, ok := told.(error); ok {
			return clean(strings.TrimPrefix(e.Error(), "smtp: "), maxCode)
		}
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		invalid.Detail = "" // it has the time
		return clean(strings.TrimRight(invalid.Error(), ": "), maxCode)
	}
	var e *ext.TLSError
	if errors.As(err, &e) && errors.Is(e.Err, errors.ErrUnsupported) {
		return "" // the result type says it all, and the text is for the sender
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return clean(strings.TrimPrefix(err.Error(), "smtp: "), maxCode)
}
