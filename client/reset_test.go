package client

import (
	"context"
	"slices"
	"testing"
)

// TestResetRefused: a server that does not know RSET gets EHLO in its place (RFC 5321 section 4.1.4), and the rest of
// the messages.
func TestResetRefused(t *testing.T) {
	const (
		refused = "C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 550 no\nS: 503 no\n"
		ehlo    = "C: EHLO client.example\nS: 250-mail.example\nS: 250 PIPELINING\n"
		script  = refused + "C: RSET\nS: 502 what\n" + ehlo + refused + ehlo + firstData + refused + ehlo + "C: QUIT\nS: 221 bye\n"
		want    = "550, 550, 0, 550"
	)
	var msgs []*Message
	for range 4 {
		msgs = append(msgs, message("hello\r\n", "c@d.example"))
	}
	c := dial(t, nil, hello("PIPELINING")+script)
	var got outcomes
	for _, m := range msgs {
		res, err := c.Send(context.Background(), m)
		got.each(m, res, err)
	}
	if got.String() != want || c.Err() != nil {
		t.Errorf("Send: %s, want %s; %v", got, want, c.Err())
	}
	c.Close()

	c, got = dial(t, nil, hello("PIPELINING")+script), nil
	if err := c.SendAll(context.Background(), slices.Values(msgs), got.each); err != nil || got.String() != want {
		t.Errorf("SendAll: %s, want %s; %v", got, want, err)
	}
	c.Close()
}

// TestResetRefusedBehind: what has been sent behind a RSET that is refused is in doubt: the server may have taken it
// for a part of the transaction before.
func TestResetRefusedBehind(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "CHUNKING")+firstChunk+`
C: MAIL*
C: RCPT*
C: BDAT 3 LAST
C: 0
C: RSET
C: MAIL*
C: RCPT*
C: BDAT 3 LAST
C: 1
S: 250 ok
S: 250 ok
S: 250 ok
S: 502 what`)
	sendFirst(t, c)
	var got outcomes
	unknown := 0
	err := c.SendAll(context.Background(), numbered(2), func(m *Message, res *Result, err error) bool {
		if e, ok := asType[*SendError](err); ok && e.Unknown && !SafeToRetry(err) {
			unknown++
		}
		return got.each(m, res, err)
	})
	if got.String() != "0, -1" || unknown != 1 || err == nil {
		t.Errorf("%s, %d in doubt; %v", got, unknown, err)
	}
}
