package dane

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// TestRecord compares records with the second implementation of the match, and has them verify the certificate that
// they were made of, and no other one.
func TestRecord(t *testing.T) {
	c := certs()
	for _, usage := range []uint8{daneEE, daneTA} {
		for _, selector := range []uint8{selectorCert, selectorKey} {
			for _, matching := range []uint8{full, sha2_256, sha2_512} {
				of, other := c["leaf"], c["inter forged"]
				if usage == daneTA {
					of = c["inter"]
				}
				r, err := Record(of.Certificate, usage, selector, matching)
				if err != nil {
					t.Fatal(err)
				}
				if !fits(r, of.Certificate) || fits(r, other.Certificate) {
					t.Errorf("%v is not the record of its certificate alone", r)
				}
				p := &Policy{Base: "mx.example.org", Records: []dns.Association{r}, Time: func() time.Time { return noon }}
				sent := []*x509.Certificate{c["leaf"].Certificate, c["inter"].Certificate}
				if err := p.Verify(tls.ConnectionState{PeerCertificates: sent}); err != nil || !p.Usable() {
					t.Errorf("%v: %v", r, err)
				}
				sent = []*x509.Certificate{c["leaf of nobody"].Certificate, other.Certificate}
				if p.Verify(tls.ConnectionState{PeerCertificates: sent}) == nil {
					t.Errorf("%v matches another server", r)
				}
			}
		}
	}
}

// TestRecordRefuses checks that records which no client could use are not made.
func TestRecordRefuses(t *testing.T) {
	leaf := certs()["leaf"].Certificate
	for _, tt := range []struct {
		cert                      *x509.Certificate
		usage, selector, matching uint8
		want                      string
	}{
		{nil, 3, 1, 1, "no certificate"},
		{leaf, 0, 1, 1, "usages 0 and 1"}, {leaf, 1, 1, 1, "usages 0 and 1"}, {leaf, 4, 1, 1, "usage is unknown"},
		{leaf, 3, 2, 1, "selector is unknown"}, {leaf, 3, 1, 3, "matching type is unknown"},
	} {
		r, err := Record(tt.cert, tt.usage, tt.selector, tt.matching)
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: DANE: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, %v, want an error with %q", r, err, tt.want)
		}
	}
}
