package dane

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// An Error means that a host must not be used now. It is temporary: another host may do, or the same one later (RFC
// 7672 section 2.2).
type Error struct {
	Host string // the host, or the TLSA base domain if records were found
	// Records are the TLSA records that were found, if any.
	Records []dns.Association
	// Err is what went wrong: the error of the look-up, of crypto/x509, or what the certificate lacks.
	Err error

	lookup bool // the DNS has no answer
	result string
}

func (e *Error) Error() string {
	s := "smtp: DANE: " + e.Host + ": " + strings.TrimPrefix(e.Err.Error(), "smtp: ")
	if len(e.Records) == 0 {
		return s
	}
	return s + " (TLSA " + abridge(e.Records) + ")"
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification: 4.4.3 if the DNS had no answer (RFC 3463 section
// 3.5), otherwise 4.7.5 (section 3.8).
func (e *Error) Status() proto.Status {
	if e.lookup {
		return proto.Status{4, 4, 3}
	}
	return proto.Status{4, 7, 5}
}

// Result returns the result type for a report to the domain (RFC 8460 section 4.3): dnssec-invalid, dane-required,
// tlsa-invalid, certificate-expired, certificate-host-mismatch, certificate-not-trusted, or validation-failure.
func (e *Error) Result() string { return e.result }

const (
	dnssecInvalid = "dnssec-invalid"
	daneRequired  = "dane-required"
	tlsaInvalid   = "tlsa-invalid"
	expired       = "certificate-expired"
	hostMismatch  = "certificate-host-mismatch"
	notTrusted    = "certificate-not-trusted"
	general       = "validation-failure"
)

var (
	errRequired = errors.New("DANE is required for it, and it has no TLSA records that DNSSEC proves: its domain has to " +
		"publish them, or Required has to be given up")
	errNone        = errors.New("there are no TLSA records to verify its certificate with")
	errMany        = fmt.Errorf("it has more than %d usable TLSA records", maxRecords)
	errCertificate = errors.New("it has shown no certificate")
	errNoMatch     = errors.New("its certificate matches none of its TLSA records: somebody may be in between, or its " +
		"operator has changed the one without the other")
	errNoAnchor = errors.New("none of the certificates that it sends matches any of its TLSA records: somebody may be " +
		"in between, or the server does not send the certificate of its trust anchor (RFC 7672 section 3.1.2)")
)

// abridge returns records for an error message: the first few, with the beginning of their data.
func abridge(records []dns.Association) string {
	const most, octets = 4, 8
	var b strings.Builder
	for i, r := range records {
		if i == most {
			fmt.Fprintf(&b, ", and %d more", len(records)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		start := hex.EncodeToString(r.Data[:min(len(r.Data), octets)])
		fmt.Fprintf(&b, "%d %d %d %s", r.Usage, r.Selector, r.Matching, start)
		if len(r.Data) > octets {
			b.WriteString("…")
		}
	}
	return b.String()
}

func asType[E error](err error) (E, bool) {
	var e E
	ok := errors.As(err, &e)
	return e, ok
}
