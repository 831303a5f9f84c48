package auth_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// account is a session in which alice can authenticate by every mechanism.
type account struct {
	server.Session
	secrets map[crypto.Hash]auth.SCRAMSecret
}

const password = "p\u00e4ss,w=ord"

func (m *account) SCRAMPolicy() auth.SCRAMPolicy {
	return auth.SCRAMPolicy{Hashes: []crypto.Hash{crypto.SHA256, crypto.SHA1}, Iterations: 4096}
}

func (m *account) SCRAMSecret(_ context.Context, user string, hash crypto.Hash) (auth.SCRAMSecret, error) {
	if user != "alice" {
		return auth.SCRAMSecret{}, auth.ErrCredentials
	}
	return m.secrets[hash], nil
}

func (m *account) ClearPassword(_ context.Context, user string) (string, error) {
	if user != "alice" {
		return "", auth.ErrCredentials
	}
	return password, nil
}

func (m *account) Authenticate(_ context.Context, user, given string) error {
	if ok := m.secrets[crypto.SHA256].Matches(given); !ok || user != "alice" {
		return auth.ErrCredentials
	}
	return nil
}

func (m *account) AuthenticateToken(_ context.Context, user, token string) (string, error) {
	if user != "alice" || token != "vF9d" {
		return "", auth.ErrCredentials
	}
	return user, nil
}

func (m *account) AuthenticateCertificate(_ context.Context, chain []*x509.Certificate) (string, error) {
	return chain[0].Subject.CommonName, nil
}

func (m *account) AuthenticateAnonymous(context.Context, string) (string, error) { return "alice", nil }

func (m *account) AuthPause(int) time.Duration { return 0 }

// newMailServer returns a server of accounts. It sends the Identity of each client that delivers a message on the
// channel.
func newMailServer(t *testing.T, config *tls.Config) (*server.Server, chan string) {
	t.Helper()
	secrets := make(map[crypto.Hash]auth.SCRAMSecret)
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		s, err := auth.NewSCRAMSecret(hash, password, 4096)
		if err != nil {
			t.Fatal(err)
		}
		secrets[hash] = s
	}
	who := make(chan string, 1)
	backend := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		who <- m.Conn.Identity()
		return nil
	})
	srv, err := server.New(server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
		s, err := backend.NewSession(ctx, c)
		return &account{s, secrets}, err
	}), &server.Options{
		Hostname: "mail.example", TLSConfig: config, RequireAuth: true, SessionTickets: true,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return srv, who
}

// TestSASLBothEnds runs each mechanism between the real server and the real client, over both versions of TLS.
func TestSASLBothEnds(t *testing.T) {
	token := func(token string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return token, nil }
	}
	cert, pool := prototest.Certificate(t, "CN=alice", "mail.example")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		srv, who := newMailServer(t, &tls.Config{
			Certificates: []tls.Certificate{cert}, MaxVersion: version, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
		})
		for _, tt := range []struct {
			name       string
			good, evil ext.Credentials
		}{
			{"P29 the strongest", auth.Password("alice", password), auth.Password("alice", "x")},
			{"P34 SCRAM-SHA-256-PLUS", auth.Password("alice", password, "SCRAM-SHA-256-PLUS"), auth.Password("bob", password, "SCRAM-SHA-256-PLUS")},
			{"P34 SCRAM-SHA-1-PLUS", auth.Password("alice", password, "SCRAM-SHA-1-PLUS"), auth.Password("alice", "x", "SCRAM-SHA-1-PLUS")},
			{"P34 SCRAM-SHA-256", auth.Password("alice", password, "SCRAM-SHA-256"), auth.Password("bob", password, "SCRAM-SHA-256")},
			{"P34 SCRAM-SHA-1", auth.Password("alice", password, "SCRAM-SHA-1"), auth.Password("alice", "x", "SCRAM-SHA-1")},
			{"CRAM-MD5", auth.Password("alice", password, "CRAM-MD5"), auth.Password("bob", password, "CRAM-MD5")},
			{"P19 PLAIN", auth.Password("alice", password, "PLAIN"), auth.Password("alice", "x", "PLAIN")},
			{"LOGIN", auth.Password("alice", password, "LOGIN"), auth.Password("bob", password, "LOGIN")},
			{"P30 OAUTHBEARER", auth.Token("alice", token("vF9d"), "OAUTHBEARER"), auth.Token("alice", token("x"), "OAUTHBEARER")},
			{"P30 XOAUTH2", auth.Token("alice", token("vF9d"), "XOAUTH2"), auth.Token("bob", token("vF9d"), "XOAUTH2")},
			{"P35 EXTERNAL", auth.External(""), auth.External("bob")},
			{"ANONYMOUS", auth.Anonymous("alice@example.org"), nil},
		} {
			t.Run(tt.name+" "+tls.VersionName(version), func(t *testing.T) {
				config := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}
				if err := deliver(t, srv, config, tt.good); err != nil {
					t.Fatal(err)
				}
				if got := <-who; got != "alice" {
					t.Errorf("authenticated as %q", got)
				}
				if tt.evil == nil {
					return
				}
				err := deliver(t, srv, config, tt.evil)
				if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 535 {
					t.Errorf("with other credentials: %v", err)
				}
			})
		}
	}
}

// deliver sends a message to srv with the credentials.
func deliver(t *testing.T, srv *server.Server, config *tls.Config, creds ext.Credentials) error {
	t.Helper()
	near, far := net.Pipe()
	return deliverOver(t, near, far, srv, config, creds)
}

func deliverOver(t *testing.T, near, far net.Conn, srv *server.Server, config *tls.Config, creds ext.Credentials) error {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.ServeConn(t.Context(), far)
	}()
	defer func() { near.Close(); <-ended }()
	c, err := client.NewClient(t.Context(), near, "mail.example", &client.Options{TLSConfig: config, Credentials: creds})
	if err != nil {
		return err
	}
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, nil)
	if err == nil {
		_, err = c.Send(t.Context(), m)
	}
	return errors.Join(err, c.Close())
}

// TestLongChallenge sends a challenge longer than any other reply may be (RFC 4954 section 4). The server must not fold
// it.
func TestLongChallenge(t *testing.T) {
	scope := strings.Repeat("s", 9000)
	near, far := net.Pipe()
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &wordy{scope: scope}, nil
	}), &server.Options{
		Hostname: "mail.example", AllowInsecureAuth: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.ServeConn(t.Context(), far)
	}()
	defer func() { <-ended }()
	source := func(context.Context) (string, error) { return "vF9d", nil }
	_, err = client.NewClient(t.Context(), near, "mail.example", &client.Options{
		TLS: ext.TLSInsecureNone, AllowPlaintextAuth: true, Credentials: auth.Token("alice", source),
	})
	if e, ok := grammar.AsType[*auth.TokenError](err); !ok || e.Scope != scope {
		t.Errorf("%.200s", err)
	}
}

// wordy is a session that refuses tokens with a long explanation.
type wordy struct {
	server.Session
	scope string
}

func (w *wordy) AuthenticateToken(context.Context, string, string) (string, error) {
	return "", &auth.TokenError{Status: "insufficient_scope", Scope: w.scope}
}

func (w *wordy) AuthPause(int) time.Duration { return 0 }
