package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
)

// makePEM returns a certificate and its key, PEM encoded. The algorithm is "ECDSA", "RSA" or "Ed25519".
func makePEM(t *testing.T, algorithm string, serial int64, names ...string) (cert, key []byte) {
	t.Helper()
	var private, public any
	var err error
	switch algorithm {
	case "ECDSA":
		var k *ecdsa.PrivateKey
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		private, public = k, &k.PublicKey
	case "RSA":
		var k *rsa.PrivateKey
		k, err = rsa.GenerateKey(rand.Reader, 2048)
		private, public = k, &k.PublicKey
	default:
		public, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, int(serial), 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// replace puts another file in the place of path, as programs do that renew certificates.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// hello is what a client sends that knows all algorithms, or those given.
func hello(name string, schemes ...tls.SignatureScheme) *tls.ClientHelloInfo {
	if schemes == nil {
		schemes = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.Ed25519}
	}
	return &tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
		SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256}, SignatureSchemes: schemes}
}

// serial returns the serial number of the certificate that a client gets.
func serial(t *testing.T, certs *server.Certificates, h *tls.ClientHelloInfo) int64 {
	t.Helper()
	c, err := certs.GetCertificate(h)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.SerialNumber.Int64()
}

// TestCertificatesAreRenewed: new files are found after the interval and not before; while they are no pair, the old
// certificate stays in use, which is logged once.
func TestCertificatesAreRenewed(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cert1, key1 := makePEM(t, "ECDSA", 1, "mail.example")
		cert2, key2 := makePEM(t, "ECDSA", 2, "mail.example")
		replace(t, certFile, cert1)
		replace(t, keyFile, key1)
		certs, err := server.ReadCertificates(&server.CertificateOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))},
			server.CertificateFile{Certificate: certFile, Key: keyFile})
		if err != nil {
			t.Fatal(err)
		}
		expect := func(when string, want int64, logged string) {
			t.Helper()
			if got := serial(t, certs, hello("mail.example")); got != want {
				t.Errorf("%s: certificate %d, want %d", when, got, want)
			}
			lines := regexp.MustCompile(`(?m)^time=\S+ | (certificate|key)=\S+`).ReplaceAllString(log.String(), "")
			if logged == "" && lines != "" || !strings.Contains(lines, logged) || strings.Count(lines, "\n") > 1 {
				t.Errorf("%s: logged %q, want one line with %q", when, lines, logged)
			}
			log.Reset()
		}
		minute := func() { <-time.After(time.Minute) }

		expect("at first", 1, "")
		replace(t, certFile, cert2)
		<-time.After(59 * time.Second)
		expect("before the interval has passed", 1, "")
		<-time.After(time.Second)
		expect("with the key missing", 1, "level=ERROR msg=\"smtp: a certificate cannot be read again, and the old one stays in "+
			"use\" err=\"smtp: the certificate in "+certFile+" and the key in "+keyFile+" are no pair: tls: private key does not match "+
			"public key\" expires=2100-01-01T00:00:00.000Z")
		minute()
		expect("still", 1, "")
		replace(t, keyFile, key2)
		expect("before the next interval has passed", 1, "")
		minute()
		expect("with both", 2, "level=INFO msg=\"smtp: a certificate was renewed\" expires=2100-01-02T00:00:00.000Z")
		minute()
		expect("unchanged", 2, "")
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		minute()
		expect("without a file", 2, "no such file")
		replace(t, keyFile, key2)
		minute()
		expect("with the file again", 2, "")
		move := func(from, to string) {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
			minute()
		}
		move(keyFile, keyFile+".away")
		expect("without a file, again", 2, "no such file")
		move(keyFile+".away", keyFile)
		expect("with the same file", 2, "")
		move(keyFile, keyFile+".away")
		expect("without a file, for the third time", 2, "no such file")
		replace(t, keyFile, []byte("rubbish"))
		minute()
		expect("with rubbish", 2, "failed to find any PEM data")
		replace(t, keyFile, bytes.Repeat([]byte("x"), 1<<20+1))
		minute()
		expect("with a large file", 2, "more than 1048576 octets")
		replace(t, keyFile, key1)
		replace(t, certFile, cert1)
		if err := certs.Reload(); err != nil {
			t.Error(err)
		}
		expect("at once", 1, "renewed")
		replace(t, keyFile, key2)
		if err := certs.Reload(); err == nil || !strings.Contains(err.Error(), "are no pair") {
			t.Errorf("Reload: %v", err)
		}
		expect("at once, and broken", 1, "no pair")
	})
}

