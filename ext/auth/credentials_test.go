package auth

import (
	"encoding/base64"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
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
