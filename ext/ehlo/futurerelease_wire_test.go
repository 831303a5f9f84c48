package ehlo_test

import (
	"context"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A strict session has no room for more held messages, and allows no priority above 2.
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

func strictSession() server.Session { return &strict{able{highest: 9}} }

func TestHoldQuota(t *testing.T) {
	testReplies(t, strictSession, []replyCase{{"W04 quota", []string{from + " HOLDFOR=60"}, "552 5.2.2 "}})
}

func TestHoldReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"W01 HOLDFOR", []string{from + " HOLDFOR=3601"}, "501 5.5.4 "},
		{"W01 HOLDUNTIL", []string{from + " HOLDUNTIL=9999-12-31T00:00:00Z"}, "501 5.5.4 "},
		{"W01 both", []string{from + " HOLDFOR=1 HOLDUNTIL=2001-01-01T00:00:00Z"}, "501 5.5.4 "},
		{"W01 both, the other way", []string{from + " HOLDUNTIL=2001-01-01T00:00:00Z HOLDFOR=1"}, "501 5.5.4 "},
		{"W01 twice", []string{from + " HOLDFOR=1 HOLDFOR=1"}, "501 5.5.4 "},
		{"W03 later than BY", []string{from + " BY=60;N HOLDFOR=61"}, "501 5.5.4 "},
	})
}
