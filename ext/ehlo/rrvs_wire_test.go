package ehlo_test

import (
	"testing"
)

func TestRRVSReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"W10 RRVS", []string{from, to + " RRVS=2014-04-03T23:01:00.5Z"}, "501 5.5.4 "},
		{"W10 what to do if it is not known", []string{from, to + " " + since + ";C", to + " " + since + ";r"}, "250 2.1.5 "},
		{"W10 something else", []string{from, to + " " + since + ";X"}, "501 5.5.4 "},
		{"W11 owner changed", []string{from, "RCPT TO:<sold@d.example> " + since}, "550 5.7.17 "},
		{"W11 the same owner", []string{from, to + " " + since}, "250 2.1.5 Recipient OK\r\n"},
	})
}
