package ehlo_test

import (
	"context"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A strict session holds no mail beyond what is there, and gives no message a priority above 2.
type strict struct{ able }

func (s *strict) Mail(_ context.Context, _ proto.Address, p proto.Params) error {
	if _, ok := ehlo.ReadHold(p); ok {
		return ehlo.ErrHoldQuota
	}
	if n, ok := ehlo.ReadPriority(p); ok && n > 2 {
		return ehlo.Priority(2).Reply().Err()
	}
	return nil
}

// TestStrict has a session decide what it is for the session to decide.
func TestStrict(t *testing.T) {
	for _, tt := range []struct {
		name, line, want string
	}{
		{"W04 quota", from + " HOLDFOR=60", "552 5.2.2 "},
		{"W08 lowered", from + " MT-PRIORITY=9", "250 2.3.6 2 is "},
		{"W08 not lowered", from + " MT-PRIORITY=2", "250 2.1.0 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := say(t, &strict{able{highest: 9}}, Caps, tt.line); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
