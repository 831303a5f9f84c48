package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/ext"
)

// writes counts what happens to a WriteTo.
type writes struct {
	begun, ended, octets int
	err                  error // what Write has returned
	several              bool  // two may be under way at once
}

// body returns a body of text, written in pieces.
func (s *writes) body(text string, piece int) io.Reader {
	return WriterBody(WriterFunc(func(w io.Writer) error {
		if s.begun > s.ended && !s.several {
			panic("two are under way at once")
		}
		s.begun++
		defer func() { s.ended++ }()
		for rest := text; rest != ""; {
			n, err := io.WriteString(w, rest[:min(piece, len(rest))])
			s.octets += n
			if rest = rest[n:]; err != nil {
				s.err = err
				return err
			}
		}
		return nil
	}))
}

// opens counts what happens to what OpenBody opens.
type opens struct {
	opened, closed, octets int
	closeErr               error
	several                bool // two may be open at once
}

func (s *opens) body(text string) io.Reader {
	return s.from(func() io.Reader { return strings.NewReader(text) })
}

func (s *opens) from(open func() io.Reader) io.Reader {
	return OpenBody(func() (io.ReadCloser, error) {
		if s.opened > s.closed && !s.several {
			panic("two are open at once")
		}
		s.opened++
		return &openedBody{Reader: open(), opens: s}, nil
	})
}

type openedBody struct {
	io.Reader
	*opens
}

func (b *openedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.octets += n
	return n, err
}

func (b *openedBody) Close() error {
	b.closed++
	return b.closeErr
}

// TestSourceAgain sends what can be begun again: after a refusal, twice in a stream, and to recipients in several
// transactions.
func TestSourceAgain(t *testing.T) {
	const a, b = "a@x.example", "b@x.example"
	refused := strings.TrimSuffix(offered(a), "S: 250 ok\n") + "S: 450 not now\nS: 503 no\nC: RSET\nS: 250 ok\n"
	var w writes
	var o opens
	for _, body := range []io.Reader{w.body("hello\r\n", 2), o.body("hello\r\n")} {
		c := dial(t, nil, hello("PIPELINING", "LIMITS RCPTMAX=1")+refused+strings.Repeat(taken(a), 3)+taken(b)+bye)
		m := message("", a)
		m.Body = body
		if _, err := c.Send(t.Context(), m); !Temporary(err) || !SafeToRetry(err) {
			t.Errorf("the first time: %v", err)
		}
		var got outcomes
		if err := c.SendAll(t.Context(), slices.Values([]*Message{m, m}), got.each); err != nil || got.String() != "0, 0" {
			t.Errorf("%s, %v", got, err)
		}
		m.To = message("", a, b).To
		if res, err := c.Send(t.Context(), m); err != nil || codes(res) != "0 0" {
			t.Errorf("in two transactions: %v", err)
		}
		c.Close()
	}
	if w.begun != 5 || w.ended != 5 || o.opened != 5 || o.closed != 5 {
		t.Errorf("%+v, %+v: want it begun and ended for each transaction", w, o)
	}
}

// TestSourceManyRecipients: a server with room for fewer recipients gets the message in another transaction.
func TestSourceManyRecipients(t *testing.T) {
	const a, b = "a@x.example", "b@x.example"
	full := strings.Replace(offered(a, b), "S: 250 ok\nS: 250 ok\nS: 250 ok\n", "S: 250 ok\nS: 250 ok\nS: 452 no room\n", 1)
	script := full + "S: 354 go on\nC: hello\nC: .\nS: 250 ok\n" + taken(b) + bye
	for _, body := range []io.Reader{new(writes).body("hello\r\n", 3), new(opens).body("hello\r\n")} {
		c := dial(t, nil, hello("PIPELINING")+script)
		m := message("", a, b)
		m.Body = body
		if res, err := c.Send(t.Context(), m); err != nil || codes(res) != "0 0" {
			t.Error(err)
		}
	}
	t.Run("nil", func(t *testing.T) {
		script := strings.ReplaceAll(script, "C: hello\n", "")
		c := dial(t, nil, hello("PIPELINING")+strings.ReplaceAll(script, "C: hello\n", ""))
		m := message("", a, b)
		m.Body = nil
		if res, err := c.Send(t.Context(), m); err != nil || codes(res) != "0 0" {
			t.Error(err)
		}
	})
}

