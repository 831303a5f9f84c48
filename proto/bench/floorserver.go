package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// A serverWorker is a server under test.
type serverWorker struct {
	started
	counter counter
}

func (w *serverWorker) run(int) error { return errors.New("a server does not run by itself") }

func (w *serverWorker) got() (messages, octets int64) {
	return w.counter.messages.Load(), w.counter.octets.Load()
}

func (w *serverWorker) addr() string { return w.started.addr }

// startServer starts the server of a library.
func (r *role) startServer() (worker, error) {
	raiseFiles()
	w := new(serverWorker)
	var err error
	switch r.By {
	case "raw":
		w.started, err = r.serveRaw(&w.counter)
	case "smtpkit":
		w.started, err = r.serveKit(&w.counter)
	case "go-smtp":
		w.started, err = r.serveGo(&w.counter)
	default:
		err = fmt.Errorf("no server %q", r.By)
	}
	return w, err
}

// tlsConfig returns a configuration with a certificate made for it, nil without TLS.
func (r *role) tlsConfig() (*tls.Config, error) {
	if !r.TLS {
		return nil, nil
	}
	cert, _, err := prototest.NewCertificate("bench.example")
	return &tls.Config{Certificates: []tls.Certificate{cert}}, err
}

// begin starts srv on the loopback interface, with implicit TLS if there is a configuration.
func begin(config *tls.Config, serve func(net.Listener) error, stop func() error) (started, error) {
	l, err := listen()
	if err != nil {
		return started{}, err
	}
	addr := l.Addr().String()
	if config != nil {
		l = tls.NewListener(l, config)
	}
	go func() { _ = serve(l) }()
	return started{addr, stop}, nil
}

func (r *role) serveKit(c *counter) (started, error) {
	config, err := r.tlsConfig()
	if err != nil {
		return started{}, err
	}
	opt := &server.Options{Hostname: "bench.example"}
	opt.Limits.ConnsPerHost = -1
	opt.Limits.Conns = -1
	opt.Limits.MessageSize = -1
	srv, err := server.New(kitBackend(c), opt)
	if err != nil {
		return started{}, err
	}
	return begin(config, srv.Serve, srv.Close)
}

func (r *role) serveGo(c *counter) (started, error) {
	config, err := r.tlsConfig()
	if err != nil {
		return started{}, err
	}
	srv := gosmtp.NewServer(goBackend{c})
	srv.Domain = "bench.example"
	srv.ErrorLog = log.New(io.Discard, "", 0)
	return begin(config, srv.Serve, srv.Close)
}

// serveRaw starts the floor: a server that parses nothing. It knows how many octets each message has, and writes
// prepared replies.
func (r *role) serveRaw(c *counter) (started, error) {
	config, err := r.tlsConfig()
	if err != nil {
		return started{}, err
	}
	var l net.Listener
	serve := func(listener net.Listener) error {
		l = listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return err
			}
			go r.rawConn(conn, c)
		}
	}
	return begin(config, serve, func() error { return l.Close() })
}

// goodbye is what follows the only message of a connection.
var goodbye = &prepared{parts: [][]byte{[]byte("QUIT\r\n")}, replies: []string{"221 bye\r\n"}}

// rawConn serves a connection.
func (r *role) rawConn(conn net.Conn, c *counter) {
	defer conn.Close()
	if r.Kind == "idle" {
		rawIdle(conn)
		return
	}
	if !say(conn, "220 raw\r\n") || !skipLine(conn) || !say(conn, "250-raw\r\n250-PIPELINING\r\n250 CHUNKING\r\n") {
		return
	}
	m := r.message()
	buf, out := make([]byte, 64<<10), make([]byte, 0, 64<<10)
	part, left := 0, len(m.parts[0])
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for out = out[:0]; n >= left; { // the end of a part, or of several
			n -= left
			out = append(out, m.replies[part]...)
			if part++; part == len(m.parts) {
				part = 0
				if m == goodbye {
					say(conn, goodbye.replies[0])
					return
				}
				c.octets.Add(int64(len(m.text)))
				c.messages.Add(1)
				if r.Kind == "new" {
					m = goodbye
				}
			}
			left = len(m.parts[part])
		}
		left -= n
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
	}
}

// rawIdle is the least that a connection holds which waits: a goroutine with a small buffer.
func rawIdle(conn net.Conn) {
	buf := make([]byte, 512)
	if !say(conn, "220 raw\r\n") {
		return
	}
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if bytes.HasSuffix(buf[:n], []byte("\n")) && !say(conn, "250 raw\r\n") {
			return
		}
	}
}

func say(conn net.Conn, text string) bool {
	_, err := io.WriteString(conn, text)
	return err == nil
}

// skipLine reads a line, octet by octet.
func skipLine(conn net.Conn) bool {
	for b := []byte{0}; b[0] != '\n'; {
		if _, err := conn.Read(b); err != nil {
			return false
		}
	}
	return true
}

// A prepared message is what a load sends for a message, in parts that each wait for replies. With PIPELINING the first
// part of the next message goes along with the last one of this.
type prepared struct {
	text    []byte // the content
	next    []byte // the last part, and the first one of the next message
	parts   [][]byte
	replies []string // of the raw server
	lines   []int    // how many lines these are
}

// message prepares the message of the role.
func (r *role) message() *prepared {
	m := &prepared{text: workload{size: r.Size}.text()}
	var group strings.Builder
	group.WriteString("MAIL FROM:<" + mailFrom + ">\r\n")
	for _, to := range r.recipients() {
		group.WriteString("RCPT TO:<" + to + ">\r\n")
	}
	const ok = "250 2.0.0 OK\r\n"
	if r.Kind == "bdat" {
		fmt.Fprintf(&group, "BDAT %d LAST\r\n", len(m.text))
		m.parts = [][]byte{append([]byte(group.String()), m.text...)}
		m.replies = []string{strings.Repeat(ok, r.Rcpts+2)}
		m.lines = []int{r.Rcpts + 2}
		return m
	}
	group.WriteString("DATA\r\n")
	m.parts = [][]byte{[]byte(group.String()), append(bytes.Clone(m.text), ".\r\n"...)}
	m.replies = []string{strings.Repeat(ok, r.Rcpts+1) + "354 go ahead\r\n", ok}
	m.lines = []int{r.Rcpts + 2, 1}
	m.next = append(bytes.Clone(m.parts[1]), m.parts[0]...)
	return m
}

// recipients returns the recipients of a message, each another one.
func (r *role) recipients() []string {
	var to []string
	for i := range max(1, r.Rcpts) {
		to = append(to, fmt.Sprintf("user%d@d.example", i))
	}
	return to
}
