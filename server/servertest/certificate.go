package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// A Certificate is the kind of certificate that a server presents.
type Certificate uint8

const (
	// Good is a certificate for the server's hostname, localhost and the addresses of the loopback interface. It is valid
	// from 1970 to 2242, and so in a bubble of testing/synctest. [Server.ClientTLS] trusts its authority.
	Good        Certificate = iota
	Expired                 // a good one, whose time ended in 1999
	WrongName               // a good one, for another.example
	SelfSigned              // a good one, which no authority has signed
	UnknownRoot             // a good one, of an authority that ClientTLS does not trust
)

// wrongName is the name in the certificate WrongName.
const wrongName = "another.example"

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// The authorities that ClientTLS trusts, and that it does not.
var (
	trusted = sync.OnceValues(func() (*authority, error) { return newAuthority("servertest") })
	unknown = sync.OnceValues(func() (*authority, error) { return newAuthority("unknown") })
)

// The time in which certificates are valid.
var (
	validFrom  = time.Unix(0, 0)
	validUntil = time.Unix(1<<33, 0)
)

func newAuthority(name string) (*authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name + " authority"}, NotBefore: validFrom, NotAfter: validUntil,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{pool: x509.NewCertPool()}
	cert, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	a.cert, a.key = cert.Leaf, cert.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a, nil
}

// sign makes a certificate. An authority without a certificate has it sign itself.
func (a *authority) sign(template *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return tls.Certificate{}, err
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// certificate makes a certificate of a kind for hostname.
func certificate(kind Certificate, hostname string) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hostname}, NotBefore: validFrom, NotAfter: validUntil,
		DNSNames: []string{hostname, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signer := trusted
	switch kind {
	case Good:
	case Expired:
		template.NotAfter = time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)
	case WrongName:
		template.Subject.CommonName = wrongName
		template.DNSNames, template.IPAddresses = []string{wrongName}, nil
	case SelfSigned:
		return (&authority{}).sign(template)
	case UnknownRoot:
		signer = unknown
	default:
		return tls.Certificate{}, fmt.Errorf("smtp: servertest.Options has the unknown certificate %d", kind)
	}
	a, err := signer()
	if err != nil {
		return tls.Certificate{}, err
	}
	return a.sign(template)
}

// leafOf returns the certificate that a server with the configuration presents, or nil if it has none.
func leafOf(config *tls.Config, hostname string) *x509.Certificate {
	if config == nil {
		return nil
	}
	var cert *tls.Certificate
	switch {
	case len(config.Certificates) > 0:
		cert = &config.Certificates[0]
	case config.GetCertificate != nil:
		cert, _ = config.GetCertificate(&tls.ClientHelloInfo{ServerName: hostname})
	}
	switch {
	case cert == nil:
		return nil
	case cert.Leaf != nil:
		return cert.Leaf
	case len(cert.Certificate) == 0:
		return nil
	}
	leaf, _ := x509.ParseCertificate(cert.Certificate[0]) // the server says what is wrong with it
	return leaf
}

// userCertificate makes the certificate of a client.
func userCertificate(user string) (tls.Certificate, error) {
	a, err := trusted()
	if err != nil {
		return tls.Certificate{}, err
	}
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: user}, NotBefore: validFrom, NotAfter: validUntil,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}
