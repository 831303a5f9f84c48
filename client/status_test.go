package client

import (
	"context"
	"testing"

	"smtpkit.example/smtp/proto"
)

// TestQ06_StatusCodes checks that status codes are looked for where the server offers them, and only there.
func TestQ06_StatusCodes(t *testing.T) {
	const refused = "C: MAIL FROM:<a@b.example>\nS: 250 2.1.0 ok\nC: RCPT TO:<c@d.example>\nS: 550-5.1.1 no\nS: 550 5.1.1 such user\n" +
		"C: RSET\nS: 250 ok\nC: MAIL FROM:<a@b.example>\nS: 250 2.1.0 ok\nC: RCPT TO:<c@d.example>\nS: 550 10.0.0.1 is bad\nC: RSET\nS: 250 ok\n"
	for _, tt := range []struct {
		offer []string
		first proto.Reply
	}{
		{[]string{"ENHANCEDSTATUSCODES"}, proto.Reply{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no\nsuch user"}},
		{nil, proto.Reply{Code: 550, Text: "5.1.1 no\n5.1.1 such user"}},
	} {
		c := dial(t, nil, hello(tt.offer...)+refused)
		for _, want := range []proto.Reply{tt.first, {Code: 550, Text: "10.0.0.1 is bad"}} {
			_, err := c.Send(context.Background(), message("x", "c@d.example"))
			e, ok := asReply(err)
			if !ok || e.Code != want.Code || e.Status != want.Status || e.Text != want.Text {
				t.Errorf("offered %v: %#v, want %v", tt.offer, e, want)
			}
		}
	}
}
