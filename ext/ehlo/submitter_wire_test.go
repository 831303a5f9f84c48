package ehlo_test

import (
	"testing"
)

func TestSubmitterReply(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"SUBMITTER", []string{from + " SUBMITTER=bob@b.example"}, "550 5.7.1 Submitter not allowed.\r\n"},
	})
}
