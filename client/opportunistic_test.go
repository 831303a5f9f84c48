package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestRFC7435_FailedHandshake has STARTTLS fail in all sorts of ways. In TLSOpportunistic each failure is temporary,
// and says that an attempt in plaintext is what the policy permits, unless a function of the user's has rejected the
// server, or the caller has given up. In TLSRequired plaintext is never permitted.
func TestRFC7435_FailedHandshake(t *testing.T) {
	const alert = "\x15\x03\x03\x00\x02\x02\x28" // handshake_failure (RFC 8446 section 6)
	var (
		crypto = proto.Status{4, 7, 5}
		lost   = proto.Status{4, 4, 2}
		never  = proto.Status{5, 7, 10}
	)
	errPolicy := errors.New("not the certificate of the policy")
	reject := func(o *Options) {
		o.TLSConfig = &tls.Config{VerifyConnection: func(tls.ConnectionState) error { return errPolicy }}
	}
	for _, tt := range []struct {
		name      string
		say       string // in answer to STARTTLS
		then      string // in answer to the ClientHello; "TLS" is a handshake, "" nothing at all
		change    func(*Options)
		optional  bool
		status    proto.Status // in TLSOpportunistic
		required  proto.Status // in TLSRequired
		wantError string
	}{
		{"alert", "220 go\r\n", alert, nil, true, crypto, never, "handshake failure"},
		{"454 in plaintext", "220 go\r\n", "454 4.7.0 no\r\n", nil, true, crypto, never, `"454 4"`},
		{"hung up", "220 go\r\n", "CLOSE", nil, true, lost, lost, ""},
		{"silence", "220 go\r\n", "", nil, true, lost, lost, "deadline"},
		{"250", "250 ok\r\n", "", nil, true, crypto, never, "only 220"},
		{"VerifyConnection", "220 go\r\n", "TLS", reject, false, never, never, ""},
		{"VerifyPeerCertificate", "220 go\r\n", "TLS", func(o *Options) {
			o.TLSConfig = &tls.Config{VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return errPolicy }}
		}, false, never, never, ""},
	} {
		for _, mode := range []ext.TLSMode{ext.TLSOpportunistic, ext.TLSRequired} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					opt := &Options{Hostname: "client.example", TLS: mode, TLSConfig: clienttest.TLSConfig()}
					if tt.change != nil {
						tt.change(opt)
					}
					here, there := net.Pipe()
					go offerTLS(here, tt.say, tt.then)
					_, err := NewClient(context.Background(), there, "mail.example", opt)
					e, ok := asType[*ext.TLSError](err)
					if !ok {
						t.Fatalf("%v, want a TLSError", err)
					}
					want := tt.status
					if mode == ext.TLSRequired {
						want = tt.required
					}
					optional := tt.optional && mode == ext.TLSOpportunistic
					if e.Optional != optional || e.Status() != want || Temporary(err) != (want.Class() == 4) {
						t.Errorf("mode %d: %v: optional %v, status %v, temporary %v; want %v, %v", mode, err, e.Optional, e.Status(),
							Temporary(err), optional, want)
					}
					if !SafeToRetry(err) || !strings.Contains(err.Error(), tt.wantError) {
						t.Errorf("%v: want %q, and that it is safe to retry", err, tt.wantError)
					}
				})
			})
		}
	}
}

// offerTLS is a server that offers STARTTLS, answers it with say, and the ClientHello with then.
func offerTLS(conn net.Conn, say, then string) {
	defer conn.Close()
	in := &lineReader{r: conn}
	io.WriteString(conn, "220 mail.example\r\n")
	in.line()
	io.WriteString(conn, "250-mail.example\r\n250 STARTTLS\r\n")
	in.line()
	io.WriteString(conn, say)
	switch then {
	case "TLS":
		tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}}).Handshake()
	case "CLOSE":
		conn.Read(make([]byte, 1))
	default:
		conn.Read(make([]byte, 4<<10))
		io.WriteString(conn, then)
		io.Copy(io.Discard, conn)
	}
}

// TestOptionalTLSAndContext checks that a caller who gives up during the handshake is not sent to try in plaintext.
func TestOptionalTLSAndContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		here, there := net.Pipe()
		go offerTLS(here, "220 go\r\n", "")
		go func() {
			synctest.Wait()
			cancel()
		}()
		_, err := NewClient(ctx, there, "mail.example", &Options{Hostname: "client.example", TLS: ext.TLSOpportunistic})
		if e, ok := asType[*ext.TLSError](err); !ok || e.Optional || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, optional %v", err, ok && e.Optional)
		}
	})
}