// TestSourceIsMeasured checks what is learnt of a source before it is sent, and what that costs.
func TestSourceIsMeasured(t *testing.T) {
	short, long := strings.Repeat("0123456\r\n", 5000), strings.Repeat("0123456\r\n", 100_000)
	for _, tt := range []struct {
		name, text string
		declared   int64
		offers     []string
		mail       string
		begun      int
		most       int // octets
	}{
		{"a block", short, 0, []string{"SIZE"}, " SIZE=45000", 1, len(short)},
		{"eight bits", "é", 0, []string{"8BITMIME"}, " BODY=8BITMIME", 1, 2},
		{"long", long, 0, []string{"SIZE"}, " SIZE=900000", 3, 2*len(long) + 2*blockSize},
		{"long, 8-bit taken", long, 0, []string{"SIZE", "8BITMIME"}, " SIZE=900000", 3, 2*len(long) + 2*blockSize},
		{"long, of eight bits at its end", long + "é\r\n", 0, []string{"SIZE", "8BITMIME"}, " SIZE=900004 BODY=8BITMIME", 3,
			2*len(long) + 2*blockSize},
		{"long, of known size", long, 900_000, []string{"SIZE", "8BITMIME"}, " SIZE=900000 BODY=8BITMIME", 3,
			len(long) + lookahead + 3*blockSize},
		{"long, of known size, other line endings", strings.ReplaceAll(long, "\r", ""), 900_000,
			[]string{"SIZE", "8BITMIME"}, " SIZE=900000", 3, 2*len(long) + 2*blockSize},
	} {
		var w writes
		var o opens
		for name, body := range map[string]io.Reader{"written": w.body(tt.text, 997), "opened": o.body(tt.text)} {
			c, srv := pipe(t, tt.offers...)
			m := message("", "c@d.example")
			m.Body, m.Size = body, tt.declared
			if _, err := c.Send(t.Context(), m); err != nil {
				t.Errorf("%s, %s: %v", tt.name, name, err)
			}
			c.Close()
			srv.wait()
			got := strings.Fields(strings.TrimPrefix(srv.mail, "MAIL FROM:<a@b.example>"))
			want := strings.Fields(tt.mail)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %q, want%s", tt.name, name, srv.mail, tt.mail)
			}
		}
		if w.begun != tt.begun || w.ended != tt.begun || w.octets > tt.most {
			t.Errorf("%s: begun %d times, ended %d, %d octets; want %d times, %d octets", tt.name, w.begun, w.ended, w.octets,
				tt.begun, tt.most)
		}
		if o.opened != tt.begun || o.closed != tt.begun || o.octets > tt.most {
			t.Errorf("%s: opened %d times, closed %d, %d octets; want %d times, %d octets", tt.name, o.opened, o.closed,
				o.octets, tt.begun, tt.most)
		}
	}
}

// TestSourceNeedsEightBit: a server that does not take octets above 127 gets nothing of the message, nor of one that
// has them only when it is read again.
func TestSourceNeedsEightBit(t *testing.T) {
	long := strings.Repeat("0123456\r\n", 100_000)
	c := dial(t, nil, hello())
	m := message("", "c@d.example")
	m.Body = new(writes).body(long+"é\r\n", 1000)
	_, err := c.Send(t.Context(), m)
	if e, ok := asType[*ext.UnsupportedError](err); !ok || e.Keyword != "8BITMIME" {
		t.Errorf("%v, want an UnsupportedError", err)
	}
	times := 0
	m.Body = WriterBody(WriterFunc(func(w io.Writer) error {
		if times++; times == 3 {
			_, err := io.WriteString(w, long+"é\r\n")
			return err
		}
		_, err := io.WriteString(w, long)
		return err
	}))
	c, srv := pipe(t, "PIPELINING")
	_, err = c.Send(t.Context(), m)
	if e, ok := asType[*ext.UnsupportedError](err); !ok || e.Keyword != "8BITMIME" {
		t.Errorf("%v, want an UnsupportedError", err)
	}
	srv.wait()
	if has8bit(srv.in.buf) || bytes.HasSuffix(srv.in.buf, []byte("\r\n.\r\n")) {
		t.Error("the server got octets above 127, or the end of the message")
	}
}

