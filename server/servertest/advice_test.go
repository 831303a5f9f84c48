package servertest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/smtp"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// TestBubbleNeedsMemory makes a server in a bubble that would wait for ever there.
func TestBubbleNeedsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, opt := range []*servertest.Options{nil, {NoTLS: true}} {
			rec := &recorder{TB: t}
			rec.run(func() { servertest.NewServer(rec, opt) })
			if errs, _ := rec.end(); !strings.Contains(errs, "in a bubble of testing/synctest: set Options.Memory") {
				t.Errorf("the test fails with %q", errs)
			}
		}
	})
}

// TestCertificate compares the certificate with the one that a client sees.
func TestCertificate(t *testing.T) {
	own := servertest.NewServer(t, &servertest.Options{Memory: true}).ClientCertificate("own.example")
	noLeaf := tls.Certificate{Certificate: own.Certificate, PrivateKey: own.PrivateKey}
	get := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != "mail.own.example" {
			t.Errorf("the certificate is asked for %q", hello.ServerName)
		}
		return &noLeaf, nil
	}
	with := func(c *tls.Config) server.Options {
		return server.Options{TLSConfig: c, Hostname: "mail.own.example"}
	}
	for name, opt := range map[string]servertest.Options{
		"good":           {},
		"expired":        {Certificate: servertest.Expired},
		"self-signed":    {Certificate: servertest.SelfSigned},
		"one's own":      {Server: with(&tls.Config{Certificates: []tls.Certificate{own}})},
		"without a leaf": {Server: with(&tls.Config{Certificates: []tls.Certificate{noLeaf}})},
		"by a function":  {Server: with(&tls.Config{GetCertificate: get})},
	} {
		opt.Memory = true
		srv := servertest.NewServer(t, &opt)
		c, err := smtp.NewClient(srv.Dial(), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "mail.own.example"}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		state, _ := c.TLSConnectionState()
		got, want := srv.Certificate(), state.PeerCertificates[0]
		if got == nil || !bytes.Equal(got.Raw, want.Raw) {
			t.Errorf("%s: the certificate is %v, and the client sees %v", name, got, want.Subject)
		}
		c.Close()
	}
	if got := servertest.NewServer(t, &servertest.Options{Memory: true, NoTLS: true}).Certificate(); got != nil {
		t.Errorf("without TLS the certificate is %v", got)
	}
}

// TestDistrust has clients that do not trust the certificate. The transcript says what they lack, if that is not what
// the test is for.
func TestDistrust(t *testing.T) {
	const advice = "-- give the client Server.ClientTLS; for smtp.SendMail set Options.NoTLS\n"
	for _, tt := range []struct {
		name   string
		opt    servertest.Options
		config func(*servertest.Server) *tls.Config
		want   bool
	}{
		{"the roots of the system", servertest.Options{}, func(*servertest.Server) *tls.Config {
			return &tls.Config{ServerName: servertest.Hostname}
		}, true},
		{"another name", servertest.Options{}, func(s *servertest.Server) *tls.Config {
			c := s.ClientTLS()
			c.ServerName = "smtp.example.org"
			return c
		}, true},
		{"implicit TLS", servertest.Options{ImplicitTLS: true}, func(*servertest.Server) *tls.Config {
			return &tls.Config{ServerName: servertest.Hostname}
		}, true},
		{"expired", servertest.Options{Certificate: servertest.Expired}, (*servertest.Server).ClientTLS, false},
		{"other versions", servertest.Options{}, func(s *servertest.Server) *tls.Config {
			c := s.ClientTLS()
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
			return c
		}, false},
	} {
		tt.opt.Memory = true
		srv := servertest.NewServer(t, &tt.opt)
		nc := srv.Dial()
		var err error
		if tt.opt.ImplicitTLS {
			err = tls.Client(nc, tt.config(srv)).Handshake()
		} else {
			var c *smtp.Client
			if c, err = smtp.NewClient(nc, ""); err == nil {
				err = c.StartTLS(tt.config(srv))
			}
		}
		if err == nil {
			t.Errorf("%s: the client takes the certificate", tt.name)
		}
		io.Copy(io.Discard, nc) // the server hangs up
		nc.Close()
		srv.Close()
		text := strings.Join(srv.Transcripts(), "")
		if !strings.Contains(text, "-- the TLS handshake failed: ") || strings.Contains(text, advice) != tt.want {
			t.Errorf("%s: advice is wanted: %v; the transcript is %q", tt.name, tt.want, text)
		}
	}
}

// A deaf is a session to which nobody can authenticate.
type deaf struct{ server.Session }

// TestSessionType has a session to which nobody can authenticate where that is required. The error names its type.
func TestSessionType(t *testing.T) {
	rec := &recorder{TB: t}
	inner := server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) { return &deaf{}, nil })
	wrap := func(next server.Backend) server.Backend {
		return server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
			s, err := next.NewSession(ctx, c)
			return server.Wrapper{Session: s}, err
		})
	}
	srv := servertest.NewServer(rec, &servertest.Options{
		Memory: true, Submission: true, Backend: server.Use(inner, wrap),
	})
	p := prototest.NewPeer(t, srv.Dial())
	dialogue(t, p, begun+quit)
	errs, _ := rec.end()
	if !strings.Contains(errs, "session: *servertest_test.deaf; err: ") || strings.Contains(errs, "servertest.recorder") {
		t.Errorf("the test fails with %q", errs)
	}
}
