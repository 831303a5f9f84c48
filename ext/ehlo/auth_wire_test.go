package ehlo_test

import (
	"context"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/server"
)

// TestFieldAuth has the client authenticate to servers that offer mechanisms in unusual forms.
func TestFieldAuth(t *testing.T) {
	const greet = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	for _, tt := range []struct {
		name, script string
		creds        ext.Credentials
		refused      bool
	}{
		{"AUTH=LOGIN", greet + `S: 250 AUTH=LOGIN
C: AUTH LOGIN
S: 334 VXNlcm5hbWU6
C: YWxpY2U=
S: 334 UGFzc3dvcmQ6
C: c2VjcmV0
S: 235 ok`, auth.Password("alice", "secret"), false},
		{"AUTH=LOGIN beside AUTH PLAIN", greet + "S: 250-AUTH=LOGIN\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 ok",
			auth.Password("alice", "secret"), false},
		{"AUTH XOAUTH2", greet + "S: 250 AUTH NTLM XOAUTH2\nC: AUTH XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciB4AQE=\nS: 235 ok",
			auth.Token("alice", func(context.Context) (string, error) { return "x", nil }), false},
		{"AUTH NTLM alone", greet + "S: 250 AUTH NTLM GSSAPI", auth.Password("alice", "secret"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, tt.script)
			c, err := client.Dial(t.Context(), clienttest.Hostname+":587", &client.Options{
				Hostname: "client.example", TLS: ext.TLSInsecureNone, AllowPlaintextAuth: true, Credentials: tt.creds, DialContext: srv.Dial,
			})
			if tt.refused {
				if e, ok := grammar.AsType[*ext.AuthError](err); !ok || e.Mechanism != "" {
					t.Errorf("%v, want no mechanism to be tried", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.Identity() != "alice" {
				t.Errorf("authenticated as %q", c.Identity())
			}
		})
	}
	t.Run("AUTH=LOGIN is not offered", func(t *testing.T) {
		srv := newServer(t, &registrar{}, &server.Options{Hostname: "mail.example", AllowInsecureAuth: true})
		if got := talk(t, srv, Caps); !strings.Contains(got, "AUTH PLAIN LOGIN\r\n") || strings.Contains(got, "AUTH=") {
			t.Errorf("offered %q", got)
		}
	})
}