// TestCertificatesOnRequest: with a negative interval, only Reload reads files.
func TestCertificatesOnRequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "both.pem")
	synctest.Test(t, func(t *testing.T) {
		cert1, key1 := makePEM(t, "ECDSA", 1, "mail.example")
		cert2, key2 := makePEM(t, "ECDSA", 2, "mail.example")
		replace(t, path, append(key1, cert1...))
		opt := &server.CertificateOptions{Interval: -1, Logger: quiet}
		certs, err := server.ReadCertificates(opt, server.CertificateFile{Certificate: path})
		if err != nil {
			t.Fatal(err)
		}
		replace(t, path, append(key2, cert2...))
		<-time.After(24 * time.Hour)
		if got := serial(t, certs, hello("")); got != 1 {
			t.Errorf("certificate %d, want the first", got)
		}
		if err := certs.Reload(); err != nil {
			t.Error(err)
		}
		if got := serial(t, certs, hello("")); got != 2 {
			t.Errorf("certificate %d, want the second", got)
		}
	})
}

// TestCertificatesByName: the client chooses by its name and by its algorithms.
func TestCertificatesByName(t *testing.T) {
	dir := t.TempDir()
	var files []server.CertificateFile
	for i, c := range []struct{ algorithm, name string }{
		{"ECDSA", "mail.example"}, {"RSA", "mail.example"}, {"RSA", "*.other.example"}, {"Ed25519", "third.example"},
	} {
		cert, key := makePEM(t, c.algorithm, int64(i+1), c.name)
		f := server.CertificateFile{Certificate: filepath.Join(dir, c.algorithm+c.name), Key: filepath.Join(dir, c.algorithm+c.name+".key")}
		replace(t, f.Certificate, cert)
		replace(t, f.Key, key)
		files = append(files, f)
	}
	certs, err := server.ReadCertificates(nil, files...)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		schemes []tls.SignatureScheme
		want    int64
	}{
		{"mail.example", nil, 1},
		{"MAIL.example", nil, 1},
		{"mail.example", []tls.SignatureScheme{tls.PSSWithSHA256}, 2},
		{"mx.other.example", nil, 3},
		{"third.example", nil, 4},
		{"third.example", []tls.SignatureScheme{tls.PSSWithSHA256}, 2}, // the name alone is no help
		{"fourth.example", nil, 1},
		{"", nil, 1},
		{"", []tls.SignatureScheme{tls.PSSWithSHA256}, 2},
		{"", []tls.SignatureScheme{tls.PKCS1WithSHA1}, 1},
	} {
		if got := serial(t, certs, hello(tt.name, tt.schemes...)); got != tt.want {
			t.Errorf("%q, %v: certificate %d, want %d", tt.name, tt.schemes, got, tt.want)
		}
	}
}

// TestCertificatesServe: a server that runs shows the new certificate to new connections, while many connect.
func TestCertificatesServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "both.pem")
	cert1, key1 := makePEM(t, "ECDSA", 1, "mail.example")
	cert2, key2 := makePEM(t, "ECDSA", 2, "mail.example")
	replace(t, path, append(key1, cert1...))
	certs, err := server.ReadCertificates(&server.CertificateOptions{Interval: 1, Logger: quiet}, server.CertificateFile{Certificate: path})
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(t, &store{}, server.Options{TLSConfig: &tls.Config{GetCertificate: certs.GetCertificate}})
	addr, served := listen(t, srv.ServeTLS)
	shown := func() int64 {
		nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "mail.example"})
		if err != nil {
			t.Error(err)
			return 0
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := shown(); got != 1 {
		t.Errorf("certificate %d, want the first", got)
	}
	replace(t, path, append(key2, cert2...))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := shown(); got != 1 && got != 2 {
				t.Errorf("certificate %d", got)
			}
		})
	}
	wg.Wait()
	if got := shown(); got != 2 {
		t.Errorf("certificate %d, want the second", got)
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-served
}

// TestCertificatesMissing: what cannot be used is an error that names the file.
func TestCertificatesMissing(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	cert, key := makePEM(t, "ECDSA", 1, "mail.example")
	replace(t, good, append(cert, key...))
	replace(t, bad, []byte("-----BEGIN CERTIFICATE-----\n"))
	for _, tt := range []struct {
		files []server.CertificateFile
		want  string
	}{
		{nil, "at least one CertificateFile"},
		{[]server.CertificateFile{{Certificate: good}, {Certificate: filepath.Join(dir, "none")}}, "none: no such file"},
		{[]server.CertificateFile{{Certificate: good, Key: filepath.Join(dir, "none")}}, "the key of the certificate cannot be read: open"},
		{[]server.CertificateFile{{Certificate: good}, {}}, "Certificate of file 2 is empty"},
		{[]server.CertificateFile{{Certificate: bad, Key: good}}, "there is no certificate in PEM in " + bad},
		{[]server.CertificateFile{{Certificate: good, Key: bad}}, bad},
		{[]server.CertificateFile{{Certificate: dir}}, "is a directory"},
	} {
		if _, err := server.ReadCertificates(nil, tt.files...); err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.files, err, tt.want)
		}
	}
}
