package ehlo

import (
	"slices"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// TestU08_Port25: even a submission server offers on port 25 nothing that is for submission only. Others relay there, and
// a client cannot tell (RFC 4468 section 3.1).
func TestU08_Port25(t *testing.T) {
	for _, port := range []int{25, 587} {
		x := &portSession{fake.Server{With: &imap{}, Name: "harry"}, port, proto.SMTP}
		_, lines := testkit.MakeSet(t, Submission(SubmissionPolicy{URLs: []string{"imap"}})...).Offer(x)
		if slices.Contains(lines, "BURL imap") != (port == 587) {
			t.Errorf("port %d: offered %q", port, lines)
		}
	}
}
