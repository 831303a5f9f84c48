package auth

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// TestAuthOffer checks when AUTH is advertised, and how the command is answered when it is not.
func TestAuthOffer(t *testing.T) {
	line := "PLAIN " + b64("\x00alice\x00secret")
	active := &tls.ConnectionState{}
	own := &mechs{names: []string{"scram-sha-256", "EXTERNAL", "BAD NAME", "TOO-LONG-FOR-A-MECHANISM", "external"}}
	for _, tt := range []struct {
		name  string
		x     fake.Server
		offer string // the line, "" if it is not offered
		want  string
	}{
		{"P13 TLS", fake.Server{Conn: fake.ServerState{Session: &users{}, TLS: active}}, "AUTH PLAIN LOGIN", "235 2.7.0 "},
		{"P03 P13 in clear", fake.Server{Conn: fake.ServerState{Session: &users{}}}, "", "538 5.7.11 "},
		{"in clear by permission", fake.Server{Conn: fake.ServerState{Session: &users{}, AllowInsecureAuth: true}}, "AUTH PLAIN LOGIN", "235 2.7.0 "},
		{"nobody", fake.Server{Conn: fake.ServerState{Session: 1, TLS: active}}, "", "502 5.5.1 "},
		{"own mechanisms", fake.Server{Conn: fake.ServerState{Session: own, TLS: active}}, "AUTH SCRAM-SHA-256 EXTERNAL", "504 5.5.4 "},
		{"both", fake.Server{Conn: fake.ServerState{Session: struct {
			*mechs
			*users
		}{own, &users{}}, TLS: active}}, "AUTH SCRAM-SHA-256 EXTERNAL PLAIN LOGIN", "235 2.7.0 "},
		{"no mechanism", fake.Server{Conn: fake.ServerState{Session: &mechs{}, TLS: active}}, "", "502 5.5.1 "},
		{"P01 done", fake.Server{Conn: fake.ServerState{Session: &users{}, TLS: active, Identity: "alice"}}, "AUTH PLAIN LOGIN", "503 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, lines := testkit.MakeSet(t, Auth()).Offer(&tt.x)
			if got := strings.Join(lines, "|"); got != tt.offer {
				t.Errorf("offered %q, want %q", got, tt.offer)
			}
			if got := tt.x.Serve(t, Auth(), line); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestAuthBothEnds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		offer    string
		creds    ext.Credentials
		wantCode int // of the refusal, 0 if there is none
	}{
		{"PLAIN", "AUTH PLAIN LOGIN", Password("alice", "secret"), 0},
		{"LOGIN", "AUTH LOGIN", Password("alice", "secret"), 0},
		{"LOGIN of go-sasl", "AUTH LOGIN", these(sasl.NewLoginClient("alice", "secret")), 0},
		{"PLAIN of go-sasl", "AUTH PLAIN", these(sasl.NewPlainClient("alice", "alice", "secret")), 0},
		{"PLAIN, wrong", "AUTH PLAIN", Password("alice", "x"), 535},
		{"LOGIN, wrong", "AUTH LOGIN", Password("bob", "secret"), 535},
		{"PLAIN, long", "AUTH PLAIN", Password("alice", strings.Repeat("p", 1000)), 535},
		{"not offered in truth", "AUTH EXTERNAL", these(sasl.NewExternalClient("alice")), 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := safeServer(&users{})
			m := &meeting{safeClient(tt.offer, tt.creds), x, make(chan string), make(chan proto.Reply)}
			err := Auth().Negotiate(t.Context(), m)
			if tt.wantCode == 0 {
				if err != nil || x.Conn.Identity != "alice" || m.Conn.Identity == "" {
					t.Errorf("%v; server: %q, client: %q", err, x.Conn.Identity, m.Conn.Identity)
				}
				return
			}
			if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != tt.wantCode || x.Conn.Identity != "" || m.Conn.Identity != "" {
				t.Errorf("%v; server: %q, client: %q", err, x.Conn.Identity, m.Conn.Identity)
			}
		})
	}
}
