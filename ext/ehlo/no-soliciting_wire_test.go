package ehlo_test

import (
	"testing"
)

func TestNoSolicitingReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"SOLICIT of the server", []string{from + " SOLICIT=net.example:ADV"}, "550 5.7.1 SOLICIT=net.example:ADV "},
		{"SOLICIT of the recipient", []string{from + " SOLICIT=org.example:c", to}, "550 5.7.1 SOLICIT=org.example:c "},
		{"SOLICIT of another", []string{from + " SOLICIT=org.example:c", "RCPT TO:<e@d.example>"}, "250 2.1.5 "},
	})
}
