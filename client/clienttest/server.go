// Package clienttest has a server that follows a script, for tests of clients: what does the program do if the server
// says this?
//
//	srv := clienttest.New(t, `
//	S: 220 mail.example
//	C: EHLO *
//	S: 250 mail.example
//	C: MAIL FROM:<alice@example.org>
//	S: 451 not now
//	`)
//	opt := &client.Options{DialContext: srv.Dial, TLS: ext.TLSInsecureNone}
//	err := client.Send(ctx, "mail.example:25", opt, m)
//
// The connections are pipes in memory that hold no octets: what one side writes, the other has to read. They work in a
// bubble of testing/synctest, where minutes of waiting take no time.
package clienttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto/prototest"
)

// Hostname is the name that the server's certificate is for.
const Hostname = "mail.example"

// A Server plays scripts, one for each connection.
type Server struct {
	t       testing.TB
	playing sync.WaitGroup

	mu      sync.Mutex
	scripts []*prototest.Script
	next    int
}

// New returns a server that plays the first script on the first connection, and so on. The form of scripts is described
// at [prototest.Script]: a line that begins with "S:" is sent, and one that begins with "C:" is expected of the client,
// where each * stands for any text. "S:" lines that follow each other are sent in one write.
//
// At the end of a script the client may say QUIT, and has to close the connection. CLOSE in the script closes it from
// the server's side. A client also says RSET, after a message of which all recipients were refused for instance: the
// script has to have that.
//
// The test fails if the client does something else, or if a script has not been played at the end of the test. The test
// does not end before the client has closed its connections.
func New(t testing.TB, scripts ...string) *Server {
	t.Helper()
	s := &Server{t: t}
	for i, text := range scripts {
		script, err := prototest.Parse(fmt.Sprintf("script %d", i+1), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		s.scripts = append(s.scripts, script)
	}
	t.Cleanup(func() {
		s.Wait()
		if s.next < len(s.scripts) {
			t.Errorf("the client made %d connections, and there are %d scripts", s.next, len(s.scripts))
		}
	})
	return s
}

// Dial returns a connection to the server, which begins to play the next script. It is for client.Options.DialContext.
func (s *Server) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == len(s.scripts) {
		s.t.Errorf("the client makes more connections than the %d that there are scripts for", s.next)
		return nil, errors.New("clienttest: no script is left")
	}
	script := s.scripts[s.next]
	s.next++
	here, there := net.Pipe()
	s.playing.Go(func() {
		p := &player{conn: here}
		defer func() { p.conn.Close() }()
		if err := p.play(script); err != nil {
			s.t.Errorf("%v", err)
		}
	})
	return there, nil
}

// Wait returns when all scripts that were begun have been played, and the client has closed the connections.
func (s *Server) Wait() { s.playing.Wait() }

// A player plays the server's side of a script.
type player struct {
	conn net.Conn
	buf  []byte
}

func (p *player) play(script *prototest.Script) error {
	steps := script.Steps
	for i := 0; i < len(steps); i++ {
		st := &steps[i]
		var err error
		switch st.Kind {
		case prototest.Line:
			var out []byte
			for ; i < len(steps) && steps[i].Kind == prototest.Line; i++ {
				out = append(out, steps[i].Text+"\r\n"...)
			}
			i--
			_, err = p.conn.Write(out)
		case prototest.Reply:
			if !st.Optional {
				_, err = fmt.Fprintf(p.conn, "%s ok\r\n", strings.NewReplacer("x", "0", "y", "5", "z", "0").Replace(st.Text))
			}
		case prototest.Send:
			err = p.expect(st)
		case prototest.TLS:
			err = p.startTLS()
		case prototest.Close:
			return nil
		case prototest.Hangup:
			return at(script, st.Line, p.hangup())
		}
		if err != nil {
			return at(script, st.Line, err)
		}
	}
	return at(script, 0, p.hangup())
}

func at(script *prototest.Script, line int, err error) error {
	switch {
	case err == nil:
		return nil
	case line == 0:
		return fmt.Errorf("%s: at the end: %w", script.Name, err)
	}
	return fmt.Errorf("%s:%d: %w", script.Name, line, err)
}

