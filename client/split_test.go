package client

import (
	"context"
	"errors"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// asking has the client ask for an outcome for each recipient.
func asking(o *Options) {
	o.Extensions = append(ext.Default(), ext.Extension{
		Keyword: "XEACH",
		Mail:    []ext.Param{{Key: "XEACH", MaxLength: len(" XEACH"), Flag: true, PerRecipient: true}},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			e.Mail = e.Mail.SetFlag("XEACH")
			return nil
		},
	})
}

// TestSplit has a server tell the outcome for each recipient, and then for all.
func TestSplit(t *testing.T) {
	const begin = `
C: MAIL FROM:<a@b.example> XEACH
C: RCPT TO:<c@d.example>
C: RCPT TO:<e@f.example>
C: RCPT TO:<g@h.example>
C: DATA
S: 250 ok
S: 250 ok
S: 550 no such user
S: 250 ok
S: 354 go on
C: hello
C: .
`
	const quit = "C: NOOP\nS: 250 ok\nC: QUIT\nS: 221 bye\n"
	for _, tt := range []struct {
		name, replies string
		codes         string
		unknown, lost bool
		reply         string // Result.Reply
	}{
		{"all", "S: 353 each\nS: 250 one\nS: 250 two\nS: 250 queued\n" + quit, "0 550 0", false, false, "queued"},
		{"some", "S: 353 each\nS: 554 spam\nS: 250 two\nS: 250 queued\n" + quit, "554 550 0", false, false, "queued"},
		{"none", "S: 353 each\nS: 554 spam\nS: 450 full\nS: 450 none\n" + quit, "554 550 450", false, false, "none"},
		{"refused in the end", "S: 353 each\nS: 554 spam\nS: 250 fine\nS: 452 no room after all\n" + quit, "554 550 452", false, false, "no room after all"},
		{"a single reply", "S: 250 queued\n" + quit, "0 550 0", false, false, "queued"},
		{"a single refusal", "S: 552 too large\n" + quit, "552 550 552", false, false, "too large"},
		{"lost before the end", "S: 353 each\nS: 554 spam\nS: 250 fine\nCLOSE", "554 550 -1", true, true, ""},
		{"lost before the first", "S: 353 each\nCLOSE", "-1 550 -1", true, true, ""},
		{"421 before the end", "S: 353 each\nS: 250 fine\nS: 421 closing\nCLOSE", "421 550 421", false, true, "closing"},
		{"353 twice", "S: 353 each\nS: 353 each\nHANGUP", "-1 550 -1", true, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, asking, hello("PIPELINING", "XEACH")+begin+tt.replies)
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example", "e@f.example", "g@h.example"))
			e, ok := asType[*SendError](err)
			if !ok || e.Unknown != tt.unknown {
				t.Fatalf("%v, unknown is %t", err, ok && e.Unknown)
			}
			if got := codes(res); got != tt.codes {
				t.Errorf("the outcomes are %s, want %s", got, tt.codes)
			}
			if tt.reply != "" && res.Reply.Text != tt.reply {
				t.Errorf("the reply is %v, want %q", res.Reply, tt.reply)
			}
			if err := c.Noop(context.Background()); errors.Is(err, ErrClosed) != tt.lost || err != nil && !tt.lost {
				t.Errorf("the next call: %v, the connection is lost: %t", err, tt.lost)
			}
		})
	}
}

// TestSplitUnasked has a server promise outcomes to a client that has not asked for them.
func TestSplitUnasked(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "XEACH")+groupUpToData+"C: hello\nC: .\nS: 353 each\nHANGUP")
	_, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
	if _, ok := asType[*ProtocolError](err); !ok {
		t.Errorf("%v, want a ProtocolError", err)
	}
}
