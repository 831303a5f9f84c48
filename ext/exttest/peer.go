package exttest

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// An answer is a reply as it came, with all its lines. The zero value means that there was none.
type answer struct {
	code int
	raw  string
}

func (a answer) String() string {
	if a.code == 0 {
		return "not at all"
	}
	return strconv.Quote(a.raw)
}

// A peer is a client that can send any octets to a server.
type peer struct {
	raw     net.Conn
	conn    net.Conn    // raw, or TLS over it
	answers chan answer // what listen has received
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the server has ended the connection
	delays  *delays
	late    bool // the last reply did not come in time
}

// pipe connects to srv over a pipe in memory and returns the client's end. Cancel ends the connection, and ended is
// closed when the server has ended it.
func pipe(srv *server.Server, secure bool) (near net.Conn, cancel context.CancelFunc, ended chan struct{}) {
	near, far := net.Pipe()
	var theirs net.Conn = addressed{far}
	if secure {
		theirs = tls.Server(theirs, serverTLS())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.ServeConn(ctx, theirs) // the client sees how the connection ends
	}()
	return near, cancel, ended
}

// addressed is the server's end of a pipe, with addresses of the loopback.
type addressed struct{ net.Conn }

func (addressed) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2525} }
func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}}
}

func clientTLS() *tls.Config {
	c := clienttest.TLSConfig()
	c.ServerName = clienttest.Hostname
	return c
}

// dial connects to srv and waits for the greeting.
func (st *setting) dial(srv *server.Server) *peer {
	t := &peer{answers: make(chan answer, 1<<10), delays: st.delays}
	t.raw, t.cancel, t.ended = pipe(srv, st.tls)
	t.conn = t.raw
	if st.tls {
		t.conn = tls.Client(t.raw, clientTLS())
	}
	go t.listen()
	t.receive()
	return t
}

// listen receives all replies, so that the server never waits for the client to read.
func (t *peer) listen() {
	defer close(t.answers)
	r := bufio.NewReader(t.conn)
	raw := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		raw += line
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		code, _ := strconv.Atoi(line[:min(3, len(line))])
		t.answers <- answer{code, raw}
		raw = ""
	}
}

// send sends octets. It ignores errors: if the server does not take the octets, there is no reply either.
func (t *peer) send(octets string) {
	_ = t.conn.SetWriteDeadline(time.Now().Add(timeout))
	_, _ = io.WriteString(t.conn, octets)
}

// receive returns the next reply.
func (t *peer) receive() (a answer) {
	t.late = !t.delays.wait(func(limit <-chan time.Time) bool {
		select {
		case a = <-t.answers:
			return true
		case <-limit:
			return false
		}
	})
	return a
}

// delays counts what did not come in time.
type delays struct{ times atomic.Int64 }

// maxDelays is how often something may be late before the test is given up.
const maxDelays = 3

func (s *delays) exceeded() bool { return s.times.Load() >= maxDelays }

// wait calls f, which waits for something or for limit, and reports whether it came in time. Once there are too many
// delays, it waits only briefly.
func (s *delays) wait(f func(limit <-chan time.Time) bool) bool {
	d := timeout
	if s.exceeded() {
		d /= 100
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	ok := f(timer.C)
	if !ok {
		s.times.Add(1)
	}
	return ok
}

// closed waits until c is closed, and reports whether that was in time.
func (s *delays) closed(c <-chan struct{}) bool {
	return s.wait(func(limit <-chan time.Time) bool {
		select {
		case <-c:
			return true
		case <-limit:
			return false
		}
	})
}

// command sends a line and returns the reply.
func (t *peer) command(line string) answer {
	t.send(line + "\r\n")
	return t.receive()
}

// close ends the connection, and waits for the server to end it as well.
func (t *peer) close() {
	t.raw.Close()
	for range t.answers {
		// unread replies must not block listen
	}
	t.delays.closed(t.ended)
	t.cancel()
}

// minimalSession is a session that accepts everything and has no optional methods, but those of part.
type minimalSession struct {
	rec  *record
	part any // the session of the sample, or nil
}

// A record has what sessions got.
type record struct {
	mail, rcpt []proto.Params
	messages   int
}

func (b *minimalSession) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	if b.rec != nil {
		b.rec.mail = append(b.rec.mail, p)
	}
	if s, ok := b.part.(server.Session); ok {
		return s.Mail(ctx, from, p)
	}
	return nil
}

func (b *minimalSession) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	if b.rec != nil {
		b.rec.rcpt = append(b.rec.rcpt, p)
	}
	if s, ok := b.part.(server.Session); ok {
		return s.Rcpt(ctx, to, p)
	}
	return nil
}

func (b *minimalSession) Data(ctx context.Context, r io.Reader) error {
	if b.rec != nil {
		b.rec.messages++
	}
	if s, ok := b.part.(server.Session); ok {
		return s.Data(ctx, r)
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// Unwrap returns the session of the sample.
func (b *minimalSession) Unwrap() any { return b.part }

// offers finds the lines with the keyword in the reply to EHLO. It returns the arguments of the last one, and the
// number of lines.
func offers(a answer, keyword string) (args string, times int) {
	for line := range strings.Lines(a.raw) {
		word, rest, _ := strings.Cut(strings.TrimRight(line[min(4, len(line)):], "\r\n"), " ")
		if word == keyword {
			args = rest
			times++
		}
	}
	return args, times
}

// login returns an extension by which a client authenticates as name with one command.
func login(name string) ext.Extension {
	return ext.Extension{
		Keyword: "XEXTTEST",
		Verbs:   []proto.Verb{{Name: "XEXTTEST", In: proto.Ready, Last: true, BeforeAuth: true}},
		Serve: func(_ context.Context, x ext.Command) (proto.Reply, error) {
			x.AuthOutcome(ext.AuthOutcome{Identity: name})
			return proto.Reply{}, nil
		},
		Negotiate: func(ctx context.Context, d ext.Negotiation) error {
			_, err := d.Do(ctx, "XEXTTEST", "")
			return err
		},
	}
}
