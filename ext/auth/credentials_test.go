package auth

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
)

// The client uses the strongest mechanism that the caller allows. The order of the server's list does not matter.
func TestP29_PasswordOrder(t *testing.T) {
	for _, tt := range []struct {
		offer   string
		allowed []string
		want    string // the mechanism, or part of the error
	}{
		{"AUTH LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256", nil, "SCRAM-SHA-256"},
		{"AUTH LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1", nil, "SCRAM-SHA-1"},
		{"AUTH LOGIN PLAIN CRAM-MD5", nil, "CRAM-MD5"},
		{"AUTH LOGIN PLAIN", nil, "PLAIN"},
		{"AUTH LOGIN", nil, "LOGIN"},
		{"AUTH SCRAM-SHA-256-PLUS LOGIN", nil, "LOGIN"}, // there is nothing to bind to
		{"AUTH LOGIN PLAIN SCRAM-SHA-256", []string{"login", "PLAIN"}, "PLAIN"},
		{"AUTH LOGIN PLAIN", []string{"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}, "for [SCRAM-SHA-256]"},
		{"AUTH LOGIN PLAIN", []string{"SCRAM-SHA256"}, `"SCRAM-SHA256" is none of`},
	} {
		c := safeClient(tt.offer, Password("user", "pencil", tt.allowed...), say(535, ""))
		err := Auth().Negotiate(t.Context(), c)
		e, ok := grammar.AsType[*ext.AuthError](err)
		if !ok || e.Mechanism != tt.want && (len(c.Sent) > 0 || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, %q: sent %q, %v", tt.offer, tt.allowed, c.Sent, err)
		}
	}
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "=", "AGE=", "AGE", "=AAA", "AAA=BBB", "AA==AA==", "AA\r\nAA", "AB==", "****", "AAAA\x00"} {
		f.Add(s)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	f.Fuzz(func(t *testing.T, s string) {
		b, err := decode64(s)
		if err != nil {
			return
		}
		if b == nil {
			t.Fatalf("%q decodes to nil, which means that there was nothing", s)
		}
		digits := strings.TrimRight(s, "=")
		if strings.Trim(digits, alphabet) != "" || len(s)%4 != 0 || len(s)-len(digits) > 2 {
			t.Fatalf("%q was accepted", s)
		}
		if again := base64.StdEncoding.EncodeToString(b); again != s {
			t.Fatalf("%q and %q are the same", s, again)
		}
	})
}

// TestPasswordAs: the authorization identity is in the first message of each mechanism that has one (RFC 4616 section
// 2, RFC 5802 section 7), and both ends record it.
func TestPasswordAs(t *testing.T) {
	for _, tt := range []struct {
		mechanism, identity, want string
	}{
		{"SCRAM-SHA-256", "sha=red,", "n,a=sha=3Dred=2C,n=user,r="},
		{"SCRAM-SHA-1-PLUS", "shared", "p=tls-exporter,a=shared,n=user,r="},
		{"SCRAM-SHA-256", "", "n,,n=user,r="},
		{"PLAIN", "shared", "shared\x00user\x00pencil"},
		{"PLAIN", "", "\x00user\x00pencil"},
	} {
		m := ends(t, tls.VersionTLS13, acting{newBoth()}, PasswordAs(tt.identity, "user", "pencil", tt.mechanism))
		want := cmp.Or(tt.identity, "user")
		err := Auth().Negotiate(t.Context(), m)
		if err != nil || m.Conn.Identity != want || m.x.Conn.Identity != want {
			t.Errorf("%s as %q: %v; client: %q, server: %q", tt.mechanism, tt.identity, err, m.Conn.Identity, m.x.Conn.Identity)
		}
		_, first, _ := strings.Cut(m.x.Conn.Args, " ")
		if message, err := decode64(first); err != nil || !strings.HasPrefix(string(message), tt.want) {
			t.Errorf("%s as %q: %q, want %q", tt.mechanism, tt.identity, message, tt.want)
		}
	}
	for _, creds := range []ext.Credentials{
		PasswordAs("a\nb", "user", "pencil"), PasswordAs("shared", "", "pencil"), PasswordAs("shared", "user", "pencil", "LOGIN"),
	} {
		if list, err := creds(t.Context(), &fake.Client{}); err == nil {
			t.Errorf("%d mechanisms, want an error", len(list))
		}
	}
}

// An acting session lets everybody act for everybody.
type acting struct{ both }

func (acting) Authorize(context.Context, string, string) error { return nil }
