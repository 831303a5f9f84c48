package report

import (
	"testing"

	"smtpkit.example/smtp/proto"
)

// R14: a reply is written as it came, its lines one behind the other (RFC 3461 section 9.2), and can be read again.
func TestR14_Diagnostic(t *testing.T) {
	for _, tt := range []struct {
		reply proto.Reply
		text  string
	}{
		{proto.Reply{Code: 550, Text: "mailbox unavailable\nuser has moved with no forwarding address"},
			"550-mailbox unavailable 550 user has moved with no forwarding address"},
		{proto.Reply{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no\nsuch\nuser"},
			"550-5.1.1 no 550-5.1.1 such 550 5.1.1 user"},
		{proto.Reply{Code: 426, Text: "connection timed out"}, "426 connection timed out"},
		{proto.Reply{Code: 250}, "250"},
		{proto.Reply{Code: 550, Text: "error 550 in 1550 550x"}, "550 error 550 in 1550 550x"},
		{proto.Reply{Code: 550, Text: "2.1.1 is the version"}, "550 2.1.1 is the version"},
		{proto.Reply{Code: 550, Text: "in 1550 or\nx5501"}, "550-in 1550 or 550 x5501"},
	} {
		d := SMTP(tt.reply)
		if d != (Diagnostic{"smtp", tt.text}) {
			t.Errorf("%+v: %+v", tt.reply, d)
		}
		if back, ok := d.Reply(); !ok || back != tt.reply {
			t.Errorf("%q is read as %+v, %v", d.Text, back, ok)
		}
	}
	for _, d := range []Diagnostic{{}, {"smtp", "55"}, {"smtp", "5501 x"}, {"smtp", "abc x"}, {"smtp", "150 x"}, {"x-unix", "550 x"}} {
		if r, ok := d.Reply(); ok {
			t.Errorf("%+v is read as %+v", d, r)
		}
	}
}
