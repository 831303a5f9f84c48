package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

func abbreviate(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s…%s (%d octets)", s[:100], s[len(s)-60:], len(s))
	}
	return s
}

// oddPieces is a reader that returns 997 octets at most, and cannot seek.
type oddPieces struct{ r io.Reader }

func (o oddPieces) Read(p []byte) (int, error) { return o.r.Read(p[:min(997, len(p))]) }

// collect sends body to a server that offers keywords and returns the octets of the content, as sent, and the MAIL command.
func collect(t *testing.T, body io.Reader, keywords ...string) (content, mail string) {
	t.Helper()
	c, srv := pipe(t, keywords...)
	m := message("", "c@d.example")
	m.Body = body
	if _, err := c.Send(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	c.Close()
	srv.wait()
	return srv.content.String(), srv.mail
}

// A sink is a server that accepts everything, for tests in which a script would be too long. It is written without the engine
// of package proto.
type sink struct {
	conn    net.Conn
	in      *lineReader
	content bytes.Buffer
	mail    string
	done    chan struct{}
	discard bool // do not keep the content
}

// pipe returns a client and the sink it is connected to, which offers keywords.
func pipe(t *testing.T, keywords ...string) (*Client, *sink) {
	t.Helper()
	here, there := net.Pipe()
	s := &sink{conn: here, in: &lineReader{r: here}, done: make(chan struct{})}
	go s.serve(keywords)
	t.Cleanup(s.wait)
	opt := &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone}
	c, err := NewClient(context.Background(), there, "mail.example", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, s
}

func (s *sink) wait() { <-s.done }

func (s *sink) say(text string) { io.WriteString(s.conn, text+"\r\n") }

func (s *sink) serve(keywords []string) {
	defer close(s.done)
	defer s.conn.Close()
	s.say("220 mail.example")
	for {
		line, err := s.in.line()
		if err != nil {
			return
		}
		verb, args, _ := strings.Cut(line, " ")
		switch verb {
		case "EHLO":
			s.say("250-mail.example")
			for _, k := range keywords {
				s.say("250-" + k)
			}
			s.say("250 HELP")
		case "DATA":
			s.say("354 go on")
			for {
				line, err := s.in.raw()
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				if !s.discard {
					s.content.WriteString(line)
				}
			}
			s.say("250 ok")
		case "BDAT":
			var n int64
			fmt.Sscan(args, &n)
			to := io.Writer(&s.content)
			if s.discard {
				to = io.Discard
			}
			if err := s.in.copy(to, n); err != nil {
				return
			}
			s.say("250 ok")
		case "QUIT":
			s.say("221 bye")
			return
		default:
			if verb == "MAIL" {
				s.mail = line
			}
			s.say("250 ok")
		}
	}
}

// A lineReader reads lines that end with CRLF, and nothing else.
type lineReader struct {
	r   io.Reader
	buf []byte
}

func (l *lineReader) raw() (string, error) {
	from := 0
	for {
		if i := bytes.Index(l.buf[from:], []byte("\r\n")); i >= 0 {
			line := string(l.buf[:from+i+2])
			l.buf = l.buf[from+i+2:]
			return line, nil
		}
		from = max(0, len(l.buf)-1)
		if err := l.fill(); err != nil {
			return "", err
		}
	}
}

func (l *lineReader) line() (string, error) {
	s, err := l.raw()
	return strings.TrimSuffix(s, "\r\n"), err
}

func (l *lineReader) fill() error {
	room := make([]byte, 16<<10)
	n, err := l.r.Read(room)
	l.buf = append(l.buf, room[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

func (l *lineReader) copy(w io.Writer, n int64) error {
	for n > 0 {
		if len(l.buf) == 0 {
			if err := l.fill(); err != nil {
				return err
			}
		}
		k := min(n, int64(len(l.buf)))
		w.Write(l.buf[:k])
		l.buf = l.buf[k:]
		n -= k
	}
	return nil
}

// A countingConn counts writes.
type countingConn struct {
	net.Conn
	writes []string
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes = append(c.writes, string(p))
	return c.Conn.Write(p)
}
