package ehlo_test

import (
	"testing"
)

func TestByReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"W05 BY", []string{from + " BY=0;R"}, "501 5.5.4 "},
		{"W06 BY too short", []string{from + " BY=59;R"}, "555 5.5.4 "},
	})
}
