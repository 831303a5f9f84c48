package client

import (
	"context"
	"errors"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

// TestLMTP plays deliveries by LMTP, where each recipient accepted has a reply to the content of its own (RFC 2033).
func TestLMTP(t *testing.T) {
	greet := strings.Replace(hello("PIPELINING"), "EHLO", "LHLO", 1)
	chunks := strings.Replace(hello("PIPELINING", "CHUNKING"), "EHLO", "LHLO", 1)
	const group = `
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: RCPT TO:<e@d.example>
C: RCPT TO:<c@d.example>
C: RCPT TO:<f@d.example>
`
	const rcpts = "S: 250 ok\nS: 250 ok\nS: 550 no\nS: 250 ok\nS: 250 ok\n"
	const data = group + "C: DATA\n" + rcpts + "S: 354 go on\nC: hello\nC: .\n"
	for _, tt := range []struct {
		name, script, want string
		unknown            bool
	}{
		{"T08 a reply for each", greet + data + "S: 250 one\nS: 452 two\nS: 250 three\n", "0 550 452 0", false},
		{"T04 in chunks", chunks + group + "C: BDAT 7 LAST\nC: hello\n" + rcpts +
			"S: 250 one\nS: 554 two\nS: 250 three\nC: RSET\nS: 250 ok\n", "0 550 554 0", false},
		{"T09 lost after one", greet + data + "S: 250 one\nCLOSE", "0 550 -1 -1", true},
		{"T09 lost after two", greet + data + "S: 550 one\nS: 250 two\nCLOSE", "550 550 0 -1", true},
		{"421 after one", greet + data + "S: 250 one\nS: 421 bye\nHANGUP", "0 550 421 421", false},
		{"none accepted", greet + group + "C: DATA\nS: 250 ok\nS: 550 a\nS: 550 b\nS: 450 c\nS: 550 d\nS: 503 no\nC: RSET\nS: 250 ok\n",
			"550 550 450 550", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, func(o *Options) { o.Protocol = proto.LMTP }, strings.Replace(tt.script, "C: RSET\nS: 250 ok\n", "C: *\nS: 250 ok\n", 1))
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example", "e@d.example", "c@d.example", "f@d.example"))
			e, ok := errors.AsType[*SendError](err)
			if codes(res) != tt.want || !ok || e.Unknown != tt.unknown {
				t.Errorf("the recipients got %s, want %s; %v", codes(res), tt.want, err)
			}
		})
	}
}

// TestRcptReply: what the server says of a recipient is kept beside what it says of the content.
func TestRcptReply(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		script := hello("PIPELINING") + `C: MAIL FROM:<a@b.example>
C: RCPT TO:<1@d.example>
C: RCPT TO:<2@d.example>
C: DATA
S: 250 ok
S: 250-fine
S: 250 likes (a=b)
S: 550 no
S: 354 go on
C: x
C: .
S: 250 queued
C: MAIL FROM:<a@b.example>
C: RCPT TO:<1@d.example>
C: DATA
S: 451 not now
S: 250 stray
S: 503 no`
		opt := func(*Options) {}
		if lmtp {
			script = strings.Replace(script, "EHLO", "LHLO", 1)
			opt = func(o *Options) { o.Protocol = proto.LMTP }
		}
		c := dial(t, opt, script)
		res, err := c.Send(t.Context(), message("x\r\n", "1@d.example", "2@d.example"))
		if err == nil {
			t.Fatal("the second recipient was refused")
		}
		one, two := res.Recipients[0], res.Recipients[1]
		if one.Rcpt.Code != 250 || one.Rcpt.Text != "fine\nlikes (a=b)" || one.Reply.Text != "queued" {
			t.Errorf("the first: %+v", one)
		}
		if two.Rcpt.Code != 550 || two.Rcpt != two.Reply {
			t.Errorf("the second: %+v", two)
		}
		res, _ = c.Send(t.Context(), message("x\r\n", "1@d.example"))
		if one := res.Recipients[0]; one.Rcpt != (proto.Reply{}) || one.Reply.Code != 451 {
			t.Errorf("where the sender was refused: %+v", one)
		}
	}
}
