package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestChunks plays transactions whose content travels in chunks (RFC 3030).
func TestChunks(t *testing.T) {
	const group = "C: MAIL FROM:<a@b.example>\nC: RCPT TO:<c@d.example>\nC: RCPT TO:<e@d.example>\n"
	const small = group + "C: BDAT 7 LAST\nC: hello\n"
	const first = group + "C: BDAT 65536\nC+ \"x\" * 65536\n"
	const chunk = "C: BDAT 65536\nC+ \"x\" * 65536\n"
	reset := "C: RSET\nS: 250 ok\n"
	large := strings.Repeat("x", 4*blockSize+1)
	for _, tt := range []struct{ name, body, script, want string }{
		{"one chunk", "hello\r\n", small + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 done\n", "0 0"},
		{"N19 one chunk refused", "hello\r\n", small + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 554 no\n" + reset, "554 554"},
		{"one recipient refused", "hello\r\n", small + "S: 250 ok\nS: 550 no\nS: 250 ok\nS: 250 done\n", "550 0"},
		{"all recipients refused", "hello\r\n", small + "S: 250 ok\nS: 550 no\nS: 450 no\nS: 503 no\n" + reset, "550 450"},
		{"MAIL refused", "hello\r\n", small + "S: 550 no\nS: 503 no\nS: 503 no\nS: 503 no\n" + reset, "550 550"},
		{"many chunks", large, first + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" +
			chunk + chunk + chunk + "C: BDAT 1 LAST\nC~ \"x\"\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 done\n", "0 0"},
		{"many chunks, recipients refused", large, first + "S: 250 ok\nS: 550 no\nS: 550 no\nS: 503 no\n" + reset, "550 550"},
		{"first of many refused", large, first + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 552 no\n" + reset, "552 552"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, nil, hello("PIPELINING", "CHUNKING")+tt.script+"C: NOOP\nS: 250 ok\n")
			res, err := c.Send(context.Background(), message(tt.body, "c@d.example", "e@d.example"))
			if codes(res) != tt.want {
				t.Errorf("the recipients got %s, want %s; %v", codes(res), tt.want, err)
			}
			if err := c.Noop(context.Background()); err != nil {
				t.Errorf("the connection: %v", err)
			}
		})
	}
}

// TestChunkRefused checks that no chunk follows one that was refused, where each is awaited (checklist N18, e.4 71).
func TestChunkRefused(t *testing.T) {
	c := dial(t, nil, hello("CHUNKING")+`
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: BDAT 65536
C+ "x" * 65536
S: 250 ok
C: BDAT 65536
C+ "x" * 65536
S: 552 too large
C: RSET
S: 250 ok
C: NOOP
S: 250 ok`)
	res, err := c.Send(context.Background(), message(strings.Repeat("x", 5*blockSize), "c@d.example"))
	if codes(res) != "552" || !SafeToRetry(err) {
		t.Errorf("%s, %v", codes(res), err)
	}
	if err := c.Noop(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestChunksAhead checks that chunks follow each other without waiting, and stop soon when one is refused.
func TestChunksAhead(t *testing.T) {
	here, there := net.Pipe()
	chunks, resets := 0, 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer here.Close()
		in := &lineReader{r: here}
		io.WriteString(here, "220 mail.example\r\n")
		refused := false
		var held []string
		for {
			line, err := in.line()
			if err != nil {
				return
			}
			verb, args, _ := strings.Cut(line, " ")
			reply := "250 ok"
			switch verb {
			case "EHLO":
				reply = "250-mail.example\r\n250-PIPELINING\r\n250 CHUNKING"
			case "BDAT":
				var n int64
				fmt.Sscan(args, &n)
				in.copy(io.Discard, n)
				chunks++
				if chunks > 1 && chunks < 4 {
					held = append(held, "250 ok") // three are sent before any of them is answered
					continue
				}
				refused = refused || chunks == 4
				if refused {
					reply = "552 no"
				}
			case "RSET":
				resets++
			}
			for _, h := range held {
				io.WriteString(here, h+"\r\n")
			}
			held = nil
			io.WriteString(here, reply+"\r\n")
		}
	}()
	c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	m := message("", "c@d.example")
	m.Body = endless{}
	res, err := c.Send(context.Background(), m)
	if codes(res) != "552" {
		t.Errorf("%s, %v", codes(res), err)
	}
	c.Close()
	<-done
	if chunks > 4+chunksAhead || resets != 1 {
		t.Errorf("%d chunks and %d RSET", chunks, resets)
	}
}

// TestBinary checks that binary content is sent as it is, and to no server that does not take it (checklist N21, e.4 72).
func TestBinary(t *testing.T) {
	binary := func() *Message {
		m := message("a\nb\r\x00\xff.\n", "c@d.example")
		m.Need = ext.Binary
		return m
	}
	c := dial(t, nil, hello("PIPELINING", "CHUNKING", "BINARYMIME", "SIZE")+`
C: MAIL FROM:<a@b.example> SIZE=8 BODY=BINARYMIME
C: RCPT TO:<c@d.example>
C: BDAT 8 LAST
C~ "a\nb\r\x00\xff.\n"
S: 250 ok
S: 250 ok
S: 250 ok`)
	if _, err := c.Send(context.Background(), binary()); err != nil {
		t.Error(err)
	}
	for _, keywords := range [][]string{{"SIZE"}, {"CHUNKING", "8BITMIME"}, {"BINARYMIME"}} {
		c := dial(t, nil, hello(keywords...))
		_, err := c.Send(context.Background(), binary())
		if e, ok := errors.AsType[*ext.NeedError](err); !ok || e.Keyword != "BINARYMIME" {
			t.Errorf("to a server that offers %v: %v, want a NeedError", keywords, err)
		}
	}
}

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
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
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
		if err != nil || reported != taken || taken > messagesAhead+1 {
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
	if _, ok := errors.AsType[*LostError](err); !ok {
		t.Errorf("%v, want a LostError", err)
	}
	if len(got) == 0 || got[0] != "sent" {
		t.Errorf("reported %q", got)
	}
}

// TestSendAllRandom sends streams to a server that refuses at random, and holds what it says of each message against what
// the client reports. The server keeps its own state, by the rules of RFC 5321 and RFC 3030, and cuts what it says at random.
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

// moody is a server that refuses at random.
type moody struct {
	rnd  *rand.Rand
	conn net.Conn
	in   *lineReader

	state string // "", "mail", "rcpt", "chunks" or "broken"
	to    []string
	body  strings.Builder
	took  map[string][]string // recipients by the first line of the message
}

func (s *moody) say(text string) {
	text += "\r\n"
	cut := s.rnd.IntN(len(text))
	io.WriteString(s.conn, text[:cut])
	io.WriteString(s.conn, text[cut:])
}

func (s *moody) reset() {
	s.state, s.to = "", nil
	s.body.Reset()
}

func (s *moody) serve(keywords []string) {
	s.say("220 mail.example")
	for {
		line, err := s.in.line()
		if err != nil {
			return
		}
		verb, args, _ := strings.Cut(line, " ")
		refuse := s.rnd.IntN(6) == 0
		switch verb {
		case "EHLO":
			for _, k := range append([]string{"mail.example"}, keywords...) {
				s.say("250-" + k)
			}
			s.say("250 XEND")
		case "QUIT":
			s.say("221 bye")
			return
		case "RSET":
			s.reset()
			s.say("250 ok")
		case "MAIL":
			s.mail(refuse)
		case "RCPT":
			s.rcpt(args, refuse)
		case "DATA":
			s.data(refuse)
		case "BDAT":
			s.bdat(args, refuse)
		default:
			s.say("500 what")
		}
	}
}

func (s *moody) mail(refuse bool) {
	switch {
	case s.state != "":
		s.say("503 nested")
	case refuse:
		s.say("450 no")
	default:
		s.state = "mail"
		s.say("250 ok")
	}
}

func (s *moody) rcpt(args string, refuse bool) {
	switch {
	case s.state != "mail" && s.state != "rcpt":
		s.say("503 no MAIL")
	case refuse:
		s.say("550 no")
	default:
		s.state = "rcpt"
		s.to = append(s.to, strings.Trim(strings.TrimPrefix(args, "TO:"), "<>"))
		s.say("250 ok")
	}
}

func (s *moody) data(refuse bool) {
	if s.state != "rcpt" && (s.state != "mail" || s.rnd.IntN(2) == 0) {
		s.say("503 no recipients")
		return
	}
	if s.state == "rcpt" && refuse {
		s.say("451 no")
		return
	}
	s.say("354 go on")
	for {
		line, err := s.in.raw()
		if err != nil || line == ".\r\n" {
			break
		}
		s.body.WriteString(line)
	}
	s.finish(s.rnd.IntN(6) == 0)
}

func (s *moody) bdat(args string, refuse bool) {
	var n int64
	fmt.Sscan(args, &n)
	s.in.copy(&s.body, n)
	switch {
	case s.state != "rcpt" && s.state != "chunks":
		s.say("503 no")
	case refuse:
		s.state = "broken"
		s.say("554 no")
	case strings.HasSuffix(args, " LAST"):
		s.finish(false)
	default:
		s.state = "chunks"
		s.say("250 ok")
	}
}

// finish ends a message.
func (s *moody) finish(refuse bool) {
	to, body := s.to, s.body.String()
	s.reset()
	if len(to) == 0 {
		s.say("554 no recipients")
		return
	}
	if refuse {
		s.say("554 no")
		return
	}
	name, _, _ := strings.Cut(body, "\r\n")
	s.took[name] = append(s.took[name], to...)
	s.say("250 ok")
}
