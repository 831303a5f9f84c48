package dane

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// Verify reports whether the server of a connection is the one that the records are about. Its error is an [*Error]. If
// the policy is not usable, every server is. One record that matches is enough:
//
//   - A record of usage 3 (DANE-EE) matches the server's own certificate or its public key. Names, dates, extensions,
//     and who issued it do not matter (RFC 7672 section 3.1.1).
//   - A record of usage 2 (DANE-TA) matches the certificate of an issuer, or its public key. There must be a chain from
//     the server's own certificate to that one, in which all signatures, dates, constraints and purposes are in order.
//     The server's certificate must be for one of Names (section 3.1.2). The system's roots do not count.
//
// The issuer is one whose certificate the server sends, wherever in the list, or whose certificate or public key is in
// a record of matching type 0. Up to 16 certificates that the server sends are considered. The server's own certificate
// is never its trust anchor.
//
// Of records that differ only in the digest, those with SHA2-512 count and those with SHA2-256 do not (RFC 7671 section
// 9).
func (p *Policy) Verify(s tls.ConnectionState) error {
	records := p.considered()
	switch {
	case len(p.Records) == 0:
		return p.fail(errNone, tlsaInvalid)
	case len(records) == 0:
		return nil
	case len(records) > maxRecords:
		return p.fail(errMany, tlsaInvalid)
	case len(s.PeerCertificates) == 0:
		return p.fail(errCertificate, general)
	}
	anchored := false
	for i := range records {
		if records[i].Usage == daneTA {
			anchored = true
		} else if matches(&records[i], s.PeerCertificates[0]) {
			return nil
		}
	}
	if !anchored {
		return p.fail(errNoMatch, general)
	}
	return p.verifyChain(records, s.PeerCertificates)
}

func (p *Policy) fail(err error, result string) error {
	return &Error{Host: p.Base, Records: p.Records, Err: err, result: result}
}

// matches reports whether r is about cert (RFC 6698 sections 2.1.2, 2.1.3).
func matches(r *dns.Association, cert *x509.Certificate) bool {
	data := associationData(cert, r.Selector, r.Matching)
	return data != nil && bytes.Equal(r.Data, data)
}

// associationData returns what the data of a record about cert is, or nil for a matching type that is unknown.
func associationData(cert *x509.Certificate, selector, matching uint8) []byte {
	selected := cert.Raw
	if selector == selectorKey {
		selected = cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case full:
		return selected
	case sha2_256:
		digest := sha256.Sum256(selected)
		return digest[:]
	case sha2_512:
		digest := sha512.Sum512(selected)
		return digest[:]
	}
	return nil
}

// verifyChain verifies sent by the records of usage 2.
func (p *Policy) verifyChain(records []dns.Association, sent []*x509.Certificate) error {
	leaf, sent := sent[0], sent[1:min(len(sent), maxSent)]
	opt := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.Now()}
	if p.Time != nil {
		opt.CurrentTime = p.Time()
	}
	anchors := 0
	trust := func(cert *x509.Certificate) {
		opt.Roots.AddCert(cert)
		anchors++
	}
	for _, cert := range sent {
		switch {
		case cert.Equal(leaf) || !modest(cert.PublicKey):
		case matchesAny(records, cert):
			trust(cert)
		default:
			opt.Intermediates.AddCert(cert)
		}
	}
	keys := 0
	for i := range records {
		switch r := &records[i]; {
		case r.Usage != daneTA || r.Matching != full:
		case r.Selector == selectorCert:
			if cert, err := x509.ParseCertificate(r.Data); err == nil && modest(cert.PublicKey) && !cert.Equal(leaf) {
				trust(cert)
			}
		case keys < maxKeys && !slices.ContainsFunc(sent, func(c *x509.Certificate) bool { return matches(r, c) }):
			keys++
			signedBy(r.Data, leaf, sent, trust)
		}
	}
	if anchors == 0 {
		return p.fail(errNoAnchor, general)
	}
	chains, err := leaf.Verify(opt)
	if err != nil {
		return p.fail(fmt.Errorf("its certificate does not lead to the trust anchor in its TLSA records: %w", err),
			resultOf(err))
	}
	if !p.isNamed(leaf, chains) {
		return p.fail(p.mismatch(leaf), hostMismatch)
	}
	return nil
}

func matchesAny(records []dns.Association, cert *x509.Certificate) bool {
	for i := range records {
		if records[i].Usage == daneTA && matches(&records[i], cert) {
			return true
		}
	}
	return false
}

// signedBy calls trust for those certificates that are signed with a public key given in full (RFC 7671 section 5.2.3).
// It is for a key whose own certificate is not sent, since the constraints of that one would have to be kept. One that
// is not the server's own has to be that of an authority.
func signedBy(data []byte, leaf *x509.Certificate, sent []*x509.Certificate, trust func(*x509.Certificate)) {
	key, err := x509.ParsePKIXPublicKey(data)
	if err != nil || !modest(key) {
		return
	}
	// The anchor is like a certificate of version 1: it has no constraints. The algorithm is any that is known, since
	// that of the key is what counts.
	anchor := &x509.Certificate{Version: 1, PublicKey: key, PublicKeyAlgorithm: x509.ECDSA}
	if leaf.CheckSignatureFrom(anchor) == nil {
		trust(leaf)
	}
	for _, cert := range sent {
		if cert.BasicConstraintsValid && cert.IsCA && cert.CheckSignatureFrom(anchor) == nil {
			trust(cert)
		}
	}
}

// modest reports whether it takes little time to verify a signature with a key.
func modest(key any) bool {
	k, ok := key.(*rsa.PublicKey)
	return !ok || k.N.BitLen() <= maxBits
}

// resultOf returns the result type for an error of crypto/x509.
func resultOf(err error) string {
	if e, ok := asType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return expired
	}
	return notTrusted
}