// TestSourceThatFails: an error at any place is a MessageError, whatever error it is, and the content gets no end.
func TestSourceThatFails(t *testing.T) {
	long := strings.Repeat("x", 5*blockSize)
	// The measuring pass is the second of three.
	failing := func(at int, broken error, panics bool) io.Reader {
		times := 0
		return WriterBody(WriterFunc(func(w io.Writer) error {
			times++
			if _, err := io.WriteString(w, long[:4*blockSize]); err != nil {
				return err
			}
			if times == at && panics {
				panic(broken)
			}
			if times == at {
				return broken
			}
			_, err := io.WriteString(w, long[4*blockSize:])
			return err
		}))
	}
	broken := errors.New("the disk is gone")
	for _, keyword := range []string{"HELP", "CHUNKING"} {
		for _, at := range []int{2, 3} {
			for _, err := range []error{broken, io.EOF, io.ErrClosedPipe} {
				t.Run(fmt.Sprintf("%s %d %v", keyword, at, err), func(t *testing.T) {
					checkNotEnded(t, keyword, failing(at, err, false), func(c *Client, m *Message) {
						_, got := c.Send(t.Context(), m)
						if _, ok := asType[*MessageError](got); !ok || err != io.EOF && !errors.Is(got, err) || !SafeToRetry(got) {
							t.Errorf("%v, want a MessageError of %v", got, err)
						}
					})
				})
			}
			t.Run(fmt.Sprintf("%s %d panic", keyword, at), func(t *testing.T) {
				checkNotEnded(t, keyword, failing(at, broken, true), func(c *Client, m *Message) {
					defer func() {
						if got := recover(); got != broken {
							t.Errorf("the panic is %v", got)
						}
					}()
					c.Send(t.Context(), m)
				})
			})
		}
	}
	var o opens
	for name, body := range map[string]io.Reader{
		"open":     OpenBody(func() (io.ReadCloser, error) { return nil, broken }),
		"open EOF": OpenBody(func() (io.ReadCloser, error) { return nil, io.EOF }),
		"read":     o.from(func() io.Reader { return io.MultiReader(strings.NewReader(long), iotest.ErrReader(broken)) }),
		"at once":  o.from(func() io.Reader { return iotest.ErrReader(broken) }),
		"close":    (&opens{closeErr: broken}).body("hello\r\n"),
		"nothing":  OpenBody(func() (io.ReadCloser, error) { return nil, nil }),
		"nil":      OpenBody(nil),
		"nil w":    WriterBody(nil),
	} {
		c := dial(t, nil, hello("PIPELINING")+"C: NOOP\nS: 250 ok")
		m := message("", "c@d.example")
		m.Body = body
		_, err := c.Send(t.Context(), m)
		if _, ok := asType[*MessageError](err); !ok {
			t.Errorf("%s: %v, want a MessageError", name, err)
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if o.opened != o.closed || o.opened == 0 {
		t.Errorf("%+v", o)
	}
}

// checkNotEnded has send fail to send a message, and checks that the server got no end of content.
func checkNotEnded(t *testing.T, keyword string, body io.Reader, send func(*Client, *Message)) {
	t.Helper()
	c, srv := pipe(t, "PIPELINING", keyword)
	var lines []string
	c.conn.trace.Command = func(_ context.Context, _ *Client, verb, args string) {
		lines = append(lines, verb+" "+args)
	}
	m := message("", "c@d.example")
	m.Body = body
	send(c, m)
	c.Close()
	srv.wait()
	rest := string(srv.in.buf)
	if strings.Contains(rest, "\r\n.\r\n") || strings.Contains(strings.Join(lines, "\n"), "LAST") {
		t.Errorf("the content was ended: %q, %q", abbreviate(rest), lines)
	}
}

// TestSourceIsEnded has a body that is begun and not wanted to its end, in all the ways there are: it is ended, or put
// back, before Send returns, also if something else panics.
func TestSourceIsEnded(t *testing.T) {
	long := strings.Repeat("x", 10*blockSize)
	for _, what := range []string{"refused", "closed", "cancelled", "panic"} {
		for _, keyword := range []string{"HELP", "CHUNKING"} {
			t.Run(what+" "+keyword, func(t *testing.T) {
				var w writes
				var o opens
				seeker := strings.NewReader(long)
				for _, body := range []io.Reader{w.body(long, 1000), o.body(long), seeker} {
					sendInVain(t, what, keyword, body, (*Client).Send)
					sendInVain(t, what, keyword, body, func(c *Client, ctx context.Context, m *Message) (*Result, error) {
						return nil, c.SendAll(ctx, slices.Values([]*Message{m}), func(_ *Message, _ *Result, err error) bool {
							if what == "refused" && err == nil {
								t.Error("the message was sent")
							}
							return true
						})
					})
				}
				if w.begun != w.ended || w.begun != 6 || o.opened != o.closed || o.opened != 6 || seeker.Len() != len(long) {
					t.Errorf("%+v %+v, %d octets left", w, o, seeker.Len())
				}
				if w.err != io.ErrClosedPipe {
					t.Errorf("Write returned %v", w.err)
				}
			})
		}
	}
}

// sendInVain sends a message that fails as it says, once its body has been begun.
func sendInVain(t *testing.T, what, keyword string, body io.Reader,
	send func(*Client, context.Context, *Message) (*Result, error),
) {
	t.Helper()
	script := hello("PIPELINING", keyword)
	begun := "C: MAIL*\nC: RCPT*\nC: DATA\n"
	if keyword == "CHUNKING" {
		begun = "C: MAIL*\nC: RCPT*\nC: BDAT 65536\nC+ \"x\" * 65536\n"
	}
	switch what {
	case "refused":
		script += begun + "S: 250 ok\nS: 550 no\nS: 503 no\nC: RSET\nS: 250 ok\n"
	case "closed":
		script += begun + "S: 250 ok\nCLOSE\n"
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := dial(t, func(o *Options) {
		o.Trace = &Trace{Command: func(_ context.Context, _ *Client, verb, _ string) {
			switch {
			case verb != "RCPT":
			case what == "cancelled":
				cancel()
			case what == "panic":
				panic("the trace panics")
			}
		}}
	}, script)
	m := message("", "c@d.example")
	m.Body = body
	func() {
		defer func() {
			if p := recover(); (p != nil) != (what == "panic") {
				t.Errorf("%s: the panic is %v", what, p)
			}
		}()
		if res, err := send(c, ctx, m); err == nil && (res != nil || what != "refused") {
			t.Errorf("%s: it was sent", what)
		}
	}()
	c.Close()
}
