package fake

import (
	"errors"
	"fmt"
	"testing"

	"smtpkit.example/smtp/proto"
)

func TestCaps(t *testing.T) {
	c := Caps("SIZE 10240", "HELP")
	if args, ok := c.Args("SIZE"); args != "10240" || !ok {
		t.Errorf("SIZE %q, %v", args, ok)
	}
	if _, ok := c.Args("mail.example"); ok {
		t.Error("the first line is taken for a keyword")
	}
	if _, ok := c.Args("HELP"); !ok {
		t.Error("HELP is not advertised")
	}
}

func TestReply(t *testing.T) {
	refusal := proto.Refuse(550, proto.Status{5, 1, 1}, "No such\nmailbox")
	for _, tt := range []struct {
		r    proto.Reply
		err  error
		want string
	}{
		{proto.Reply{}, nil, ""},
		{proto.Reply{Code: 235, Status: proto.Status{2, 7, 0}, Text: "Yes"}, nil, "235 2.7.0 Yes"},
		{proto.Reply{Code: 250, Text: "\u00e4"}, nil, "250 2.0.0 ?"},
		{proto.Reply{Code: 250}, refusal, "550-5.1.1 No such\r\n550 5.1.1 mailbox"},
		{proto.Reply{}, fmt.Errorf("wrapped: %w", refusal), "550-5.1.1 No such\r\n550 5.1.1 mailbox"},
		{proto.Reply{}, errors.New("broken"), "not a reply: broken"},
	} {
		if got := Reply(tt.r, tt.err); got != tt.want {
			t.Errorf("%v, %v: %q, want %q", tt.r, tt.err, got, tt.want)
		}
		if got := Refusal(tt.err); tt.err != nil && got != tt.want || tt.err == nil && got != "" {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