// expect reads what the client has to send.
func (p *player) expect(st *prototest.Step) error {
	if st.Text == "" && !bytes.Equal(st.Raw, []byte("\r\n")) {
		got, err := p.read(len(st.Raw))
		if err != nil {
			return fmt.Errorf("want %q: %w", clip(st.Raw), err)
		}
		if !bytes.Equal(got, st.Raw) {
			return fmt.Errorf("the client sent %q, want %q", clip(got), clip(st.Raw))
		}
		return nil
	}
	line, err := p.line()
	if err != nil {
		return fmt.Errorf("want %q: %w", st.Text, err)
	}
	if !prototest.Match(st.Text, line) {
		return fmt.Errorf("the client sent %q, want %q", line, st.Text)
	}
	return nil
}

func clip(p []byte) []byte { return p[:min(len(p), 200)] }

// line reads a line, without its CRLF.
func (p *player) line() (string, error) {
	for {
		if i := bytes.Index(p.buf, []byte("\r\n")); i >= 0 {
			line := string(p.buf[:i])
			p.buf = p.buf[i+2:]
			return line, nil
		}
		if err := p.fill(); err != nil {
			return "", err
		}
	}
}

func (p *player) read(n int) ([]byte, error) {
	for len(p.buf) < n {
		if err := p.fill(); err != nil {
			return nil, err
		}
	}
	got := p.buf[:n]
	p.buf = p.buf[n:]
	return got, nil
}

func (p *player) fill() error {
	room := make([]byte, 32<<10)
	n, err := p.conn.Read(room)
	p.buf = append(p.buf, room[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// hangup waits for the client to close the connection, with or without QUIT.
func (p *player) hangup() error {
	line, err := p.line()
	if err == nil && line == "QUIT" {
		if _, err = p.conn.Write([]byte("221 bye\r\n")); err == nil {
			line, err = p.line()
		}
	}
	if err == nil {
		return fmt.Errorf("the client sent %q, want the end of the connection", line)
	}
	if len(p.buf) > 0 {
		return fmt.Errorf("the client sent %q, want the end of the connection", clip(p.buf))
	}
	return nil
}

func (p *player) startTLS() error {
	id, err := authority()
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{id.cert}}
	secured := tls.Server(ext.PrefixConn(newEager(p.conn), bytes.Clone(p.buf)), config)
	p.conn, p.buf = secured, nil
	if err := secured.Handshake(); err != nil {
		return fmt.Errorf("the TLS handshake: %w", err)
	}
	return nil
}

// An eager connection does not wait for what it writes to be read: when a handshake fails, both sides of crypto/tls
// write at once, and over a pipe that holds nothing they would wait for each other.
type eager struct {
	net.Conn
	queue chan []byte
	done  chan struct{}
}

func newEager(conn net.Conn) *eager {
	e := &eager{Conn: conn, queue: make(chan []byte, 64), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for p := range e.queue {
			e.Conn.Write(p) // an error will show when the answer is read
		}
	}()
	return e
}

func (e *eager) Write(p []byte) (int, error) {
	e.queue <- bytes.Clone(p)
	return len(p), nil
}

func (e *eager) Close() error {
	close(e.queue)
	<-e.done
	return e.Conn.Close()
}

// TLSConfig returns a client's configuration that trusts the server's certificate, which is for Hostname and 127.0.0.1.
func TLSConfig() *tls.Config {
	id, err := authority()
	if err != nil {
		panic(err)
	}
	return &tls.Config{RootCAs: id.roots}
}

// Certificate returns the server's certificate and its key, for other servers in tests.
func Certificate() tls.Certificate {
	id, err := authority()
	if err != nil {
		panic(err)
	}
	return id.cert
}

// An identity is a certificate and the pool of which it is the root.
type identity struct {
	cert  tls.Certificate
	roots *x509.CertPool
}

// authority makes the certificate once. It was valid when the clock of a synctest bubble begins, and will be for long.
var authority = sync.OnceValues(makeCertificate)

func makeCertificate() (identity, error) {
	cert, roots, err := prototest.NewCertificate(Hostname, "127.0.0.1")
	return identity{cert, roots}, err
}
