package prototest

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"
)

func TestNewCertificate(t *testing.T) {
	cert, pool, err := NewCertificate("mail.example", "127.0.0.1", "DNS:192.0.2.1", "CN=common")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s %s", leaf.Subject.CommonName, leaf.DNSNames, leaf.IPAddresses)
	if want := "common [mail.example 192.0.2.1] [127.0.0.1]"; got != want {
		t.Errorf("the certificate is for %s, want %s", got, want)
	}
	bubble := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when the clock of testing/synctest begins
	for _, at := range []time.Time{bubble, time.Now(), bubble.AddDate(200, 0, 0)} {
		for name, ok := range map[string]bool{"mail.example": true, "127.0.0.1": true, "other.example": false} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: at}); (err == nil) != ok {
				t.Errorf("%s in %d: %v", name, at.Year(), err)
			}
		}
	}
	_, other := Certificate(t, "mail.example")
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: other}); err == nil {
		t.Error("another pool trusts the certificate")
	}
}
