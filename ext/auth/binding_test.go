package auth

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// tlsStates returns the states of the two ends of a TLS connection.
func tlsStates(t *testing.T, version uint16, server, client *tls.Config) (serverSide, clientSide *tls.ConnectionState) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	client, server = client.Clone(), server.Clone()
	client.ServerName, client.MaxVersion = "mail.example", version
	s, c := tls.Server(far, server), tls.Client(near, client)
	done := make(chan error)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err == nil {
			// A TLS 1.3 server writes a ticket, which blocks on the pipe until the client reads.
			_, err = s.Write([]byte{'x'})
		}
		done <- err
	}()
	_, err := c.Read(make([]byte, 1))
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	serverState, clientState := s.ConnectionState(), c.ConnectionState()
	return &serverState, &clientState
}

// ends returns the two ends of a connection with that version of TLS: a client with creds, and a server with the
// session.
func ends(t *testing.T, version uint16, session any, creds ext.Credentials) *meeting {
	cert, pool := prototest.Certificate(t, "mail.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	serverSide, clientSide := tlsStates(t, version, config, &tls.Config{RootCAs: pool})
	x := &fake.Server{Conn: fake.ServerState{Session: session, TLS: serverSide, OwnCertificates: clientSide.PeerCertificates[:1]}}
	_, lines := testkit.MakeSet(t, Auth()).Offer(x)
	c := safeClient(strings.Join(lines, "\n"), creds)
	c.Conn.TLS = clientSide
	return &meeting{c, x, make(chan string), make(chan proto.Reply)}
}

// both is a session with SCRAM secrets for both hash functions, and with passwords.
type both struct{ *pencils }

func newBoth() both {
	p := scramVectors[0].session()
	p.hashes = []crypto.Hash{crypto.SHA1, crypto.SHA256}
	return both{p}
}

func (both) Authenticate(_ context.Context, user, password string) error {
	if user == "user" && password == "pencil" {
		return nil
	}
	return ErrCredentials
}

// P29, P34: the client uses the strongest mechanism of both sides, with the channel binding of the TLS version.
func TestSCRAMBothEnds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version uint16
		allowed []string
		want    string // how the command begins
		flag    string // of the initial response
	}{
		{"P34 TLS 1.3", tls.VersionTLS13, nil, "SCRAM-SHA-256-PLUS ", "p=tls-exporter,,n=user,r="},
		{"P34 TLS 1.2", tls.VersionTLS12, nil, "SCRAM-SHA-256-PLUS ", "p=tls-unique,,n=user,r="},
		{"SHA-1", tls.VersionTLS13, []string{"SCRAM-SHA-1-PLUS", "PLAIN"}, "SCRAM-SHA-1-PLUS ", "p=tls-exporter,,n=user,r="},
		{"without PLUS", tls.VersionTLS13, []string{"scram-sha-256", "PLAIN"}, "SCRAM-SHA-256 ", "n,,n=user,r="},
		{"SHA-1 without PLUS", tls.VersionTLS12, []string{"SCRAM-SHA-1"}, "SCRAM-SHA-1 ", "n,,n=user,r="},
		{"PLAIN", tls.VersionTLS13, []string{"LOGIN", "PLAIN"}, "PLAIN ", "\x00user\x00pencil"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := ends(t, tt.version, newBoth(), Password("user", "pencil", tt.allowed...))
			if err := Auth().Negotiate(t.Context(), m); err != nil || m.x.Conn.Identity != "user" || m.Conn.Identity != "user" {
				t.Fatalf("%v; server: %q, client: %q", err, m.x.Conn.Identity, m.Conn.Identity)
			}
			first, ok := strings.CutPrefix(m.x.Conn.Args, tt.want)
			message, err := decode64(first)
			if !ok || err != nil || !strings.HasPrefix(string(message), tt.flag) {
				t.Errorf("AUTH %s: %q", m.x.Conn.Args, message)
			}

			m = ends(t, tt.version, newBoth(), Password("user", "pencil ", tt.allowed...))
			err = Auth().Negotiate(t.Context(), m)
			if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 535 || m.x.Conn.Identity != "" || m.x.AuthFailures != 1 {
				t.Errorf("with another password: %v; server: %q, %d failures", err, m.x.Conn.Identity, m.x.AuthFailures)
			}
		})
	}
}

