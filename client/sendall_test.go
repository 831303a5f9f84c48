package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestSendAllRandom sends streams to a server that refuses at random, and holds what it says of each message against
// what the client reports. The server keeps its own state, by the rules of RFC 5321 and RFC 3030, and cuts what it says
// at random.
func TestSendAllRandom(t *testing.T) {
	for seed := range uint64(15) {
		for _, keywords := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}, {"CHUNKING"}} {
			rnd := rand.New(rand.NewPCG(seed, 1))
			here, there := net.Pipe()
			s := &moody{rnd: rnd, conn: here, in: &lineReader{r: here}, took: map[string][]string{}}
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer here.Close()
				s.serve(keywords)
			}()
			c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]string{}
			n := 0
			msgs := func(yield func(*Message) bool) {
				for i := range 30 {
					size := []int{0, 10, 3000, blockSize, 3 * blockSize}[i*7%5]
					body := fmt.Sprintf("%d\r\n", i) + strings.Repeat("x", size) + "\r\n"
					m := message(body, fmt.Sprintf("a%d@d.example", i), fmt.Sprintf("b%d@d.example", i))
					if !yield(m) {
						return
					}
				}
			}
			err = c.SendAll(context.Background(), msgs, func(m *Message, res *Result, err error) bool {
				for _, r := range res.Recipients {
					if r.Err == nil {
						want[fmt.Sprint(n)] = append(want[fmt.Sprint(n)], r.Address.String())
					}
				}
				n++
				return true
			})
			if err != nil || n != 30 {
				t.Fatalf("seed %d, %v: %d reported, %v", seed, keywords, n, err)
			}
			c.Close()
			<-done
			if got, want := fmt.Sprint(s.took), fmt.Sprint(want); got != want {
				t.Fatalf("seed %d, %v: the server took\n%s\nand the client says\n%s", seed, keywords, got, want)
			}
		}
	}
}

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

// TestSendAllData checks that the content of a message and the envelope of the next one leave in one write, and that
// what happens to one message does not happen to another.
func TestSendAllData(t *testing.T) {
	srv := clienttest.New(t, hello("PIPELINING")+firstData+`
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
S: 250 ok
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c2@d.example>
C: DATA
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
	opt := inPlaintext(srv)
	opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := srv.Dial(ctx, network, addr)
		conn = &countingConn{Conn: c}
		return conn, err
	}
	c, err := Dial(context.Background(), host, opt)
	if err != nil {
		t.Fatal(err)
	}
	sendFirst(t, c)
	conn.writes = nil
	var got outcomes
	if err := c.SendAll(context.Background(), numbered(4), got.each); err != nil {
		t.Error(err)
	}
	if want := "0, 550, 554, 0"; got.String() != want {
		t.Errorf("the messages got %s, want %s", got, want)
	}
	if want := "0\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c1@d.example>\r\nDATA\r\n"; conn.writes[1] != want {
		t.Errorf("the second write is %q, want %q", conn.writes[1], want)
	}
	if err := c.Noop(context.Background()); err != nil {
		t.Error(err)
	}
	c.Close()
}

// TestSendAllChunks checks that messages in chunks follow each other without a round trip: the server answers nothing
// before it has seen three of them.
func TestSendAllChunks(t *testing.T) {
	three := ""
	for i := range 3 {
		if i > 0 {
			three += "C: RSET\n"
		}
		three += fmt.Sprintf("C: MAIL FROM:<a@b.example>\nC: RCPT TO:<c%d@d.example>\nC: BDAT 3 LAST\nC: %d\n", i, i)
	}
	c := dial(t, nil, hello("PIPELINING", "CHUNKING")+firstChunk+three+`
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
	sendFirst(t, c)
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

// TestSurplusReply: a server that answers content twice is out of step. A message that it refuses is not taken for
// sent.
func TestSurplusReply(t *testing.T) {
	for _, tt := range []struct {
		name, replies string
		keywords      []string
		want          string
		unknown       bool
	}{
		{"a chunk, and then the message", "250 chunk\r\n250 ok\r\n", []string{"PIPELINING", "CHUNKING"}, "0", false},
		{"a chunk, and a refusal", "250 chunk\r\n550 no\r\n", []string{"PIPELINING", "CHUNKING"}, "-1", true},
		{"the dot twice", "250 ok\r\n250 ok\r\n", []string{"PIPELINING"}, "0", false},
		{"the dot, and a farewell", "250 ok\r\n421 bye\r\n", nil, "0", false},
		{"the dot, and a refusal", "250 ok\r\n554 no\r\n", nil, "-1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			msgs := []*Message{message("hello\r\n", "c@d.example"), message("hello\r\n", "c@d.example")}
			var got outcomes
			unknown := false
			c := twofold(t, tt.keywords, tt.replies)
			err := c.SendAll(context.Background(), slices.Values(msgs), func(m *Message, res *Result, err error) bool {
				e, ok := asType[*SendError](err)
				unknown = unknown || ok && e.Unknown
				return got.each(m, res, err)
			})
			if got.String() != tt.want || unknown != tt.unknown || err == nil {
				t.Errorf("SendAll: the messages got %s, want %s; %v", got, tt.want, err)
			}
			c = twofold(t, tt.keywords, tt.replies)
			res, err := c.Send(context.Background(), msgs[0])
			if codes(res) != tt.want || (err != nil) != tt.unknown || SafeToRetry(err) {
				t.Errorf("Send: %s, %v", codes(res), err)
			}
			if res, err = c.Send(context.Background(), msgs[1]); !SafeToRetry(err) || codes(res) == "0" {
				t.Errorf("the second message got %s, %v", codes(res), err)
			}
		})
	}
}

// twofold returns a client of a server that answers content by replies, in one write.
func twofold(t *testing.T, keywords []string, replies string) *Client {
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer there.Close()
		in := bufio.NewReader(there)
		say := func(text string) { _, _ = io.WriteString(there, text) }
		say("220 mail.example\r\n")
		for {
			line, err := in.ReadString('\n')
			switch verb, _, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), " "); {
			case err != nil:
				return
			case verb == "EHLO":
				say("250-mail.example\r\n250-" + strings.Join(append(keywords, "HELP"), "\r\n250-") + "\r\n250 SIZE\r\n")
			case verb == "DATA":
				say("354 go on\r\n")
			case verb == ".":
				say(replies)
			case verb == "BDAT":
				_, _ = in.ReadString('\n')
				say(replies)
			case verb != "hello":
				say("250 ok\r\n")
			}
		}
	}()
	c, err := NewClient(context.Background(), here, "mail.example", &Options{TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		here.Close()
		<-done
	})
	return c
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

