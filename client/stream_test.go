package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/client/clienttest"
)

// outcomes is what SendAll reports, as text.
type outcomes []string

func (o *outcomes) each(m *Message, res *Result, err error) bool {
	*o = append(*o, codes(res))
	return true
}

func (o outcomes) String() string { return strings.Join(o, ", ") }

// numbered yields n messages; the body of each is its number.
func numbered(n int) iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		for i := range n {
			if !yield(message(fmt.Sprintf("%d\r\n", i), fmt.Sprintf("c%d@d.example", i))) {
				return
			}
		}
	}
}

// TestSendAllData checks that the content of a message and the envelope of the next one leave in one write, and that what
// happens to one message does not happen to another.
func TestSendAllData(t *testing.T) {
	srv := clienttest.New(t, hello("PIPELINING")+`
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c0@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 go on
C: 0
C: .
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c1@d.example>
C: DATA
S: 250 queued 0
S: 250 ok
S: 550 no
S: 503 no
C: RSET
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c2@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 250 ok
S: 354 go on
C: 2
C: .
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c3@d.example>
C: DATA
S: 554 no
S: 250 ok
S: 250 ok
S: 354 go on
C: 3
C: .
S: 250 queued 3
C: NOOP
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
	var got outcomes
	if err := c.SendAll(context.Background(), numbered(4), got.each); err != nil {
		t.Error(err)
	}
	if want := "0, 550, 554, 0"; got.String() != want {
		t.Errorf("the messages got %s, want %s", got, want)
	}
	if want := "0\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c1@d.example>\r\nDATA\r\n"; conn.writes[2] != want {
		t.Errorf("the third write is %q, want %q", conn.writes[2], want)
	}
	if err := c.Noop(context.Background()); err != nil {
		t.Error(err)
	}
	c.Close()
}

// TestSendAllChunks checks that messages in chunks follow each other without a round trip: the server answers nothing before
// it has seen three of them.
func TestSendAllChunks(t *testing.T) {
	three := ""
	for i := range 3 {
		if i > 0 {
			three += "C: RSET\n"
		}
		three += fmt.Sprintf("C: MAIL FROM:<a@b.example>\nC: RCPT TO:<c%d@d.example>\nC: BDAT 3 LAST\nC: %d\n", i, i)
	}
	c := dial(t, nil, hello("PIPELINING", "CHUNKING")+three+`
S: 250 ok
S: 250 ok
S: 250 queued 0
S: 250 ok
S: 250 ok
S: 550 no
S: 503 no
S: 250 ok
S: 250 ok
S: 250 ok
S: 250 queued 2
C: NOOP
S: 250 ok`)
	var got outcomes
	if err := c.SendAll(context.Background(), numbered(3), got.each); err != nil {
		t.Error(err)
	}
	if want := "0, 550, 0"; got.String() != want {
		t.Errorf("the messages got %s, want %s", got, want)
	}
	if err := c.Noop(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestSendAllLocal checks that a message that cannot be sent is reported in its turn and stops no other.
func TestSendAllLocal(t *testing.T) {
	for _, keywords := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}, {"CHUNKING"}} {
		c, srv := pipe(t, keywords...)
		msgs := []*Message{
			message("one\r\n", "c@d.example"),
			message("\xff", "c@d.example"),
			{Body: iotest.ErrReader(errors.New("gone")), To: message("", "c@d.example").To},
			{},
			message("two\r\n", "c@d.example", "e@d.example"),
		}
		var got outcomes
		err := c.SendAll(context.Background(), slices.Values(msgs), got.each)
		if want := "0, -1, -1, , 0 0"; err != nil || got.String() != want {
			t.Errorf("%v: the messages got %q, want %q; %v", keywords, got, want, err)
		}
		c.Close()
		srv.wait()
		if got := srv.content.String(); got != "one\r\ntwo\r\n" {
			t.Errorf("%v: the server got %q", keywords, got)
		}
	}
}

// TestSendAllStops checks that no message is begun after each has returned false.
func TestSendAllStops(t *testing.T) {
	for _, keywords := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		c, _ := pipe(t, keywords...)
		reported := 0
		taken := 0
		msgs := func(yield func(*Message) bool) {
			for m := range numbered(10000) {
				taken++
				if !yield(m) {
					return
				}
			}
		}
		err := c.SendAll(context.Background(), msgs, func(_ *Message, _ *Result, err error) bool {
			if err != nil {
				t.Error(err)
			}
			reported++
			return false
		})
		if err != nil || reported != taken || taken > maxMessagesAhead+1 {
			t.Errorf("%v: %d taken, %d reported, %v", keywords, taken, reported, err)
		}
		if err := c.Noop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// TestSendAllLost checks what is said of messages on their way when the connection is lost.
func TestSendAllLost(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "CHUNKING")+`
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c0@d.example>
C: BDAT 3 LAST
C: 0
S: 250 ok
S: 250 ok
S: 250 queued
C: *
CLOSE`)
	var got []string
	err := c.SendAll(context.Background(), numbered(5), func(_ *Message, res *Result, err error) bool {
		if res.Sent() > 0 {
			got = append(got, "sent")
		} else if SafeToRetry(err) || !Temporary(err) {
			got = append(got, fmt.Sprintf("%v", err))
		}
		return true
	})
	if _, ok := asType[*LostError](err); !ok {
		t.Errorf("%v, want a LostError", err)
	}
	if len(got) == 0 || got[0] != "sent" {
		t.Errorf("reported %q", got)
	}
}
