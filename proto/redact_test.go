package proto

import "testing"

// TestRedact: of the arguments of a command that begins an exchange only the name of a mechanism is shown.
func TestRedact(t *testing.T) {
	auth := &Verb{Name: "AUTH", More: Exchange}
	secret := &Verb{Name: "XSEC", Secret: true}
	both := &Verb{Name: "XBOTH", More: Exchange, Secret: true}
	plain := &Verb{Name: "MAIL"}
	for _, tt := range []struct {
		verb       *Verb
		args, want string
	}{
		{auth, "", ""},
		{auth, "PLAIN", "PLAIN"},
		{auth, "PLAIN AGFsaWNlAHNlY3JldA==", "PLAIN ***"},
		{auth, "SCRAM-SHA-256-PLUS =", "SCRAM-SHA-256-PLUS ***"},
		{auth, "AGFsaWNlAHNlY3JldA==", "***"},
		{auth, "c2VjcmV0 PLAIN", "***"},
		{auth, "PLAIN=c2VjcmV0", "***"},
		{auth, "PLAIN\tc2VjcmV0", "***"},
		{auth, " PLAIN", "***"},
		{auth, "ABCDEFGHIJKLMNOPQRST", "ABCDEFGHIJKLMNOPQRST"},
		{auth, "ABCDEFGHIJKLMNOPQRSTU", "***"},
		{secret, "PLAIN", "***"},
		{both, "PLAIN x", "***"},
		{both, "", ""},
		{plain, "FROM:<a@b.example>", "FROM:<a@b.example>"},
	} {
		if got := tt.verb.Redact([]byte(tt.args)); got != tt.want {
			t.Errorf("%s %q is shown as %q, want %q", tt.verb.Name, tt.args, got, tt.want)
		}
	}
}