// TestSendAllUnsendable has messages that cannot be sent behind one whose outcome is awaited: only so many of them pile
// up.
func TestSendAllUnsendable(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+groupUpToData+"C: hello\nC: .\nS: 250 ok\nC: QUIT\nS: 221 bye")
	taken, most := 0, 0
	reported := 0
	var msgs iter.Seq[*Message] = func(yield func(*Message) bool) {
		for taken = range 1000 {
			most = max(most, taken-reported)
			m := message("hello\r\n", "c@d.example")
			if taken > 0 {
				m.To = nil
			}
			if !yield(m) {
				return
			}
		}
	}
	err := c.SendAll(context.Background(), msgs, func(_ *Message, _ *Result, err error) bool {
		if _, bad := asType[*MessageError](err); bad != (reported > 0) {
			t.Errorf("message %d: %v", reported, err)
		}
		reported++
		return true
	})
	if err != nil || reported != 1000 || most > 2*maxMessagesAhead {
		t.Errorf("%d messages reported, up to %d on their way: %v", reported, most, err)
	}
}

// TestSendAllLMTP has a server that refuses content with one reply where two are due. What follows has to be spared the
// confusion (RFC 2033 section 4.2).
func TestSendAllLMTP(t *testing.T) {
	synctest.Test(t, testSendAllLMTP)
}

func testSendAllLMTP(t *testing.T) {
	opt := func(o *Options) {
		o.Protocol = proto.LMTP
		o.Timeouts.Content = time.Minute
	}
	script := "S: 220 mail.example\nC: LHLO client.example\nS: 250-mail.example\nS: 250 PIPELINING\n" +
		"C: MAIL*\nC: RCPT*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go on\nC: hello\nC: .\nS: 554 no\n" +
		"HANGUP"
	c := dial(t, opt, script)
	msgs := func(yield func(*Message) bool) {
		for range 3 {
			if !yield(message("hello\r\n", "a@d.example", "b@d.example")) {
				return
			}
		}
	}
	n := 0
	err := c.SendAll(context.Background(), msgs, func(_ *Message, res *Result, err error) bool {
		n++
		if res.Sent() != 0 || n == 1 && res.Recipients[0].Reply.Code != 554 || !Temporary(res.Recipients[1].Err) {
			t.Errorf("message %d: %+v, %v", n, res, err)
		}
		return true
	})
	if err == nil || n != 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d messages reported: %v, want the first to be the last", n, err)
	}
}

// TestSendAllAcceptedEarly has a server that accepts a message before it has read all of it, and hangs up. What it has
// made of the message is not known, and a stream does not report it as sent.
func TestSendAllAcceptedEarly(t *testing.T) {
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := &lineReader{r: here}
		io.WriteString(here, "220 mail.example\r\n")
		in.line()
		io.WriteString(here, "250-mail.example\r\n250-CHUNKING\r\n250 PIPELINING\r\n")
		in.line() // MAIL, with which the rest has come but for what does not fit into the buffer of the reader
		io.WriteString(here, "250 ok\r\n250 ok\r\n250 queued\r\n")
		here.Close()
	}()
	c, err := NewClient(t.Context(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	m := message(strings.Repeat("x", 50_000), "c@d.example")
	var reports int
	_ = c.SendAll(t.Context(), slices.Values([]*Message{m}), func(_ *Message, _ *Result, err error) bool {
		reports++
		if SafeToRetry(err) || err == nil {
			t.Errorf("%v: want an error that says that the outcome is in doubt", err)
		}
		return true
	})
	<-done
	if reports != 1 {
		t.Errorf("%d reports", reports)
	}
}
