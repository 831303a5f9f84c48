package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// reading is a session's Data that says what its reader returned at last.
func reading(last *error) func(context.Context, io.Reader) error {
	return func(_ context.Context, r io.Reader) error {
		_, *last = io.Copy(io.Discard, r)
		return *last
	}
}

func TestChunks(t *testing.T) {
	for name, say := range map[string]string{
		"N01 one":          "BDAT 11 LAST\r\na\r\n.\r\n..b\r\n",
		"N02 empty last":   "BDAT 11\r\na\r\n.\r\n..b\r\nBDAT 0 LAST\r\n",
		"N14 empty first":  "BDAT 0\r\nBDAT 11 LAST\r\na\r\n.\r\n..b\r\n",
		"N03 between CRLF": "BDAT 2\r\na\rBDAT 9 LAST\r\n\n.\r\n..b\r\n",
		"N01 many":         "BDAT 3\r\na\r\nBDAT 1\r\n.BDAT 0\r\nBDAT 5\r\n\r\n..bBDAT 2 LAST\r\n\r\n",
		"leading zeros":    "BDAT 00011 LAST\r\na\r\n.\r\n..b\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			st := &store{}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			for range 2 { // the second one knows nothing of the first
				p.begin()
				p.send(say)
				for range strings.Count(say, "BDAT ") {
					p.expect("250 2.")
				}
			}
			p.chunk("BDAT 2 LAST", "hi", "503 ")
			p.quit()
			want := []string{"a\r\n.\r\n..b\r\n", "a\r\n.\r\n..b\r\n"}
			if got := st.messages(); strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestChunksArePulled: a chunk is answered when the session has read it and reads on, and not before.
func TestChunksArePulled(t *testing.T) {
	first, more := make(chan string), make(chan struct{})
	p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
		buf := make([]byte, 4)
		n, _ := io.ReadFull(r, buf)
		first <- string(buf[:n])
		<-more
		rest, err := io.ReadAll(r)
		first <- string(rest)
		return err
	})
	p.send("BDAT 4\r\nabcd")
	if got := <-first; got != "abcd" {
		t.Fatalf("Data read %q, want the first chunk", got)
	}
	select {
	case line := <-p.lines:
		t.Fatalf("the server says %q before the session wants more", line)
	default:
	}
	close(more)
	p.expect("250 2.0.0 4 octets received")
	p.send("BDAT 2 LAST\r\nef")
	if got := <-first; got != "ef" {
		t.Fatalf("Data read %q, want the second chunk", got)
	}
	p.expect("250 2.0.0 Message accepted")
	p.quit()
}

func TestChunksGivenUp(t *testing.T) {
	for _, c := range []struct{ say, want, after string }{
		{"RSET", "250 ", "503 "},
		{"EHLO other", "250-", "503 "},
		{"HELO other", "250 ", "503 "},
		{"QUIT", "221 ", ""},
	} {
		t.Run("N08 "+c.say, func(t *testing.T) {
			var last error
			p, st := withData(t, server.Options{}, reading(&last))
			p.chunk("BDAT 3", "abc", "250 ")
			p.ask(c.say, c.want)
			// The session was done with the message before the command was carried out.
			want := "new, mail a@b.example, rcpt c@d.example, data, reset"
			if got := st.calls(); !strings.HasPrefix(got, want) {
				t.Errorf("called %s, want %s", got, want)
			}
			if last != server.ErrReset {
				t.Errorf("the reader returned %v, want ErrReset", last)
			}
			if c.after == "" {
				if err := p.ended(); err != nil {
					t.Errorf("ServeConn returned %v", err)
				}
				return
			}
			p.chunk("BDAT 3", "abc", c.after)
			p.ask("EHLO client.example", "250-")
			p.begin()
			p.chunk("BDAT 3 LAST", "abc", "250 ")
			p.quit()
		})
	}
}

