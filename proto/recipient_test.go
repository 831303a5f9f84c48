package proto

import (
	"errors"
	"fmt"
	"testing"
)

// TestOutcomeString checks how outcomes are printed in logs, with what a hostile server can put into them.
func TestOutcomeString(t *testing.T) {
	addr, err := ParseAddress("joe@example.net")
	if err != nil {
		t.Fatal(err)
	}
	to := Recipient{Address: addr, Params: Params{{Key: "NOTIFY", Value: "NEVER", HasValue: true}}}
	ok := Reply{Code: 250, Status: Status{2, 0, 0}, Text: "Queued\nas \x1b[2J\xff"}
	no := &Error{Code: 550, Status: Status{5, 1, 1}, Text: "No\r\nsuch user", Verb: "RCPT"}
	for _, tt := range []struct {
		what any
		want string
	}{
		{to, "joe@example.net"},
		{Recipient{}, ""},
		{ok, `250 2.0.0 Queued / as \x1b[2J\xff`},
		{Reply{Code: 354}, "354"},
		{Outcome{Recipient: to, Reply: ok}, `joe@example.net: 250 2.0.0 Queued / as \x1b[2J\xff`},
		{Outcome{Recipient: to}, "joe@example.net: accepted"},
		{Outcome{Recipient: to, Rcpt: no.Reply(), Reply: no.Reply(), Err: no},
			`joe@example.net: smtp: RCPT: 550 5.1.1 No\r / such user`},
		{Outcome{Recipient: to, Err: errors.New("lost")}, "joe@example.net: lost"},
		{[]Outcome{{Recipient: to, Reply: Reply{Code: 250}}}, "[joe@example.net: 250]"},
	} {
		if got := fmt.Sprint(tt.what); got != tt.want {
			t.Errorf("%#v is printed as %q, want %q", tt.what, got, tt.want)
		}
	}
}
