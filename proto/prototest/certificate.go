package prototest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// Certificate returns a certificate for tests of sessions with TLS, and the pool with which the other end trusts it. It
// is [NewCertificate] for a test, which fails if there is an error.
func Certificate(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	cert, pool, err := NewCertificate(names...)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pool
}

// NewCertificate returns a self-signed certificate, and the pool with which the other end trusts it. The names are
// those of hosts, with "DNS:" in front of one that looks like an address, IP addresses, or "CN=" and a common name. The
// certificate is valid from 1970 to 2242, so at any time that a bubble of testing/synctest has.
func NewCertificate(names ...string) (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	for _, name := range names {
		if cn, ok := strings.CutPrefix(name, "CN="); ok {
			template.Subject = pkix.Name{CommonName: cn}
		} else if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, strings.TrimPrefix(name, "DNS:"))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}
