package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

const host = clienttest.Hostname + ":25"

// inPlaintext returns options for a session in plaintext with srv.
func inPlaintext(srv *clienttest.Server) *Options {
	return &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, DialContext: srv.Dial}
}

// dial returns a client of a server that plays scripts, one for each connection.
func dial(t *testing.T, change func(*Options), scripts ...string) *Client {
	t.Helper()
	opt := inPlaintext(clienttest.New(t, scripts...))
	if change != nil {
		change(opt)
	}
	c, err := Dial(context.Background(), host, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// message returns a message to recipients, from a@b.example.
func message(body string, to ...string) *Message {
	m, err := NewMessage("a@b.example", to, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	return m
}

// codes returns the codes of the errors of recipients, 0 for those that are served and -1 for errors without a code.
func codes(res *Result) string {
	var b bytes.Buffer
	for _, r := range res.Recipients {
		code := 0
		if r.Err != nil {
			code = -1
			if e, ok := asReply(r.Err); ok {
				code = e.Code
			}
		}
		fmt.Fprintf(&b, " %d", code)
	}
	return strings.TrimSpace(b.String())
}

func asReply(err error) (*proto.Error, bool) {
	for e := err; e != nil; {
		if p, ok := e.(*proto.Error); ok {
			return p, true
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			return nil, false
		}
		e = u.Unwrap()
	}
	return nil, false
}

// hello is how a session with a server begins that offers keywords.
func hello(keywords ...string) string {
	lines := append([]string{"mail.example"}, keywords...)
	var b strings.Builder
	b.WriteString("S: 220 mail.example\nC: EHLO client.example\n")
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		b.WriteString("S: 250" + sep + l + "\n")
	}
	return b.String()
}

// firstData and firstChunk are the dialogue of sendFirst, with DATA and with chunks.
const (
	firstData  = "C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go on\nC: hello\nC: .\nS: 250 ok\n"
	firstChunk = "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\nS: 250 ok\nS: 250 ok\nS: 250 ok\n"
)

// sendFirst sends the first message of a session, behind which SendAll sends no other before its outcome is known.
func sendFirst(t *testing.T, c *Client) {
	t.Helper()
	if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
		t.Fatal(err)
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

func abbreviate(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s…%s (%d octets)", s[:100], s[len(s)-60:], len(s))
	}
	return s
}

// oddPieces is a reader that returns 997 octets at most, and cannot seek.
type oddPieces struct{ r io.Reader }

func (o oddPieces) Read(p []byte) (int, error) { return o.r.Read(p[:min(997, len(p))]) }

// collect sends body to a server that offers keywords and returns the octets of the content, as sent, and the MAIL
// command.
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

// A sink is a server that accepts everything, for tests in which a script would be too long. It is written without the
// engine of package proto.
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

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
