package ehlo_test

import (
	"testing"
)

func TestMTRKReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"MTRK without ENVID", []string{from + " " + mtrk}, "501 5.5.4 "},
		{"MTRK", []string{from + " " + mtrk + ":86400 ENVID=1@b.example"}, "250 2.1.0 "},
	})
}
