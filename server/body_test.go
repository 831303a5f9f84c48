package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestBackpressure: the server does not read from the client while the session does not read.
func TestBackpressure(t *testing.T) {
	var read atomic.Int64
	proceed := make(chan struct{})
	st := &store{data: func(_ context.Context, r io.Reader) error {
		<-proceed
		_, err := io.Copy(io.Discard, r)
		return err
	}}
	here, there := net.Pipe()
	p := dialOver(t, newServer(t, st, server.Options{}), here, counted{there, &read})
	p.hello()
	p.begin()
	p.ask("DATA", "354 ")
	before := read.Load()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(here, strings.Repeat("12345678\r\n", 100_000)+".\r\n")
	}()
	if got := read.Load(); got != before {
		t.Errorf("the server read %d octets that nobody wants yet", got-before)
	}
	close(proceed)
	<-sent
	p.expect("250 ")
	p.quit()
}

type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestF05F07_ContentIsExact(t *testing.T) {
	const text = "Subject: x\r\n\r\n.dot\r\n..two\r\n\r\nno\x00 \xff end\r\n"
	for name, read := range map[string]func(io.Reader) (string, error){
		"ReadAll": func(r io.Reader) (string, error) {
			b, err := io.ReadAll(r)
			return string(b), err
		},
		"octets": func(r io.Reader) (string, error) {
			b, err := io.ReadAll(iotest.OneByteReader(r))
			return string(b), err
		},
		"WriteTo": func(r io.Reader) (string, error) {
			var b strings.Builder
			n, err := io.Copy(&b, r)
			if n != int64(b.Len()) {
				t.Errorf("WriteTo returned %d after %d octets", n, b.Len())
			}
			return b.String(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) (err error) {
				got, err = read(r)
				for range 2 {
					if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Errorf("Read after the end returned %d, %v", n, err)
					}
				}
				return err
			})
			stuffed := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:]
			p.ask("DATA", "354 ", stuffed+".", "250 ")
			if got != text {
				t.Errorf("got %q, want %q", got, text)
			}
			p.quit()
		})
	}
}

func TestReaderRefusesContent(t *testing.T) {
	for _, c := range []struct {
		name, content, want string
	}{
		{"too large", strings.Repeat("12345678\r\n", 1000), "552 5.3.4"},
		{"one long line", strings.Repeat("x", 10000) + "\r\n", "552 5.3.4"},
		{"bare LF", "a\n.\nb\r\n", "554 5.6.0"},
		{"bare CR", "a\r.\rb\r\n", "554 5.6.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got error
			p, st := withData(t, server.Options{Limits: server.Limits{MessageSize: 5000}}, func(_ context.Context, r io.Reader) error {
				_, got = io.Copy(io.Discard, r)
				return errors.New("something else") // must not become 451
			})
			p.ask("DATA", "354 ", c.content+".", c.want, "RCPT TO:<c@d.example>", "503 ")
			var e *proto.Error
			if !errors.As(got, &e) || !strings.HasPrefix(c.want, strconv.Itoa(e.Code)) {
				t.Errorf("the reader returned %v, want a *proto.Error", got)
			}
			if len(st.messages()) > 0 {
				t.Error("a message was kept")
			}
			p.quit()
		})
	}
}

func TestNoLimitOfSize(t *testing.T) {
	p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: -1}}, nil)
	p.ask("DATA", "354 ", strings.Repeat("12345678\r\n", 1000)+".", "250 ")
	p.quit()
}

func TestReaderAfterData(t *testing.T) {
	var kept io.Reader
	p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
		kept = r
		return nil
	})
	p.ask("DATA", "354 ", "hello\r\n.", "250 ")
	p.quit()
	if n, err := kept.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("Read after Data returned %d, %v", n, err)
	}
}

// TestI09Z184_MinRate: after MinRateGrace, content has to arrive at 100 octets per second.
func TestI09Z184_MinRate(t *testing.T) {
	trickle := func(t *testing.T, size int) time.Duration {
		p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		p.ask("DATA", "354 ")
		start := time.Now()
		for time.Since(start) < time.Hour {
			select {
			case line := <-p.lines:
				if !strings.HasPrefix(line, "421 4.4.2") {
					t.Errorf("the server says %q", line)
				}
				<-p.done
				return time.Since(start)
			case <-time.After(time.Second):
				p.send(strings.Repeat("x", size))
			}
		}
		p.ask("\r\n.", "250 ")
		p.quit()
		return time.Since(start)
	}
	synctest.Test(t, func(t *testing.T) {
		if got := trickle(t, 99); got < 10*time.Minute || got > 10*time.Minute+2*time.Second {
			t.Errorf("99 octets a second were taken for %v, want 10 minutes", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if got := trickle(t, 101); got != time.Hour {
			t.Errorf("101 octets a second were taken for %v", got)
		}
	})
}

// TestM05M06_DeclaredSize: a message may be larger than MAIL declared, up to the limit.
func TestM05M06_DeclaredSize(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{Limits: server.Limits{MessageSize: 600}}))
	p.hello()
	line := strings.Repeat("x", 98) + "\r\n"
	for lines, want := range map[int]string{5: "250 ", 6: "250 ", 7: "552 5.3.4"} {
		p.ask("MAIL FROM:<a@b.example> SIZE=5", "250 ", "RCPT TO:<c@d.example>", "250 ",
			"DATA", "354 ", strings.Repeat(line, lines)+".", want)
		got := st.messages()
		if stored := len(got) > 0 && got[len(got)-1] == strings.Repeat(line, lines); stored != (want == "250 ") {
			t.Errorf("%d octets are kept as they came: %v", lines*len(line), stored)
		}
	}
	p.quit()
}

// TestM11_EightBit: all octets of a message arrive as the client sent them, in lines of 998 octets and in longer ones.
func TestM11_EightBit(t *testing.T) {
	var octets []byte
	for b := 1; b < 256; b++ {
		if b != '\r' && b != '\n' {
			octets = append(octets, byte(b))
		}
	}
	octets = bytes.Repeat(octets, 40)
	content := fmt.Sprintf("%s\r\n%s\r\n%s\r\n", octets[:998], octets[998:1998], octets[1998:])
	for _, say := range []string{"DATA", "BDAT"} {
		st := &store{}
		p := dial(t, newServer(t, st, server.Options{}))
		p.hello()
		p.ask("MAIL FROM:<a@b.example> BODY=8BITMIME", "250 ", "RCPT TO:<c@d.example>", "250 ")
		if say == "DATA" {
			p.ask("DATA", "354 ", content+".", "250 ")
		} else {
			p.chunk(fmt.Sprintf("BDAT %d LAST", len(content)), content, "250 ")
		}
		if got := st.messages(); len(got) != 1 || got[0] != content {
			t.Errorf("%s: the message is not what was sent", say)
		}
		p.quit()
	}
}

// TestRateOfOneMessage: the time that was waited for a message does not count against the next one.
func TestRateOfOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, newServer(t, &store{}, server.Options{
			Limits:   server.Limits{MinRate: 100},
			Timeouts: server.Timeouts{MinRateGrace: 10 * time.Second},
		}))
		p.hello()
		for range 3 {
			p.begin()
			p.ask("DATA", "354")
			time.Sleep(8 * time.Second)
			p.ask("a\r\n.", "250")
		}
		p.quit()
	})
}
