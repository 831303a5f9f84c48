package tlsrpt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A policyError is an error that knows its result type, as those of packages dane and mtasts.
type policyError struct{ result string }

func (e policyError) Error() string  { return "smtp: the policy is bad" }
func (e policyError) Result() string { return e.result }

func TestResultOf(t *testing.T) {
	wrapped := func(err error) error {
		return &ext.TLSError{Err: &tls.CertificateVerificationError{Err: err}}
	}
	invalid := func(r x509.InvalidReason, detail string) error {
		return wrapped(x509.CertificateInvalidError{Reason: r, Detail: detail})
	}
	alert := &net.OpError{Op: "remote error", Err: tls.AlertError(40)}
	for _, tt := range []struct {
		name         string
		err          error
		result, code string
	}{
		{"X25 success", nil, "", ""},
		{"X25 another name", wrapped(x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a.example"}},
			Host: "b.example"}), CertificateHostMismatch, "x509: certificate is valid for a.example, not b.example"},
		{"X25 expired", invalid(x509.Expired, "current time 2026-11-28T12:00:00Z is after 2026-01-01T00:00:00Z"),
			CertificateExpired, "x509: certificate has expired or is not yet valid"},
		{"X25 unknown authority", wrapped(x509.UnknownAuthorityError{}), CertificateNotTrusted,
			"x509: certificate signed by unknown authority"},
		{"X25 constraints", invalid(x509.CANotAuthorizedForThisName, "x"), CertificateNotTrusted,
			"x509: a root or intermediate certificate is not authorized to sign for this name"},
		{"X25 weak signature", wrapped(x509.InsecureAlgorithmError(x509.SHA1WithRSA)), CertificateNotTrusted,
			"x509: cannot verify signature: insecure algorithm SHA1-RSA"},
		{"X25 STARTTLS refused", &ext.TLSError{Err: proto.Refuse(454, proto.Status{4, 7, 0}, "not now")},
			StartTLSNotSupported, "454 4.7.0 not now"},
		{"X25 alert", &ext.TLSError{Err: alert}, ValidationFailure, "tls: handshake failure"},
		{"X25 lost", &ext.TLSError{Err: fmt.Errorf("reading: %w", io.ErrUnexpectedEOF)}, ValidationFailure,
			"unexpected EOF"},
		{"X25 DANE", fmt.Errorf("host: %w", policyError{TLSAInvalid}), TLSAInvalid, "the policy is bad"},
		{"X25 STS", policyError{STSWebPKIInvalid}, STSWebPKIInvalid, "the policy is bad"},
		{"X25 policy without a word", policyError{}, ValidationFailure, "the policy is bad"},
		{"X25 other", errors.New("smtp: what"), ValidationFailure, "what"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ResultOf(tt.err); got != tt.result {
				t.Errorf("%q, want %q", got, tt.result)
			}
			if got := CodeOf(tt.err); got != tt.code {
				t.Errorf("%q, want %q", got, tt.code)
			}
		})
	}
}

// TestX25_ResultOfClient asks for the result types of errors that the client returns, with real handshakes.
func TestX25_ResultOfClient(t *testing.T) {
	const (
		hello = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250 "
		begin = hello + "STARTTLS\nC: STARTTLS\nS: 220 go\nTLS"
	)
	for _, tt := range []struct {
		name, script, result string
		change               func(*tls.Config)
	}{
		{"not offered", hello + "SIZE\n", StartTLSNotSupported, nil},
		{"refused", hello + "STARTTLS\nC: STARTTLS\nS: 454 no\n", StartTLSNotSupported, nil},
		{"another name", begin, CertificateHostMismatch, func(c *tls.Config) { c.ServerName = "other.example" }},
		{"expired", begin, CertificateExpired, func(c *tls.Config) {
			c.Time = func() time.Time { return time.Now().AddDate(1000, 0, 0) }
		}},
		{"unknown authority", begin, CertificateNotTrusted, func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }},
		{"no TLS", hello + "STARTTLS\nC: STARTTLS\nS: 220 go\nS: 554 no\nCLOSE", ValidationFailure, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(quiet{t}, tt.script)
			config := clienttest.TLSConfig()
			if tt.change != nil {
				tt.change(config)
			}
			c, err := client.Dial(context.Background(), clienttest.Hostname+":25", &client.Options{
				Hostname: "client.example", DialContext: srv.Dial, TLSConfig: config,
			})
			srv.Wait()
			if err == nil {
				c.Close()
			}
			if got := ResultOf(err); got != tt.result {
				t.Errorf("%q for %v, want %q", got, err, tt.result)
			}
			if code := CodeOf(err); len(code) > 256 || strings.ContainsAny(code, "\r\n") ||
				strings.Contains(code, time.Now().Format("2006-")) {
				t.Errorf("the code is %q", code)
			}
		})
	}
}

// quiet is a test that a server cannot fail: the client breaks off the handshake.
type quiet struct{ testing.TB }

func (quiet) Errorf(string, ...any) {}
