package ehlo

import (
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
)

// TestExpnAdvertise checks H06: the server offers EXPN if the session supports it, and only then.
func TestExpnAdvertise(t *testing.T) {
	s := testkit.MakeSet(t, EXPN())
	if o, _ := s.Offer(fake.NewServer(1)); o.Has(0) {
		t.Error("offered by a session that does not expand")
	}
	if o, _ := s.Offer(fake.NewServer(testkit.Wrap(&directory{}))); !o.Has(0) {
		t.Error("not offered")
	}
}
