package main

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/exttest"
)

// TestXTrace tests the rules for every extension. The sample has what is particular to this one.
func TestXTrace(t *testing.T) {
	longest := "XTRACE=" + strings.Repeat("f", maxID)
	exttest.Test(t, XTrace(), exttest.Sample{
		Session: func() any { return &session{places: map[string]string{"1": "here"}} },
		Mail:    []string{"XTRACE=1", longest},
		BadMail: []string{"XTRACE=xyz", longest + "f"},
		Dialogues: []string{`
C: XWHERE 1
S: 250 2.0.0 here
C: XWHERE x
S: 501 5.5.4 *
C: XWHERE 2
S: 550 5.0.0 No such message
`},
	})
}

// TestBothEnds tests a server and a client that use the extension.
func TestBothEnds(t *testing.T) {
	place, err := run(t.Context())
	if err != nil || place != "in the mailbox of b@example.org" {
		t.Errorf("the message is %q, %v", place, err)
	}
}
