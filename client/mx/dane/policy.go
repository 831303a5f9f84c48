package dane

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// Bounds of what a verification looks at. What is beyond them never makes a certificate valid.
const (
	maxRecords = 64        // usable TLSA records; a policy with more fails
	maxData    = 65535 - 3 // octets of data in a record: those of a resource record (RFC 1035 section 3.2.1)
	maxSent    = 16        // certificates of those that the server sends; Postfix follows a chain of 9
	maxKeys    = 8         // public keys given in full, for which signatures are tried
	maxBits    = 8192      // bits of an RSA key, as in crypto/tls
)

// Kinds of TLSA records (RFC 6698 section 2.1, RFC 7218).
const (
	pkixTA, pkixEE, daneTA, daneEE = 0, 1, 2, 3

	selectorCert, selectorKey = 0, 1

	full, sha2_256, sha2_512 = 0, 1, 2
)

// A Policy says that a host has TLS, and how its certificate is known. TLS is mandatory for all connections to it. It
// is not changed after it has been used first, and may be used by several goroutines at once.
type Policy struct {
	// Base is the TLSA base domain: the name that has the records below it. A client sends it as the server name in the
	// handshake (RFC 7672 section 8.1).
	Base string
	// Names are those that a certificate may be for, if it is issued by a trust anchor in the records (usage 2). Base is
	// always one of them.
	Names []string
	// Records are the TLSA records that were looked up, usable or not. Lookup puts them in an order that is
	// always the same.
	Records []dns.Association
	// Time returns the time at which certificates have to be valid. Nil is time.Now.
	Time func() time.Time
}

// Usable reports whether a certificate can be verified with the records. If not, TLS is mandatory all the same, with
// any certificate (RFC 7672 section 2.2). Problem says why.
//
// These are usable: usages 2 (DANE-TA) and 3 (DANE-EE), selectors 0 and 1, matching types 0 to 2, with data of the
// right length or form. Usages 0 and 1 are not (RFC 7672 section 3.1.3).
func (p *Policy) Usable() bool {
	for i := range p.Records {
		if defect(&p.Records[i]) == nil {
			return true
		}
	}
	return false
}

// Problem returns an [*Error] that says why the records are not usable, each of the first few, or nil if one is. It is
// for logs and reports: with such records a message is delivered.
func (p *Policy) Problem() error {
	if p.Usable() {
		return nil
	}
	e := &Error{Host: p.Base, Records: p.Records, Err: errNone, result: tlsaInvalid}
	if len(p.Records) == 0 {
		return e
	}
	var why []string
	for i := range p.Records {
		if w := defect(&p.Records[i]).Error(); !slices.Contains(why, w) && len(why) < 4 {
			why = append(why, w)
		}
	}
	e.Err = fmt.Errorf("its certificate cannot be verified, since no TLSA record is usable: %s", strings.Join(why, "; "))
	return e
}

// Strings returns the records in the form of a zone file (RFC 6698 section 2.2), such as "3 1 1 8CB0FC6C…". A report
// about TLS has them (RFC 8460 section 4.4).
func (p *Policy) Strings() []string {
	lines := make([]string, len(p.Records))
	for i, r := range p.Records {
		lines[i] = r.String()
	}
	return lines
}

// Config returns a configuration of TLS for a connection to the host: a copy of base, which may be nil, with Base as
// the server name.
//
// If the policy is usable, the handshake fails with an [*Error] unless Verify accepts the certificate. Roots of base do
// not count, and neither does the verification of crypto/tls: InsecureSkipVerify is set, and VerifyConnection verifies
// in its place, for resumed sessions too. Functions of base that verify are called as well, and may reject the server.
//
// If it is not usable, any certificate will do, and the functions of base that verify are left out. So a client does
// not take the connection for one with a verified server.
func (p *Policy) Config(base *tls.Config) *tls.Config {
	c := &tls.Config{}
	if base != nil {
		c = base.Clone()
	}
	c.ServerName = p.Base
	c.InsecureSkipVerify = true
	if len(p.Records) > 0 && !p.Usable() {
		c.VerifyConnection, c.VerifyPeerCertificate = nil, nil
		return c
	}
	policy, also := *p, c.VerifyConnection
	if policy.Time == nil {
		policy.Time = c.Time
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if err := policy.Verify(s); err != nil || also == nil {
			return err
		}
		return also(s)
	}
	return c
}

// considered returns the records to verify with: the usable ones, and of those with digests for the same thing only the
// ones with the strongest digest (RFC 7671 section 9).
func (p *Policy) considered() []dns.Association {
	var usable []dns.Association
	var strongest [daneEE + 1][selectorKey + 1]uint8
	for i := range p.Records {
		r := &p.Records[i]
		if defect(r) != nil {
			continue
		}
		usable = append(usable, *r)
		s := &strongest[r.Usage][r.Selector]
		*s = max(*s, r.Matching)
	}
	considered := usable[:0]
	for _, r := range usable {
		if r.Matching == full || r.Matching == strongest[r.Usage][r.Selector] {
			considered = append(considered, r)
		}
	}
	return considered
}

var (
	errUsagePKIX = errors.New("usages 0 and 1 are not for mail between servers (RFC 7672 section 3.1.3)")
	errUsage     = errors.New("its usage is unknown")
	errSelector  = errors.New("its selector is unknown")
	errMatching  = errors.New("its matching type is unknown")
	errLength    = errors.New("its data does not have the length of the digest")
	errForm      = errors.New("its data is not a certificate or public key")
)

// defect returns why a record cannot be used, or nil. Data given in full has to have the form of what it stands for. A
// certificate that crypto/x509 does not understand is not a defect: nothing but the same certificate matches it, and to
// go on without verification would be worse.
func defect(r *dns.Association) error {
	switch {
	case r.Usage == pkixTA || r.Usage == pkixEE:
		return errUsagePKIX
	case r.Usage > daneEE:
		return errUsage
	case r.Selector > selectorKey:
		return errSelector
	case r.Matching > sha2_512:
		return errMatching
	case r.Matching == sha2_256 && len(r.Data) != sha256.Size, r.Matching == sha2_512 && len(r.Data) != sha512.Size:
		return errLength
	case r.Matching == full && !formed(r.Selector, r.Data):
		return errForm
	}
	return nil
}

// formed reports whether data is one certificate, or one SubjectPublicKeyInfo, as far as its outermost structure tells
// (RFC 5280 section 4.1).
func formed(selector uint8, data []byte) bool {
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(data, &parts); err != nil || len(rest) > 0 || len(data) > maxData {
		return false
	}
	want := []int{asn1.TagSequence, asn1.TagSequence, asn1.TagBitString}
	if selector == selectorKey {
		want = want[1:]
	}
	return slices.EqualFunc(parts, want, func(part asn1.RawValue, tag int) bool {
		return part.Class == asn1.ClassUniversal && part.Tag == tag && part.IsCompound == (tag == asn1.TagSequence)
	})
}
