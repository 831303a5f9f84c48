package ehlo_test

import (
	"strings"
	"testing"
)

// TestObsoleteBothEnds: the server does not offer obsolete commands and refuses them, and the client does not send
// them.
func TestObsoleteBothEnds(t *testing.T) {
	m := meet(t, all())
	for _, tt := range []struct{ name, verb, args string }{
		{"a29 SEND", "SEND", "FROM:<a@b.example>"},
		{"a29 SOML", "SOML", "FROM:<a@b.example>"},
		{"a29 SAML", "SAML", "FROM:<a@b.example>"},
		{"a30 TURN", "TURN", ""},
		{"a31 VERB", "VERB", "ON"}, {"a31 ONEX", "ONEX", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if m.c.Caps().Has(tt.verb) {
				t.Error("it is on offer")
			}
			m.log = nil
			if _, err := m.c.Do(t.Context(), tt.verb, tt.args); err == nil || len(m.log) > 0 {
				t.Errorf("said %q, %v", m.log, err)
			}
			if got := say(t, &able{}, Caps, strings.TrimSpace(tt.verb+" "+tt.args)); !strings.HasPrefix(got, "502 5.5.1 ") {
				t.Errorf("the server says %q", got)
			}
		})
	}
}

func TestObsoleteReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"29 SEND", []string{"SEND FROM:<a@b.example>"}, "502 5.5.1 "},
		{"29 SOML", []string{"SOML FROM:<a@b.example>"}, "502 5.5.1 "},
		{"29 SAML in a transaction", []string{from, "SAML FROM:<a@b.example>"}, "502 5.5.1 "},
		{"30 TURN", []string{"TURN"}, "502 5.5.1 "},
		{"30 TURN after RCPT", []string{from, to, "turn"}, "502 5.5.1 "},
		{"31 VERB", []string{"VERB ON"}, "502 5.5.1 "},
		{"31 ONEX", []string{"ONEX"}, "502 5.5.1 "},
	})
	if got := say(t, &able{}, "TURN"); !strings.HasPrefix(got, "502 ") {
		t.Errorf("TURN before EHLO: %q", got)
	}
}
