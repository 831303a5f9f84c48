package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// byCertificate returns credentials that bind to the server's certificate, or to shown if that is not nil.
func byCertificate(mechanism string, shown *x509.Certificate) ext.Credentials {
	creds := auth.Password("alice", password, mechanism)
	return func(ctx context.Context, c ext.ClientConn) ([]sasl.Client, error) {
		leaf := shown
		if leaf == nil {
			leaf = c.TLS().PeerCertificates[0]
		}
		return creds(ctx, certificateOnly{c, leaf})
	}
}

// certificateOnly hides the TLS connection from a mechanism, except for the certificate.
type certificateOnly struct {
	ext.ClientConn
	leaf *x509.Certificate
}

func (c certificateOnly) TLS() *tls.ConnectionState {
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.leaf}}
}

// signed returns a certificate for name, signed by key.
func signed(t *testing.T, name string, key crypto.Signer, algorithm x509.SignatureAlgorithm) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, SignatureAlgorithm: algorithm,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// trusting returns a client's configuration that trusts cert.
func trusting(t *testing.T, cert tls.Certificate) *tls.Config {
	t.Helper()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{RootCAs: pool}
}

func ecKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// getting and configuring return functions for GetCertificate and GetConfigForClient.
func getting(cert *tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
}

func configuring(config *tls.Config) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(*tls.ClientHelloInfo) (*tls.Config, error) { return config, nil }
}

// TestP34_EndPoint has the client bind to the server's certificate, in each way to configure one.
func TestP34_EndPoint(t *testing.T) {
	cert := signed(t, "mail.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	other := signed(t, "other.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	several := []tls.Certificate{other, cert}
	get := getting(&cert)
	for name, config := range map[string]*tls.Config{
		"one":                           {Certificates: []tls.Certificate{cert}},
		"several":                       {Certificates: several},
		"GetCertificate":                {GetCertificate: get},
		"GetCertificate before several": {Certificates: []tls.Certificate{other, other}, GetCertificate: get},
		"GetCertificate without answer": {Certificates: several, GetCertificate: getting(nil)},
		"GetConfigForClient": {
			Certificates: []tls.Certificate{other}, GetConfigForClient: configuring(&tls.Config{Certificates: several}),
		},
		"GetConfigForClient with GetCertificate": {GetConfigForClient: configuring(&tls.Config{GetCertificate: get})},
		"GetConfigForClient without answer":      {Certificates: several, GetConfigForClient: configuring(nil)},
	} {
		t.Run(name, func(t *testing.T) { bothVersions(t, config, cert, "SCRAM-SHA-256-PLUS") })
	}
}

// bothVersions authenticates over both versions of TLS with a server that shows cert.
func bothVersions(t *testing.T, config *tls.Config, cert tls.Certificate, mechanism string) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		srv, who := newMailServer(t, config)
		ours := trusting(t, cert)
		ours.MaxVersion = version
		if err := deliver(t, srv, ours, byCertificate(mechanism, nil)); err != nil {
			t.Errorf("%s: %v", tls.VersionName(version), err)
			continue
		}
		if got := <-who; got != "alice" {
			t.Errorf("%s: authenticated as %q", tls.VersionName(version), got)
		}
	}
}

// TestEndPointHashes binds to certificates with each kind of signature (RFC 5929 section 4.1). Ed25519 has no hash
// function, so there is no binding.
func TestEndPointHashes(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]tls.Certificate{
		"SHA-1 is taken for SHA-256": signed(t, "mail.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA1),
		"RSA with SHA-1":             signed(t, "mail.example", rsaKey, x509.SHA1WithRSA),
		"RSA with SHA-256":           signed(t, "mail.example", rsaKey, x509.SHA256WithRSA),
		"PSS with SHA-384":           signed(t, "mail.example", rsaKey, x509.SHA384WithRSAPSS),
		"SHA-384":                    signed(t, "mail.example", ecKey(t, elliptic.P384()), x509.ECDSAWithSHA384),
		"SHA-512":                    signed(t, "mail.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA512),
	} {
		t.Run(name, func(t *testing.T) {
			bothVersions(t, &tls.Config{Certificates: []tls.Certificate{cert}}, cert, "SCRAM-SHA-1-PLUS")
		})
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := signed(t, "mail.example", key, x509.PureEd25519)
	srv, _ := newMailServer(t, &tls.Config{Certificates: []tls.Certificate{cert}})
	err = deliver(t, srv, trusting(t, cert), byCertificate("SCRAM-SHA-256-PLUS", nil))
	if e, ok := grammar.AsType[*ext.AuthError](err); !ok || e.Mechanism != "" {
		t.Errorf("Ed25519: %v, want no mechanism to be tried", err)
	}
}

// TestEndPointInBetween has a man in the middle that presents another certificate and relays the exchange.
func TestEndPointInBetween(t *testing.T) {
	cert := signed(t, "mail.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	evil := signed(t, "mail.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	shown, err := x509.ParseCertificate(evil.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*tls.Config{
		"one":            {Certificates: []tls.Certificate{cert}},
		"GetCertificate": {GetCertificate: getting(&cert)},
		// The certificate belongs to the server, but is not the one that the server presented.
		"several": {Certificates: []tls.Certificate{cert, evil}},
	} {
		srv, _ := newMailServer(t, config)
		err := deliver(t, srv, trusting(t, cert), byCertificate("SCRAM-SHA-256-PLUS", shown))
		if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 535 {
			t.Errorf("%s: %v, want 535", name, err)
		}
	}
}

// loopback returns the two ends of a connection with buffers, unlike a pipe, for the tickets of TLS.
func loopback(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err1 := net.Dial("tcp", l.Addr().String())
	far, err2 := l.Accept()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// TestEndPointResumed resumes a TLS session, in which the server presents no certificate.
func TestEndPointResumed(t *testing.T) {
	cert := signed(t, "mail.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	other := signed(t, "other.example", ecKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	for name, tt := range map[string]struct {
		config *tls.Config
		known  bool
	}{
		"one":                       {&tls.Config{Certificates: []tls.Certificate{cert}}, true},
		"several":                   {&tls.Config{Certificates: []tls.Certificate{other, cert}}, true},
		"GetCertificate":            {&tls.Config{GetCertificate: getting(&cert)}, false},
		"GetCertificate before one": {&tls.Config{Certificates: []tls.Certificate{cert}, GetCertificate: getting(nil)}, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			resumed := 0
			config := tt.config.Clone()
			config.VerifyConnection = func(s tls.ConnectionState) error {
				if s.DidResume {
					resumed++
				}
				return nil
			}
			srv, who := newMailServer(t, config)
			ours := trusting(t, cert)
			ours.MaxVersion, ours.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
			for turn := range 2 {
				near, far := loopback(t)
				err := deliverOver(t, near, far, srv, ours, byCertificate("SCRAM-SHA-256-PLUS", nil))
				switch e, ok := grammar.AsType[*proto.Error](err); {
				case turn == 0 || tt.known:
					if err != nil {
						t.Fatalf("%s, %s, %d: %v", name, tls.VersionName(version), turn, err)
					}
					<-who
				case !ok || e.Code != 535:
					t.Errorf("%s, %s: %v, want 535", name, tls.VersionName(version), err)
				}
			}
			if resumed != 1 {
				t.Errorf("%s, %s: %d sessions were resumed, want 1", name, tls.VersionName(version), resumed)
			}
		}
	}
}
