package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"smtpkit.example/smtp/server"
)

// tlsConfig returns the configuration of TLS, with the certificate that is given or one that is made once.
func (c *config) tlsConfig() (*tls.Config, error) {
	file := server.CertificateFile{Certificate: c.cert, Key: c.key}
	if c.cert == "" {
		file = server.CertificateFile{Certificate: filepath.Join(c.dir, "self-made.pem")}
		if err := selfMade(file.Certificate, c.hostname); err != nil {
			return nil, err
		}
	}
	certs, err := server.ReadCertificates(nil, file)
	if err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: certs.GetCertificate}, nil
}

// selfMade makes a certificate and its key, in one file, unless it is there. It has no other authority than itself:
// servers that send mail take it, and users have to be told to.
func selfMade(path, hostname string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hostname}, SerialNumber: big.NewInt(now.UnixNano()),
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		DNSNames: []string{hostname, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(path, text, 0o600)
}