func TestCommandsBetweenChunks(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.begin()
	p.chunk("BDAT 3", "abc", "250 ")
	p.ask("NOOP x", "250 ",
		"MAIL FROM:<x@y.example>", "503 ",
		"RCPT TO:<x@y.example>", "503 ",
		"DATA", "503 ",
		"FOO", "500 ",
		"EHLO", "501 ",
		"RSET x", "501 ",
		"QUIT x", "501 ",
		"VRFY x", "503 ")
	p.chunk("BDAT 5 LAST junk", "12345", "501 ")
	p.ask("RSET", "250 ")
	p.begin()
	p.chunk("BDAT 3", "abc", "250 ")
	p.chunk("BDAT 3 LAST", "def", "250 ")
	p.quit()
	if got := st.messages(); len(got) != 1 || got[0] != "abcdef" {
		t.Errorf("got %q, want one message", got)
	}
}

func TestN16_ChunkLost(t *testing.T) {
	for _, say := range []string{"BDAT 10\r\nabc", "BDAT 3\r\nabc", "BDAT 3\r\nabcNO"} {
		var last error
		p, _ := withData(t, server.Options{}, reading(&last))
		p.send(say)
		p.nc.Close()
		<-p.done
		if last != io.ErrUnexpectedEOF {
			t.Errorf("%q: the reader returned %v, want io.ErrUnexpectedEOF", say, last)
		}
	}
}

func TestChunkRefused(t *testing.T) {
	spam := &proto.Error{Code: 550, Text: "spam"}
	for _, c := range []struct {
		name string
		data func(context.Context, io.Reader) error
		talk []string
	}{
		{"unread", func(context.Context, io.Reader) error { return spam },
			[]string{"BDAT 6\r\nNOOP\r\n", "550 "}},
		{"partly read", func(_ context.Context, r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, 3))
			return spam
		}, []string{"BDAT 6\r\nNOOP\r\n", "550 "}},
		{"second", func(_ context.Context, r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, 8))
			return spam
		}, []string{"BDAT 6\r\nNOOP\r\n", "250 ", "BDAT 6\r\nNOOP\r\n", "550 "}},
	} {
		t.Run("N07 "+c.name, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, c.data)
			for i := 0; i < len(c.talk); i += 2 {
				p.send(c.talk[i])
				p.expect(c.talk[i+1])
			}
			// RFC 3030 section 2: what follows is read and refused until RSET.
			p.send("BDAT 6\r\nNOOP\r\nBDAT 6 LAST\r\nQUIT\r\n")
			p.expect("503 ", "503 ")
			p.ask("MAIL FROM:<a@b.example>", "503 ", "RSET", "250 ")
			p.begin()
			p.quit()
		})
	}
	t.Run("last", func(t *testing.T) {
		p, _ := withData(t, server.Options{}, func(context.Context, io.Reader) error { return spam })
		p.chunk("BDAT 3 LAST", "abc", "550 ")
		p.begin()
		p.quit()
	})
}

func TestChunksAcceptedUnread(t *testing.T) {
	for _, c := range []struct{ name, last, want string }{
		{"fine", "BDAT 3 LAST\r\ndef", "250 2.0.0 Message accepted"},
		{"empty last", "BDAT 0 LAST", "250 2.0.0 Message accepted"},
		{"bare LF", "BDAT 3 LAST\r\nd\nf", "554 5.6.0"},
		{"too large", "BDAT 2000 LAST\r\n" + strings.Repeat("x", 2000), "552 5.3.4"},
		{"given up", "RSET", "250 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: 1000}}, readNothing)
			// What follows a chunk of n octets is a CRLF only where ask adds it to a command.
			p.send("BDAT 3\r\nabcBDAT 3\r\nabc" + c.last)
			if !strings.Contains(c.last, "\r\n") {
				p.send("\r\n")
			}
			p.expect("250 2.0.0 3 octets", "250 2.0.0 3 octets", c.want)
			p.ask("NOOP", "250 ")
			p.begin()
			p.quit()
		})
	}
}

