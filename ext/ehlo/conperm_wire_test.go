package ehlo_test

import (
	"testing"
)

func TestConPermReply(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"CONPERM", []string{from + " CONPERM=1"}, "501 5.5.4 "},
	})
}
