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

// An answer is a reply as it came, with all of its lines. The zero value stands for none.
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

// A talk is a connection to a server, over which a client says whatever it likes.
type talk struct {
	raw     net.Conn
	conn    net.Conn // raw, or TLS over it
	answers chan answer
	cancel  context.CancelFunc
	ended   chan struct{}
	slow    *slowness
	late    bool // a reply did not come in time
}

// pipe connects to srv over a pipe whose ends have addresses of the loopback. It returns the client's end.
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
		_ = srv.ServeConn(ctx, theirs) // how the connection ends is seen from the other side
	}()
	return near, cancel, ended
}

// addressed is the server's end of a pipe.
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
func (st *stage) dial(srv *server.Server) *talk {
	t := &talk{answers: make(chan answer, 1<<10), slow: st.slow}
	t.raw, t.cancel, t.ended = pipe(srv, st.tls)
	t.conn = t.raw
	if st.tls {
		t.conn = tls.Client(t.raw, clientTLS())
	}
	go t.listen()
	t.hear()
	return t
}

// listen reads what the server says, so that neither end waits for the other to read.
func (t *talk) listen() {
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

// say sends octets. What the server does not take is not missed here: then there is no reply either.
func (t *talk) say(octets string) {
	_ = t.conn.SetWriteDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(t.conn, octets)
}

// hear returns the next reply.
func (t *talk) hear() (a answer) {
	t.late = !t.slow.within(func(limit <-chan time.Time) bool {
		select {
		case a = <-t.answers:
			return true
		case <-limit:
			return false
		}
	})
	return a
}

// A slowness counts what did not come in time.
type slowness struct{ times atomic.Int64 }

// mostSlow is how often something may not come in time before the test is given up.
const mostSlow = 3

func (s *slowness) exceeded() bool { return s.times.Load() >= mostSlow }

// within calls f, which waits for something until the limit, and reports whether that came. Where much did not come, the wait
// is short.
func (s *slowness) within(f func(limit <-chan time.Time) bool) bool {
	d := patience
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

// done waits until c is closed.
func (s *slowness) done(c <-chan struct{}) bool {
	return s.within(func(limit <-chan time.Time) bool {
		select {
		case <-c:
			return true
		case <-limit:
			return false
		}
	})
}

// ask says a line and returns the reply.
func (t *talk) ask(line string) answer {
	t.say(line + "\r\n")
	return t.hear()
}

// close ends the connection, and waits for the server to end it as well.
func (t *talk) close() {
	t.raw.Close()
	for range t.answers {
		// what nobody has asked for must not keep listen
	}
	t.slow.done(t.ended)
	t.cancel()
}

// bare is a session that has no more methods than it must, and takes everything.
type bare struct {
	told *record
	part any // what takes part in the extension, or nil
}

// A record is what sessions are told.
type record struct {
	mail, rcpt []proto.Params
	messages   int
}

func (b *bare) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	if b.told != nil {
		b.told.mail = append(b.told.mail, p)
	}
	if s, ok := b.part.(server.Session); ok {
		return s.Mail(ctx, from, p)
	}
	return nil
}

func (b *bare) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	if b.told != nil {
		b.told.rcpt = append(b.told.rcpt, p)
	}
	if s, ok := b.part.(server.Session); ok {
		return s.Rcpt(ctx, to, p)
	}
	return nil
}

func (b *bare) Data(ctx context.Context, r io.Reader) error {
	if b.told != nil {
		b.told.messages++
	}
	if s, ok := b.part.(server.Session); ok {
		return s.Data(ctx, r)
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// Unwrap returns what takes part in the extension.
func (b *bare) Unwrap() any { return b.part }

// offers finds the line of the keyword in the reply to EHLO. It returns how many there are.
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

// login is an extension by which a client authenticates as name, without further ado.
func login(name string) ext.Extension {
	return ext.Extension{
		Keyword: "XEXTTEST",
		Verbs:   []proto.Verb{{Name: "XEXTTEST", In: proto.Ready, Last: true, BeforeAuth: true}},
		Serve: func(_ context.Context, x ext.Command) (proto.Reply, error) {
			x.Authenticated(name)
			return proto.Reply{}, nil
		},
		Negotiate: func(ctx context.Context, d ext.Negotiation) error {
			_, err := d.Do(ctx, "XEXTTEST", "")
			return err
		},
	}
}
