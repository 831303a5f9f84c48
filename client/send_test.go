package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/proto/prototest"
)

// TestScripts plays the dialogue scripts for clients against a client.
func TestScripts(t *testing.T) {
	const dir = "../proto/testdata/scripts/client"
	scripts, err := prototest.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		t.Run(s.Title(), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, filepath.Base(s.Name)))
			if err != nil {
				t.Fatal(err)
			}
			srv := clienttest.New(t, string(text))
			m, err := NewMessage(s.Directives["from"], strings.Fields(s.Directives["to"]),
				strings.NewReader("Subject: hello\r\n\r\n.\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			err = Send(context.Background(), host, inPlaintext(srv), m)
			if got := verdict(err); got != s.Directives["result"] {
				t.Errorf("%s: Send returned %v, which is %q, want %q", s.Name, err, got, s.Directives["result"])
			}
		})
	}
}

// verdict is err in the words of the scripts.
func verdict(err error) string {
	_, protocol := asType[*ProtocolError](err)
	e, sent := asType[*SendError](err)
	switch {
	case err == nil:
		return "ok"
	case protocol:
		return "protocol"
	case sent && e.Result.Sent() > 0:
		return "some"
	case Temporary(err):
		return "temporary"
	}
	return "permanent"
}

// TestSendOutcomes plays transactions that end in all sorts of ways. After each of them the connection must be in step,
// as the message "again" shows, or closed.
func TestSendOutcomes(t *testing.T) {
	const again = `
C: MAIL FROM:<a@b.example>
C: RCPT TO:<again@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 go on
C: again
C: .
S: 250 2.0.0 done
`
	tests := []struct {
		name   string
		to     int
		script string
		closed bool
		want   string // the code for each recipient
		verb   string // what the first error is about
	}{
		{"E17 some recipients refused", 4, `
S: 250 ok
S: 250 ok
S: 550 no
S: 450 later
S: 299 fine
S: 354 go on
C: hello
C: .
S: 250 done` + again, false, "0 550 450 0", "RCPT"},
		{"L18 MAIL refused", 2, `
S: 553 no
S: 503 what
S: 503 what
S: 503 what` + again, false, "553 553", "MAIL"},
		{"L18 MAIL refused but DATA taken", 2, `
S: 553 no
S: 503 what
S: 503 what
S: 354 go on
HANGUP`, true, "553 553", "MAIL"},
		{"E18 all refused, DATA too", 2, `
S: 250 ok
S: 550 no
S: 551 elsewhere
S: 503 no recipients
C: RSET
S: 250 ok` + again, false, "550 551", "RCPT"},
		{"L15 all refused, DATA taken", 2, `
S: 250 ok
S: 550 no
S: 450 later
S: 354 go on
C: .
S: 554 no recipients` + again, false, "550 450", "RCPT"},
		{"L15 all refused, the empty message accepted", 1, `
S: 250 ok
S: 550 no
S: 354 go on
C: .
S: 250 ok` + again, false, "550", "RCPT"},
		{"DATA refused", 2, `
S: 250 ok
S: 250 ok
S: 550 no
S: 451 not now
C: RSET
S: 250 ok` + again, false, "451 550", "DATA"},
		{"F11 content refused", 2, `
S: 250 ok
S: 250 ok
S: 250 ok
S: 354 go on
C: hello
C: .
S: 554 no` + again, false, "554 554", "content"},
		{"E19 552 for one recipient too many", 2, `
S: 250 ok
S: 250 ok
S: 552 too many
S: 451 not now
C: RSET
S: 250 ok` + again, false, "451 452", "DATA"},
		{"E19 552 for the first recipient", 2, `
S: 250 ok
S: 552 full
S: 552 full
S: 554 no recipients
C: RSET
S: 250 ok` + again, false, "552 552", "RCPT"},
		{"G13 421 to RCPT", 2, `
S: 250 ok
S: 250 ok
S: 421 shutting down
HANGUP`, true, "421 421", "RCPT"},
		{"G13 421 to the content", 1, `
S: 250 ok
S: 250 ok
S: 354 go on
C: hello
C: .
S: 421 shutting down
HANGUP`, true, "421", "content"},
		{"E16 DATA answered with success", 1, `
S: 250 ok
S: 250 ok
S: 250 ok
HANGUP`, true, "-1", ""},
		{"G19 RCPT answered with 354", 1, `
S: 250 ok
S: 354 go on
HANGUP`, true, "-1", ""},
		{"RSET and EHLO refused", 1, `
S: 250 ok
S: 550 no
S: 503 no recipients
C: RSET
S: 500 what
C: EHLO client.example
S: 550 what
HANGUP`, true, "550", "RCPT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			group := "C: MAIL FROM:<a@b.example>\n"
			var to []string
			for i := range tt.to {
				to = append(to, fmt.Sprintf("c%d@d.example", i))
				group += "C: RCPT TO:<" + to[i] + ">\n"
			}
			c := dial(t, nil, hello("PIPELINING")+group+"C: DATA"+tt.script)
			res, err := c.Send(context.Background(), message("hello\r\n", to...))
			if got := codes(res); got != tt.want {
				t.Errorf("the recipients got %s, want %s (%v)", got, tt.want, err)
			}
			checkSendError(t, res, err, tt.verb)
			_, err = c.Send(context.Background(), message("again", "again@d.example"))
			if closed := errors.Is(err, ErrClosed); closed != tt.closed || !closed && err != nil {
				t.Errorf("the next message: %v, want the connection to be closed: %v", err, tt.closed)
			}
		})
	}
}

// checkSendError checks that err goes with res, and that its cause is about verb.
func checkSendError(t *testing.T, res *Result, err error, verb string) {
	t.Helper()
	e, ok := asType[*SendError](err)
	if !ok || e.Result != res {
		t.Fatalf("the error is %#v, want a SendError with the result", err)
	}
	if e.Unknown {
		t.Error("the outcome is said to be unknown")
	}
	if SafeToRetry(err) != (res.Sent() == 0) {
		t.Errorf("SafeToRetry is %v with %d recipients served", SafeToRetry(err), res.Sent())
	}
	if reply, ok := asReply(err); verb != "" && (!ok || reply.Verb != verb) {
		t.Errorf("the error is %v, want a reply to %s", err, verb)
	}
}

// TestOneResetAfterRefusedChunks: refused chunks lead to one RSET, and not to another before the next message.
func TestOneResetAfterRefusedChunks(t *testing.T) {
	m := "C: MAIL*\nS: 250 ok\nC: RCPT*\nS: 250 ok\nC: BDAT 7 LAST\nC: hello\n"
	c := dial(t, nil, hello("CHUNKING")+m+"S: 552 no\nC: RSET\nS: 250 ok\n"+m+"S: 250 ok\n"+bye)
	if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err == nil {
		t.Error("the message was refused, and there is no error")
	}
	if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
		t.Error(err)
	}
}
