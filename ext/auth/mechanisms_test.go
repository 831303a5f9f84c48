package auth

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto/prototest"
)

// all is a session that implements every interface.
type all struct {
	both
	*tokens
	*cleartext
	cards
	*guests
}

func (all) AuthPause(int) time.Duration { return 0 }

// The server advertises the strongest mechanism first.
func TestAuthOfferOrder(t *testing.T) {
	everything := all{newBoth(), &tokens{}, &cleartext{}, cards{}, &guests{}}
	cert, pool := prototest.Certificate(t, "mail.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	known, _ := tlsStates(t, tls.VersionTLS13, config, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}})
	unknown, _ := tlsStates(t, tls.VersionTLS12, config, &tls.Config{RootCAs: pool})
	const rest = "SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 CRAM-MD5 PLAIN LOGIN ANONYMOUS"
	for _, tt := range []struct {
		name string
		x    fake.Server
		want string
	}{
		{"P35 TLS with certificate", fake.Server{Conn: fake.ServerState{Session: everything, TLS: known}},
			"AUTH EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS " + rest},
		{"TLS", fake.Server{Conn: fake.ServerState{Session: everything, TLS: unknown}}, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS " + rest},
		{"P13 in clear", fake.Server{Conn: fake.ServerState{Session: everything}}, ""},
		{"in clear by permission", fake.Server{Conn: fake.ServerState{Session: everything, AllowInsecureAuth: true}}, "AUTH " + rest},
		{"SHA-256 is the default", fake.Server{Conn: fake.ServerState{Session: &pencils{}, AllowInsecureAuth: true}}, "AUTH SCRAM-SHA-256"},
		{"filter", fake.Server{Conn: fake.ServerState{Session: struct {
			all
			filter
		}{everything, filter{"plain", "SCRAM-SHA-256", "PLAIN", "no name"}}, TLS: unknown}}, "AUTH PLAIN SCRAM-SHA-256"},
		{"filter of everything", fake.Server{Conn: fake.ServerState{Session: struct {
			all
			filter
		}{everything, nil}, TLS: unknown}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, lines := testkit.MakeSet(t, Auth()).Offer(&tt.x)
			if got := strings.Join(lines, "|"); got != tt.want {
				t.Errorf("offered %q, want %q", got, tt.want)
			}
		})
	}
	x := safeServer(struct {
		both
		filter
	}{newBoth(), filter{"SCRAM-SHA-256"}})
	if got := x.Serve(t, Auth(), "PLAIN "+b64("\x00user\x00pencil")); !strings.HasPrefix(got, "504 5.5.4 ") {
		t.Errorf("a mechanism that the filter has taken out: %q", got)
	}
	x = safeServer(struct {
		cards
		filter
	}{cards{}, filter{"GSSAPI", "EXTERNAL"}})
	for _, name := range []string{"GSSAPI", "EXTERNAL"} {
		if got := x.Serve(t, Auth(), name+" ="); !strings.HasPrefix(got, "454 ") {
			t.Errorf("%s, which the filter has put in and nobody can serve here: %q", name, got)
		}
	}
}

// FuzzPlain looks for a message of PLAIN from which the session gets another name or password than RFC 4616 says.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"\x00alice\x00secret", "alice\x00alice\x00secret", "root\x00alice\x00secret", "", "\x00", "\x00\x00",
		"\x00\x00\x00", "\x00a\x00b\x00", "\x00a\n\x00b", "\x00\xff\x00b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		u := &users{}
		x := safeServer(u)
		args := "PLAIN " + base64.StdEncoding.EncodeToString(message)
		if len(message) == 0 {
			args = "PLAIN ="
		}
		got := x.Serve(t, Auth(), args)
		parts := bytes.Split(message, []byte{0})
		if len(u.asked) == 0 {
			if !strings.HasPrefix(got, "535 ") {
				t.Fatalf("%q without a check", got)
			}
			return
		}
		if len(parts) != 3 || u.asked[0] != string(parts[1])+"/"+string(parts[2]) ||
			len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) || len(parts[1]) == 0 || len(parts[2]) == 0 ||
			bytes.ContainsFunc(append(parts[1], parts[2]...), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q: the session was asked %q", message, u.asked)
		}
		if strings.HasPrefix(got, "235 ") != (x.Conn.Identity == "alice" && u.asked[0] == "alice/secret") {
			t.Fatalf("%q: %q as %q", message, got, x.Conn.Identity)
		}
	})
}
