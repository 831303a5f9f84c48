package ehlo_test

import (
	"testing"
)

func TestPriorityReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"W08 MT-PRIORITY", []string{from + " MT-PRIORITY=+1"}, "501 5.5.2 "},
		{"W08 MT-PRIORITY twice", []string{from + " MT-PRIORITY=1 MT-PRIORITY=1"}, "501 5.5.4 "},
		{"W08 positive", []string{from + " MT-PRIORITY=1"}, "550 5.7.1 "},
		{"W08 negative", []string{from + " MT-PRIORITY=-1"}, "250 2.1.0 "},
	})
}

func TestPriorityLowered(t *testing.T) {
	testReplies(t, strictSession, []replyCase{
		{"W08 lowered", []string{from + " MT-PRIORITY=9"}, "250 2.3.6 2 is "},
		{"W08 not lowered", []string{from + " MT-PRIORITY=2"}, "250 2.1.0 "},
	})
}