// Clients that know no other channel binding use tls-server-end-point.
func TestSCRAMEndPoint(t *testing.T) {
	m := ends(t, tls.VersionTLS13, newBoth(), nil)
	clientSide := &tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: m.Conn.TLS.PeerCertificates}
	kind, data := clientBinding(clientSide)
	if want := sha256.Sum256(m.Conn.TLS.PeerCertificates[0].Raw); kind != "tls-server-end-point" || string(data) != string(want[:]) {
		t.Fatalf("%s %x, want %x", kind, data, want)
	}
	m.Client.Conn.TLS = clientSide
	m.Conn.Policy.Credentials = Password("user", "pencil", "SCRAM-SHA-256-PLUS")
	if err := Auth().Negotiate(t.Context(), m); err != nil || m.x.Conn.Identity != "user" {
		t.Errorf("%v; server: %q", err, m.x.Conn.Identity)
	}
	for name, own := range map[string][]*x509.Certificate{
		"none is known":     nil,
		"another was shown": ends(t, tls.VersionTLS13, newBoth(), nil).x.Conn.OwnCertificates,
		"it has no hash":    {{Raw: m.x.Conn.OwnCertificates[0].Raw, SignatureAlgorithm: x509.PureEd25519}},
	} {
		m.x.Conn.OwnCertificates, m.x.Conn.Identity, m.Conn.Identity = own, "", ""
		if err := Auth().Negotiate(t.Context(), m); err == nil || m.x.Conn.Identity != "" {
			t.Errorf("%s: %v; server: %q", name, err, m.x.Conn.Identity)
		}
	}
	m.Conn.Identity = ""
	m.x.Conn.OwnCertificates = append(ends(t, tls.VersionTLS13, newBoth(), nil).x.Conn.OwnCertificates, clientSide.PeerCertificates...)
	if err := Auth().Negotiate(t.Context(), m); err != nil || m.x.Conn.Identity != "user" {
		t.Errorf("one of several: %v; server: %q", err, m.x.Conn.Identity)
	}
}

// RFC 5929 section 4.1: the hash function is that of the signature, or SHA-256 in place of a weaker one.
func TestEndPointHash(t *testing.T) {
	for algorithm, size := range map[x509.SignatureAlgorithm]int{
		x509.MD5WithRSA: 32, x509.SHA1WithRSA: 32, x509.ECDSAWithSHA1: 32, x509.SHA256WithRSA: 32, x509.SHA256WithRSAPSS: 32,
		x509.ECDSAWithSHA384: 48, x509.SHA384WithRSAPSS: 48, x509.SHA512WithRSA: 64, x509.ECDSAWithSHA512: 64,
		x509.PureEd25519: 0, x509.UnknownSignatureAlgorithm: 0,
	} {
		got := endPoint(&x509.Certificate{SignatureAlgorithm: algorithm, Raw: []byte("x")})
		if len(got) != size {
			t.Errorf("%v: %d octets, want %d", algorithm, len(got), size)
		}
		if want := sha256.Sum256([]byte("x")); size == len(want) && string(got) != string(want[:]) {
			t.Errorf("%v: %x, want %x", algorithm, got, want)
		}
	}
}

