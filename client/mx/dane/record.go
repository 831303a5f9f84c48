package dane

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"smtpkit.example/smtp/ext/dns"
)

// Record returns the TLSA record by which a domain publishes cert: its String belongs behind
// "_25._tcp.mx.example.org. IN TLSA" in the zone, which must be signed by DNSSEC.
//
// These are the choices (RFC 6698 section 2.1, RFC 7672 section 3.1):
//
//   - The usage is 3 (DANE-EE) for the certificate of the server itself, or 2 (DANE-TA) for that of an authority that
//     has issued it, which the server has to send too. Others are not for mail, and an error.
//   - The selector is 1 for the public key alone, or 0 for the whole certificate.
//   - The matching type is 1 for SHA2-256, 2 for SHA2-512, or 0 for no digest, which makes large records.
//
// "3 1 1" is the usual choice: the record stays the same when the certificate is renewed with the same key. Publish the
// record of a new key two TTLs before the server uses it, beside the old one (RFC 7671 section 8.1).
func Record(cert *x509.Certificate, usage, selector, matching uint8) (dns.Association, error) {
	if cert == nil {
		return dns.Association{}, errors.New("smtp: DANE: there is no certificate to make a record of: parse one first")
	}
	r := dns.Association{Usage: usage, Selector: selector, Matching: matching}
	r.Data = bytes.Clone(associationData(cert, selector, matching))
	if err := defect(&r); err != nil {
		return dns.Association{}, fmt.Errorf("smtp: DANE: no TLSA record %d %d %d can be made: %w: use 3 1 1, or 2 0 1 for an "+
			"authority", usage, selector, matching, err)
	}
	return r, nil
}
