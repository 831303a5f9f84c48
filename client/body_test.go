package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/ext"
)

// TestF23_BodyFails checks that a body that cannot be read to its end is never given an end.
func TestF23_BodyFails(t *testing.T) {
	broken := errors.New("the disk is gone")
	half := strings.Repeat("x", 3*blockSize)
	t.Run("DATA", func(t *testing.T) {
		c, srv := pipe(t, "PIPELINING")
		m := message("", "c@d.example")
		m.Body = io.MultiReader(strings.NewReader(half), iotest.ErrReader(broken))
		res, err := c.Send(context.Background(), m)
		if !errors.Is(err, broken) || codes(res) != "-1" || !SafeToRetry(err) {
			t.Errorf("%v, recipients %s, safe to retry %v", err, codes(res), SafeToRetry(err))
		}
		if _, ok := asType[*MessageError](err); !ok {
			t.Errorf("%v is no MessageError", err)
		}
		srv.wait()
		if rest := string(srv.in.buf); rest == "" || strings.Trim(rest, "x") != "" {
			t.Errorf("the server got %q", abbreviate(rest))
		}
		if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) || !errors.Is(err, broken) {
			t.Errorf("the connection: %v, want it to be closed", err)
		}
	})
	t.Run("chunks", func(t *testing.T) {
		c := dial(t, nil, hello("PIPELINING", "CHUNKING")+`
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: BDAT 65536
C+ "x" * 65536
S: 250 ok
S: 250 ok
S: 250 ok
C: BDAT 65536
C+ "x" * 65536
S: 250 ok
C: RSET
S: 250 ok
C: NOOP
S: 250 ok`)
		m := message("", "c@d.example")
		m.Body = io.MultiReader(strings.NewReader(half), iotest.ErrReader(broken))
		if _, err := c.Send(context.Background(), m); !errors.Is(err, broken) || !SafeToRetry(err) {
			t.Error(err)
		}
		if err := c.Noop(context.Background()); err != nil {
			t.Errorf("the connection: %v", err)
		}
	})
	t.Run("at once", func(t *testing.T) {
		c := dial(t, nil, hello("PIPELINING")+"C: NOOP\nS: 250 ok")
		m := message("", "c@d.example")
		m.Body = iotest.ErrReader(broken)
		if _, err := c.Send(context.Background(), m); !errors.Is(err, broken) {
			t.Error(err)
		}
		if err := c.Noop(context.Background()); err != nil {
			t.Errorf("the connection: %v", err)
		}
	})
	t.Run("no progress", func(t *testing.T) {
		c := dial(t, nil, hello())
		m := message("", "c@d.example")
		m.Body = readerFunc(func([]byte) (int, error) { return 0, nil })
		if _, err := c.Send(context.Background(), m); !errors.Is(err, io.ErrNoProgress) {
			t.Error(err)
		}
	})
}

// TestF22_EightBit checks that octets above 127 are not sent to a server that does not offer to take them (RFC 5321
// section 2.4).
func TestF22_EightBit(t *testing.T) {
	stream := func(s string) *Message {
		m := message("", "c@d.example")
		m.Body = oddPieces{strings.NewReader(s)}
		return m
	}
	long := strings.Repeat("x", 2*blockSize)
	isNeed := func(t *testing.T, err error) {
		t.Helper()
		if e, ok := asType[*ext.UnsupportedError](err); !ok || e.Keyword != "8BITMIME" || !SafeToRetry(err) ||
			Temporary(err) {
			t.Errorf("%v, want an UnsupportedError for 8BITMIME", err)
		}
	}
	t.Run("M12 known", func(t *testing.T) {
		c := dial(t, nil, hello())
		for _, m := range []*Message{message("é", "c@d.example"), message(long+"é", "c@d.example"), stream("é" + long)} {
			_, err := c.Send(context.Background(), m)
			isNeed(t, err)
		}
	})
	t.Run("M12 found late", func(t *testing.T) {
		c, srv := pipe(t, "PIPELINING")
		_, err := c.Send(context.Background(), stream(long+"é"))
		isNeed(t, err)
		srv.wait()
		if rest := string(srv.in.buf); strings.Trim(rest, "x") != "" {
			t.Errorf("the server got %q", abbreviate(rest))
		}
	})
	t.Run("M13 offered", func(t *testing.T) {
		for _, tt := range []struct {
			m    *Message
			mail string
		}{
			{message("é", "c@d.example"), " BODY=8BITMIME"},
			{message("e", "c@d.example"), ""},
			{message(long+"é", "c@d.example"), " BODY=8BITMIME"},
			{message(long, "c@d.example"), ""},
			{stream(long), " BODY=8BITMIME"},
		} {
			c, srv := pipe(t, "8BITMIME")
			if _, err := c.Send(context.Background(), tt.m); err != nil {
				t.Error(err)
			}
			c.Close()
			srv.wait()
			if want := "MAIL FROM:<a@b.example>" + tt.mail; srv.mail != want {
				t.Errorf("%q, want %q", srv.mail, want)
			}
		}
	})
}

// TestM12_EightBitAnywhere has one octet above 127 at each place of a short body, which is looked at eight octets at a
// time.
func TestM12_EightBitAnywhere(t *testing.T) {
	for at := range 20 {
		body := []byte(strings.Repeat("x", 20))
		if has8bit(body) {
			t.Fatal("a body of ASCII has an octet above 127")
		}
		body[at] = 0x80
		if !has8bit(body) {
			t.Errorf("the octet at %d is not seen", at)
		}
	}
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
		{"F18 dots across blocks", strings.Repeat("x", blockSize-2) + "\r\n.\r\n.",
			strings.Repeat("x", blockSize-2) + "\r\n.\r\n."},
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
			{"writer", func() io.Reader { return new(writes).body(tt.body, 997) }, fmt.Sprintf(" SIZE=%d", len(dotted))},
			{"one write", func() io.Reader { return new(writes).body(tt.body, 1<<20) }, fmt.Sprintf(" SIZE=%d", len(dotted))},
			{"opened", func() io.Reader { return new(opens).body(tt.body) }, fmt.Sprintf(" SIZE=%d", len(dotted))},
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

type stuckSeeker struct{ *strings.Reader }

func (s stuckSeeker) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		return 0, errors.New("no way back")
	}
	return s.Reader.Seek(offset, whence)
}

// TestBodyThatCannotBePutBack: a body whose Seek fails is not sent a second time as empty content.
func TestBodyThatCannotBePutBack(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+taken("c@d.example")+bye)
	m := message("", "c@d.example")
	m.Body = stuckSeeker{strings.NewReader("hello\r\n")}
	if _, err := c.Send(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	_, err := c.Send(context.Background(), m)
	if _, ok := asType[*MessageError](err); !ok {
		t.Errorf("%v, want a MessageError", err)
	}
}