func TestChunkTooLarge(t *testing.T) {
	t.Run("N13, Z67 swallowed", func(t *testing.T) {
		var last error
		p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: 1000}}, reading(&last))
		p.chunk("BDAT 600", strings.Repeat("x", 600), "250 ")
		p.send("BDAT 600\r\n" + strings.Repeat("x", 600))
		p.expect("552 5.3.4")
		var e *proto.Error
		if !errors.As(last, &e) || e.Code != 552 {
			t.Errorf("the reader returned %v, want the 552", last)
		}
		p.ask("RSET", "250 ")
		p.quit()
	})
	// Nobody waits for, or allocates, what cannot be accepted.
	for _, state := range []string{"in a transaction", "out of sequence"} {
		t.Run("N13, Z67 huge "+state, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.hello()
			want := "503 "
			if state == "in a transaction" {
				p.begin()
				want = "552 5.3.4"
			}
			p.ask("BDAT 9223372036854775807", want)
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
		})
	}
}

func TestN14Z68_TooManyChunks(t *testing.T) {
	for _, size := range []int{0, 1} {
		p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		chunk := "BDAT " + strconv.Itoa(size) + "\r\n" + strings.Repeat("x", size)
		p.send(strings.Repeat(chunk, 1001))
		n := 0
		reply := p.reply()
		for ; strings.HasPrefix(reply, "250 "); reply = p.reply() {
			n++
		}
		if n != 1000 || !strings.HasPrefix(reply, "421 4.7.0") {
			t.Errorf("chunks of %d: after %d replies the server says %q, want 421 after 1000", size, n, reply)
		}
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
	}
}

func TestManyLargeChunks(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.begin()
	chunk := "BDAT 1024\r\n" + strings.Repeat("x", 1024)
	for range 20 {
		p.send(strings.Repeat(chunk, 100))
		for range 100 {
			p.expect("250 ")
		}
	}
	p.ask("BDAT 0 LAST", "250 ")
	p.quit()
	if got := st.messages(); len(got) != 1 || len(got[0]) != 2000<<10 {
		t.Errorf("got %d messages, want one of 2000 KiB", len(got))
	}
}

// TestN15_BareNewlines: a malformed message does not affect the next one, by DATA or by BDAT.
func TestN15_BareNewlines(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	for range 2 {
		p.begin()
		p.ask("DATA", "354 ", "a\nb\r\n.", "554 ")
		p.begin()
		p.send("BDAT 3 LAST\r\na\r\n")
		p.expect("250 ")
		p.begin()
		p.send("BDAT 3 LAST\r\na\nb")
		p.expect("554 ")
		p.begin()
		p.ask("DATA", "354 ", "a\r\n.", "250 ")
	}
	p.quit()
}

func TestN10_Binary(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example> BODY=BINARYMIME", "250 ", "RCPT TO:<c@d.example>", "250 ", "DATA", "503 5.5.1")
	p.send("BDAT 5 LAST\r\n\na\r\x00b")
	p.expect("250 ")
	// It does not hold for the next one.
	p.begin()
	p.send("BDAT 5 LAST\r\n\na\r\x00b")
	p.expect("554 ")
	p.quit()
	if got := st.messages(); len(got) != 1 || !bytes.Equal([]byte(got[0]), []byte("\na\r\x00b")) {
		t.Errorf("got %q", got)
	}
}

func TestPanicBetweenChunks(t *testing.T) {
	p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
		_, _ = io.ReadFull(r, make([]byte, 4))
		panic("at the disco")
	})
	p.chunk("BDAT 3", "abc", "250 ")
	p.chunk("BDAT 3", "abc", "421 4.3.0")
	if p.ended() == nil {
		t.Error("ServeConn returned nil")
	}
}

// TestLargeChunkRead: octets that the session reads do not count as octets that the server skips.
func TestLargeChunkRead(t *testing.T) {
	p := dial(t, newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return discard{}, nil
	}), server.Options{Limits: server.Limits{MessageSize: -1}}))
	p.hello()
	p.begin()
	block := strings.Repeat("x", 1<<20)
	for _, last := range []string{"", " LAST"} {
		p.send("BDAT 104857600" + last + "\r\n")
		for range 100 {
			p.send(block)
		}
		p.expect("250 ")
	}
	p.quit()
}

// TestChunksOfOneMessage: the chunks of one message do not count against the next one.
func TestChunksOfOneMessage(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.hello()
	for range 2 {
		p.begin()
		for range 600 {
			p.chunk("BDAT 2", "\r\n", "250")
		}
		p.ask("BDAT 0 LAST", "250")
	}
	p.quit()
}
