package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/proto"
)

// TestSendOutcomes plays transactions that end in all sorts of ways. After each of them the connection must be in step, as
// the message "again" shows, or closed.
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
		{"RSET refused", 1, `
S: 250 ok
S: 550 no
S: 503 no recipients
C: RSET
S: 500 what
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

// TestL12_LockStep checks that nothing is sent ahead to a server that does not take groups of commands, and that a refusal ends
// the transaction at once.
func TestL12_LockStep(t *testing.T) {
	c := dial(t, nil, hello()+`
C: MAIL FROM:<a@b.example>
S: 550 no
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<x@d.example>
S: 550 no
C: RCPT TO:<y@d.example>
S: 450 later
C: RSET
S: 250 ok
C: MAIL FROM:<>
S: 250 ok
C: RCPT TO:<x@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: hello
C: .
S: 250 queued as 123
C: QUIT
S: 221 bye`)
	ctx := context.Background()
	res, err := c.Send(ctx, message("hello", "x@d.example", "y@d.example"))
	if codes(res) != "550 550" || Temporary(err) {
		t.Errorf("MAIL refused: %s, %v", codes(res), err)
	}
	res, err = c.Send(ctx, message("hello", "x@d.example", "y@d.example"))
	if codes(res) != "550 450" || !Temporary(err) {
		t.Errorf("all recipients refused: %s, %v", codes(res), err)
	}
	m := message("hello", "x@d.example")
	m.From = proto.Address{}
	res, err = c.Send(ctx, m)
	if err != nil || res.Reply.Text != "queued as 123" || res.Recipients[0].Reply.Code != 250 {
		t.Errorf("the reply is %+v, %v", res, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestE20_MoreRecipientsThanRoom checks that the recipients for whom a transaction had no room get one of their own.
func TestE20_MoreRecipientsThanRoom(t *testing.T) {
	first := `C: MAIL FROM:<a@b.example>
C: RCPT TO:<c0@d.example>
C: RCPT TO:<c1@d.example>
C: RCPT TO:<c2@d.example>
C: RCPT TO:<c3@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 550 no
S: 452 too many
S: 552 too many
S: 354 go on
C: hello
C: .
S: 250 first
`
	second := `C: MAIL FROM:<a@b.example>
C: RCPT TO:<c2@d.example>
C: RCPT TO:<c3@d.example>
C: DATA
S: 250 ok
`
	to := []string{"c0@d.example", "c1@d.example", "c2@d.example", "c3@d.example"}
	for _, tt := range []struct{ name, rest, want string }{
		{"served", "S: 250 ok\nS: 250 ok\nS: 354 go on\nC: hello\nC: .\nS: 250 second", "0 550 0 0"},
		{"one by one", "S: 250 ok\nS: 452 no\nS: 354 go on\nC: hello\nC: .\nS: 250 second\n" +
			"C: MAIL FROM:<a@b.example>\nC: RCPT TO:<c3@d.example>\nC: DATA\n" +
			"S: 250 ok\nS: 250 ok\nS: 354 go on\nC: hello\nC: .\nS: 250 third", "0 550 0 0"},
		{"no room either", "S: 452 no\nS: 452 no\nS: 503 no recipients\nC: RSET\nS: 250 ok", "0 550 452 452"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, nil, hello("PIPELINING")+first+second+tt.rest)
			res, err := c.Send(context.Background(), message("hello", to...))
			if codes(res) != tt.want || err == nil {
				t.Errorf("the recipients got %s, want %s; %v", codes(res), tt.want, err)
			}
		})
	}
	t.Run("a body that cannot be read again", func(t *testing.T) {
		c := dial(t, nil, hello("PIPELINING")+first)
		m := message("", to...)
		m.Body = io.MultiReader(strings.NewReader("hello"))
		res, err := c.Send(context.Background(), m)
		if codes(res) != "0 550 452 452" || !Temporary(err) || SafeToRetry(err) {
			t.Errorf("the recipients got %s, %v", codes(res), err)
		}
	})
}

// TestF19_Content checks the octets that are sent for content, by DATA and in chunks.
func TestF19_Content(t *testing.T) {
	long := strings.Repeat(".2345678\n", 50000)
	for _, tt := range []struct{ name, body, text string }{
		{"N17 F20 empty", "", ""},
		{"M08 N17 F20 no end of line", "x", "x"},
		{"F20 end of line", "x\r\n", "x\r\n"},
		{"M08 N17 F19 bare LF", "a\nb\n", "a\r\nb\r\n"},
		{"F19 bare CR", "a\rb\r", "a\r\nb\r\n"},
		{"F21 CR LF across blocks", strings.Repeat("x", blockSize-1) + "\r\ny", strings.Repeat("x", blockSize-1) + "\r\ny"},
		{"M08 N17 F18 dots", ".\r\n..\r\n.x\r\n", ".\r\n..\r\n.x\r\n"},
		{"F18 dots across blocks", strings.Repeat("x", blockSize-2) + "\r\n.\r\n.", strings.Repeat("x", blockSize-2) + "\r\n.\r\n."},
		{"E1 smuggling", "a\n.\nMAIL\r.\rb\n.\r\nc\r\n.\n", "a\r\n.\r\nMAIL\r\n.\r\nb\r\n.\r\nc\r\n.\r\n"},
		{"of one block", strings.Repeat("x", blockSize), strings.Repeat("x", blockSize)},
		{"of a block and an octet", strings.Repeat("x", blockSize+1), strings.Repeat("x", blockSize+1)},
		{"long", long, strings.ReplaceAll(long, "\n", "\r\n")},
	} {
		dotted := tt.text
		if dotted != "" && !strings.HasSuffix(dotted, "\r\n") {
			dotted += "\r\n"
		}
		for _, r := range []struct {
			name string
			body func() io.Reader
			size string
		}{
			{"seeker", func() io.Reader { return strings.NewReader(tt.body) }, fmt.Sprintf(" SIZE=%d", len(dotted))},
			{"stream", func() io.Reader { return oddPieces{strings.NewReader(tt.body)} }, ""},
		} {
			t.Run(tt.name+"/"+r.name, func(t *testing.T) {
				if r.size == "" && len(tt.body) <= blockSize {
					r.size = fmt.Sprintf(" SIZE=%d", len(dotted)) // read to its end before the envelope leaves
				}
				got, mail := collect(t, r.body(), "SIZE", "PIPELINING")
				if want := strings.ReplaceAll("\r\n"+dotted, "\r\n.", "\r\n..")[2:]; got != want {
					t.Errorf("sent %q, want %q", abbreviate(got), abbreviate(want))
				}
				if mail != "MAIL FROM:<a@b.example>"+r.size {
					t.Errorf("sent %q, want the size %q", mail, r.size)
				}
				if got, _ := collect(t, r.body(), "CHUNKING", "PIPELINING"); got != tt.text {
					t.Errorf("sent %q in chunks, want %q", abbreviate(got), abbreviate(tt.text))
				}
				if got, _ := collect(t, r.body(), "CHUNKING"); got != tt.text {
					t.Errorf("sent %q in chunks without groups, want %q", abbreviate(got), abbreviate(tt.text))
				}
			})
		}
	}
}

// TestWrites checks what leaves in one write: the envelope with DATA, and a message of 1000 lines with its end.
func TestWrites(t *testing.T) {
	srv := clienttest.New(t, hello("PIPELINING")+`
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: RCPT TO:<e@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 250 ok
S: 354 go on
C+ "line\r\n" * 1000
C: .
S: 250 ok`)
	var conn *countingConn
	opt := inClear(srv)
	opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := srv.Dial(ctx, network, addr)
		conn = &countingConn{Conn: c}
		return conn, err
	}
	c, err := Dial(context.Background(), host, opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(context.Background(), message(strings.Repeat("line\n", 1000), "c@d.example", "e@d.example")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(conn.writes) != 4 { // EHLO, the envelope, the content, QUIT
		t.Errorf("%d writes, want 4: %.60q", len(conn.writes), conn.writes)
	}
	if want := "DATA\r\n"; !strings.HasSuffix(conn.writes[1], want) || !strings.HasPrefix(conn.writes[1], "MAIL") {
		t.Errorf("the envelope is %q", conn.writes[1])
	}
}

// TestL16_ManyRecipients sends 5000 RCPT to a server that does not read on before each reply was taken, over a pipe that holds
// nothing (RFC 2920 section 3.1).
func TestL16_ManyRecipients(t *testing.T) {
	c, srv := pipe(t, "PIPELINING")
	var to []string
	for i := range 5000 {
		to = append(to, fmt.Sprintf("recipient%d@d.example", i))
	}
	m := message("hello", to...)
	m.Body = io.MultiReader(m.Body) // which cannot be read again for another transaction
	res, err := c.Send(context.Background(), m)
	if err != nil || res.Sent() != 5000 {
		t.Errorf("%d served, %v", res.Sent(), err)
	}
	if got := srv.content.String(); got != "hello\r\n" {
		t.Errorf("sent %q", got)
	}
}
