package dane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// noon is the time of all tests.
var noon = time.Date(2026, time.December, 1, 12, 0, 0, 0, time.UTC)

// A made is a certificate with its key.
type made struct {
	*x509.Certificate
	key crypto.Signer
}

// The certificates of all tests. Each line of issue has the name, the name of the issuer, and what is special.
var certs = sync.OnceValue(func() map[string]made {
	m := make(map[string]made)
	issue := func(name, issuer string, special ...func(*x509.Certificate)) {
		m[name] = create(name, m[issuer], special...)
	}
	hosts := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = names }
	}
	common := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: name} }
	}
	past := func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Hour) }
	future := func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) }
	mx := hosts("mx.example.org")

	issue("root", "", ca)
	issue("inter", "root", ca)
	issue("sub", "inter", ca)
	issue("leaf", "inter", mx)
	issue("leaf of root", "root", mx)
	issue("leaf of sub", "sub", mx)
	issue("leaf of nobody", "", mx)
	issue("foreign root", "", ca)

	issue("leaf expired", "inter", mx, past)
	issue("leaf of the future", "inter", mx, future)
	issue("leaf for clients", "inter", mx, func(c *x509.Certificate) { c.ExtKeyUsage[0] = x509.ExtKeyUsageClientAuth })
	issue("leaf for another host", "inter", hosts("mx.example.net"))
	issue("leaf for the domain", "inter", hosts("www.example.org", "EXAMPLE.org."))
	issue("leaf for the expanded domain", "inter", hosts("example.com"))
	issue("leaf with a wildcard", "inter", hosts("*.example.org"))
	issue("leaf with a wildcard too high", "inter", hosts("*.org"))
	issue("leaf with a partial wildcard", "inter", hosts("m*.example.org", "*x.example.org"))
	issue("leaf with a common name", "inter", common("mx.example.org"))
	issue("leaf with a common wildcard", "inter", common("*.example.org"))
	issue("leaf with a common name besides another", "inter", common("mx.example.org"), hosts("mx.example.net"))
	issue("leaf with an unknown extension", "inter", mx, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 9999, 1}, Critical: true, Value: []byte{5, 0}}}
	})
	issue("leaf that certifies", "inter", mx)
	issue("leaf of leaf", "leaf that certifies", mx)

	issue("inter expired", "root", ca, past)
	issue("leaf of inter expired", "inter expired", mx)
	issue("inter for others", "root", ca, permit("example.net"))
	issue("leaf of inter for others", "inter for others", mx)
	issue("leaf of inter for others with a common name", "inter for others", common("mx.example.org"))
	issue("inter for us", "root", ca, permit("example.org"))
	issue("leaf of inter for us with a common name", "inter for us", common("mx.example.org"))
	issue("leaf of inter for us with a common wildcard", "inter for us", common("*.example.org"))
	issue("inter not for us", "root", ca, func(c *x509.Certificate) {
		c.ExcludedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	issue("leaf of inter not for us with a common name", "inter not for us", common("mx.example.org"))
	issue("inter without CA", "root", func(c *x509.Certificate) { c.BasicConstraintsValid, c.KeyUsage = true, 0 })
	issue("leaf of inter without CA", "inter without CA", mx)
	issue("inter that signs nothing", "root", ca, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	issue("leaf of inter that signs nothing", "inter that signs nothing", mx)
	issue("inter without inters", "root", ca, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	issue("sub of inter without inters", "inter without inters", ca)
	issue("leaf of sub of inter without inters", "sub of inter without inters", mx)
	issue("root expired", "", ca, past)
	issue("leaf of root expired", "root expired", mx)

	// The same name as inter, and another key: an issuer that only looks like the one.
	m["inter forged"] = create("inter", m["foreign root"], ca)
	// The same name and key as inter, by another authority.
	m["inter crossed"] = create("inter", m["foreign root"], ca, func(c *x509.Certificate) { c.PublicKey = m["inter"].key })
	// A leaf with the key of inter.
	issue("leaf with the key of inter", "foreign root", mx, func(c *x509.Certificate) { c.PublicKey = m["inter"].key })
	// One whose signature is damaged.
	raw := append([]byte(nil), m["leaf"].Raw...)
	raw[len(raw)-1] ^= 1
	m["leaf damaged"] = made{parse(raw), m["leaf"].key}
	return m
})

func ca(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
}

func permit(domain string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{domain}, true
	}
}

// create issues a certificate, by itself if issuer is zero. A private key as PublicKey is used in place of a new one.
func create(name string, issuer made, special ...func(*x509.Certificate)) made {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(1)),
		Subject:      pkix.Name{Organization: []string{name}},
		NotBefore:    noon.Add(-24 * time.Hour),
		NotAfter:     noon.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, f := range special {
		f(template)
	}
	key, ok := template.PublicKey.(crypto.Signer)
	if !ok {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			panic(err)
		}
	}
	parent, signer := issuer.Certificate, issuer.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err))
	}
	return made{parse(raw), key}
}

func parse(raw []byte) *x509.Certificate {
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		panic(err)
	}
	return c
}

// record returns the TLSA record of those parameters for a certificate. It does not use the code that is tested.
func record(usage, selector, matching uint8, name string) dns.Association {
	cert, ok := certs()[name]
	if !ok {
		panic("no certificate " + name)
	}
	data := cert.Raw
	if selector == 1 {
		var err error
		if data, err = x509.MarshalPKIXPublicKey(cert.PublicKey); err != nil {
			panic(err)
		}
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return dns.Association{Usage: usage, Selector: selector, Matching: matching, Data: data}
}

// chain returns the certificates of those names.
func chain(names ...string) []*x509.Certificate {
	var list []*x509.Certificate
	for _, name := range names {
		cert, ok := certs()[name]
		if !ok {
			panic("no certificate " + name)
		}
		list = append(list, cert.Certificate)
	}
	return list
}

func policyOf(records ...dns.Association) *Policy {
	return &Policy{
		Base: "mx.example.org", Names: []string{"mx.example.org", "example.org", "example.com"},
		Records: records, Time: func() time.Time { return noon },
	}
}

func state(names ...string) tls.ConnectionState {
	return tls.ConnectionState{PeerCertificates: chain(names...)}
}