// P34: a man in the middle has a TLS connection to each side. SCRAM without PLUS would not notice.
func TestSCRAMManInTheMiddle(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		m := ends(t, version, newBoth(), Password("user", "pencil"))
		m.Conn.TLS = ends(t, version, newBoth(), nil).Conn.TLS
		err := Auth().Negotiate(t.Context(), m)
		if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 535 || m.x.Conn.Identity != "" {
			t.Errorf("TLS %x: %v; server: %q", version, err, m.x.Conn.Identity)
		}
	}
	clientSide := &tls.ConnectionState{}
	m := ends(t, tls.VersionTLS13, newBoth(), Password("user", "pencil"))
	clientSide.PeerCertificates = ends(t, tls.VersionTLS13, newBoth(), nil).Conn.TLS.PeerCertificates
	m.Conn.TLS = clientSide
	if err := Auth().Negotiate(t.Context(), m); err == nil || !strings.HasPrefix(m.x.Conn.Args, "SCRAM-SHA-256-PLUS ") || m.x.Conn.Identity != "" {
		t.Errorf("end point: %v; AUTH %s", err, m.x.Conn.Args)
	}
}

// RFC 5802 section 6: an attacker removes the mechanisms with PLUS from the server's list, or refuses them in its name.
func TestSCRAMDowngrade(t *testing.T) {
	m := ends(t, tls.VersionTLS13, newBoth(), Password("user", "pencil"))
	m.Conn.Caps = fake.Caps("AUTH SCRAM-SHA-256 PLAIN")
	err := Auth().Negotiate(t.Context(), m)
	if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 535 || m.x.Conn.Identity != "" {
		t.Errorf("%v; server: %q", err, m.x.Conn.Identity)
	}
	if first, _ := decode64(strings.TrimPrefix(m.x.Conn.Args, "SCRAM-SHA-256 ")); !strings.HasPrefix(string(first), "y,,") {
		t.Errorf("AUTH %s: %q", m.x.Conn.Args, first)
	}

	c := safeClient("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256", Password("user", "pencil"), say(504, ""), say(535, ""))
	c.Conn.TLS = m.Conn.TLS
	if err := Auth().Negotiate(t.Context(), c); err == nil || len(c.Sent) != 2 {
		t.Fatalf("%v, sent %q", err, c.Sent)
	}
	if first, _ := decode64(strings.TrimPrefix(c.Sent[1], "AUTH SCRAM-SHA-256 ")); !strings.HasPrefix(string(first), "y,,") {
		t.Errorf("%s: %q", c.Sent[1], first)
	}

	// A server without channel binding, or whose filter removed PLUS, believes the client.
	for name, session := range map[string]any{"": newBoth(), "filter": struct {
		both
		filter
	}{newBoth(), filter{"SCRAM-SHA-256"}}} {
		m = ends(t, tls.VersionTLS13, session, Password("user", "pencil"))
		if name == "" {
			m.x.Conn.TLS = &tls.ConnectionState{}
		}
		m.Conn.Caps = fake.Caps("AUTH SCRAM-SHA-256")
		if err := Auth().Negotiate(t.Context(), m); err != nil || m.x.Conn.Identity != "user" {
			t.Errorf("%s: %v; server: %q", name, err, m.x.Conn.Identity)
		}
	}
}

// filter is a session that offers these mechanisms at most.
type filter []string

func (f filter) FilterMechanisms([]string) []string { return f }

// A client that breaks the rules of channel binding is refused.
func TestSCRAMBindingRefused(t *testing.T) {
	m := ends(t, tls.VersionTLS13, newBoth(), nil)
	for _, tt := range []struct{ name, args string }{
		{"PLUS without binding", "SCRAM-SHA-256-PLUS " + b64("n,,n=user,r=x")},
		{"PLUS with y", "SCRAM-SHA-256-PLUS " + b64("y,,n=user,r=x")},
		{"unknown binding", "SCRAM-SHA-256-PLUS " + b64("p=tls-x,,n=user,r=x")},
		{"binding of another version", "SCRAM-SHA-256-PLUS " + b64("p=tls-unique,,n=user,r=x")},
		{"empty binding", "SCRAM-SHA-256-PLUS " + b64("p=,,n=user,r=x")},
	} {
		x := &fake.Server{Conn: fake.ServerState{Session: newBoth(), TLS: m.x.Conn.TLS, OwnCertificates: m.x.Conn.OwnCertificates}}
		if got := x.Serve(t, Auth(), tt.args); !strings.HasPrefix(got, "535 ") {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}
