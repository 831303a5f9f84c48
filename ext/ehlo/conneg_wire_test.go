package ehlo_test

import (
	"testing"
)

func TestConNegReply(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"CONNEG", []string{from + " CONPERM", to + " CONNEG"}, "250-2.1.5 Recipient OK\r\n250 2.1.5 CONNEG (image-file-structure=TIFF)\r\n"},
	})
}
