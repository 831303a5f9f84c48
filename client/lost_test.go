package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// groupUpToData is a transaction up to the content.
const groupUpToData = `
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 go on
`

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("0123456\r\n"), len(p)/9+1)), nil
}

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

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestF22_EightBit checks that octets above 127 are not sent to a server that does not offer to take them (RFC 5321 section 2.4).
func TestF22_EightBit(t *testing.T) {
	stream := func(s string) *Message {
		m := message("", "c@d.example")
		m.Body = oddPieces{strings.NewReader(s)}
		return m
	}
	long := strings.Repeat("x", 2*blockSize)
	isNeed := func(t *testing.T, err error) {
		t.Helper()
		if e, ok := asType[*ext.UnsupportedError](err); !ok || e.Keyword != "8BITMIME" || !SafeToRetry(err) || Temporary(err) {
			t.Errorf("%v, want a NeedError for 8BITMIME", err)
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

// TestF24_EarlyReplies checks what a reply in the middle of content does: a refusal counts and ends the session,
// and a success cannot be one.
func TestF24_EarlyReplies(t *testing.T) {
	m := func() *Message {
		m := message("", "c@d.example")
		m.Body = endless{}
		return m
	}
	for _, tt := range []struct {
		reply, code string
		temporary   bool
	}{
		{"552 too large", "552", false},
		{"421 shutting down", "421", true},
		{"250 ok", "-1", true},
		{"354 more", "-1", true},
	} {
		t.Run(tt.reply, func(t *testing.T) {
			here, there := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				in := &lineReader{r: here}
				io.WriteString(here, "220 mail.example\r\n")
				in.line()
				io.WriteString(here, "250-mail.example\r\n250 PIPELINING\r\n")
				in.line()
				in.line()
				in.line()
				io.WriteString(here, "250 ok\r\n250 ok\r\n354 go on\r\n")
				in.line()
				// From here on nothing is read.
				io.WriteString(here, tt.reply+"\r\n")
			}()
			c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Send(context.Background(), m())
			<-done
			here.Close()
			if codes(res) != tt.code || Temporary(err) != tt.temporary || !SafeToRetry(err) {
				t.Errorf("%v, recipients %s", err, codes(res))
			}
			if _, protocol := asType[*ProtocolError](err); protocol != (tt.code == "-1") {
				t.Errorf("%v", err)
			}
			if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) {
				t.Errorf("the connection: %v, want it to be closed", err)
			}
		})
	}
}

// TestClaimedSuccess checks that a server cannot accept a message whose last octets it has not taken in.
func TestClaimedSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() {
			in := &lineReader{r: here}
			io.WriteString(here, "220 mail.example\r\n")
			in.line()
			io.WriteString(here, "250-mail.example\r\n250 PIPELINING\r\n")
			in.line()
			in.line()
			in.line()
			io.WriteString(here, "250 ok\r\n250 ok\r\n354 go on\r\n")
			io.ReadFull(here, make([]byte, 5)) // of the seven that are content, and its end
			io.WriteString(here, "250 ok\r\n")
		}()
		defer here.Close()
		c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
		if _, ok := asType[*ProtocolError](err); !ok || res.Sent() != 0 {
			t.Errorf("%v, %d served", err, res.Sent())
		}
	})
}

// TestLastWords checks that a reply counts even if the connection ends with it.
func TestLastWords(t *testing.T) {
	for range 100 {
		c := dial(t, nil, hello("PIPELINING")+groupUpToData+"C: hello\nC: .\nS: 250 queued\nCLOSE")
		if res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil || res.Sent() != 1 {
			t.Fatal(err)
		}
		c = dial(t, nil, hello("PIPELINING")+"C: NOOP\nS: 250 ok\nCLOSE")
		if err := c.Noop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnknown checks that nobody claims to know what became of a message when the line broke behind its end (RFC 1047).
func TestUnknown(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		keywords     []string
		unknown      bool
	}{
		{"before the content", "C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\nCLOSE", []string{"PIPELINING"}, false},
		{"behind the end", groupUpToData + "C: hello\nC: .\nCLOSE", []string{"PIPELINING"}, true},
		{"in the reply", groupUpToData + "C: hello\nC: .\nS: 250-o\nCLOSE", []string{"PIPELINING"}, true},
		{"behind the last chunk", "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\nS: 250 ok\nCLOSE",
			[]string{"PIPELINING", "CHUNKING"}, true},
		{"behind the last chunk, refused", "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\nS: 250 ok\nS: 550 no\nCLOSE",
			[]string{"PIPELINING", "CHUNKING"}, false},
		{"with a word", groupUpToData + "C: hello\nC: .\nS: 421 shutting down\nCLOSE", []string{"PIPELINING"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, nil, hello(tt.keywords...)+tt.script)
			_, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
			e, ok := asType[*SendError](err)
			if !ok || e.Unknown != tt.unknown || SafeToRetry(err) == tt.unknown {
				t.Errorf("%v: unknown %v, safe to retry %v", err, e.Unknown, SafeToRetry(err))
			}
		})
	}
}

// TestTruncation checks that the end of a TLS connection without a word in the middle of a reply is no reply (e.3 59).
func TestTruncation(t *testing.T) {
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer here.Close()
		s := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}})
		in := &lineReader{r: s}
		io.WriteString(s, "220 mail.example\r\n")
		in.line()
		io.WriteString(s, "250 mail.example\r\n")
		in.line()
		io.WriteString(s, "250-ok\r\n")
	}()
	c, err := NewClient(context.Background(), there, clienttest.Hostname,
		&Options{TLS: ext.TLSImplicit, TLSConfig: clienttest.TLSConfig()})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Noop(context.Background())
	if _, ok := asType[*LostError](err); !ok {
		t.Errorf("%v, want a LostError", err)
	}
	<-done
}

// TestG11_HugeReplies checks that what a server says is bounded.
func TestG11_HugeReplies(t *testing.T) {
	for _, piece := range []string{"250-x\r\n", "2", "250-XXXX\r\n"} {
		here, there := net.Pipe()
		done := make(chan int)
		go func() {
			sent := 0
			io.WriteString(here, "220 mail.example\r\n")
			(&lineReader{r: here}).line()
			if piece == "2" {
				io.WriteString(here, "250 ")
			}
			block := strings.Repeat(piece, 1000)
			for {
				n, err := io.WriteString(here, block)
				sent += n
				if err != nil {
					done <- sent
					return
				}
			}
		}()
		_, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
		if !errors.Is(err, proto.ErrReply) {
			t.Errorf("%q without end: %v, want ErrReply", piece, err)
		}
		if sent := <-done; sent > 256<<10 {
			t.Errorf("%q without end: %d octets were taken", piece, sent)
		}
		here.Close()
	}
}

// TestContextEndsWhileReading has the context end while the body keeps the client waiting: nothing has been sent, and that is
// known.
func TestContextEndsWhileReading(t *testing.T) {
	for _, keywords := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}, nil} {
		c := dial(t, nil, hello(keywords...)+"HANGUP")
		ctx, cancel := context.WithCancel(context.Background())
		m := message("", "c@d.example")
		m.Body = readerFunc(func(p []byte) (int, error) {
			cancel()
			return copy(p, "hello\r\n"), io.EOF
		})
		_, err := c.Send(ctx, m)
		if e, ok := asType[*SendError](err); !ok || e.Unknown || !SafeToRetry(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("%v: %v", keywords, err)
		}
	}
}

// TestM12_EightBitAnywhere has one octet above 127 at each place of a short body, which is looked at eight octets at a time.
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
