package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A delivery is a message that has arrived, for one recipient: the Message-ID and his address.
type delivery struct{ id, to string }

// An outcome is that a message was taken or reported: when, and since when there had been the connection, or the report
// was on its way.
type outcome struct{ at, opened time.Time }

// Receivers are mail servers that do what happens on the internet. The domain of the recipients says how: those of
// good.example accept everything; flaky.example answers with 4yz or hangs up at any step, also in the middle of the
// content, and when it has all of it; bad.example answers with 5yz at some step.
type receivers struct {
	net.Listener
	event func() // is called at each step

	mu    sync.Mutex
	conns map[net.Conn]bool
	got   map[delivery][]outcome
	name  map[string]string // of a Message-ID, the name in the log of the program
	wrong []string          // content that is not what was sent
	done  sync.WaitGroup
}

func newReceivers(t *testing.T, event func()) *receivers {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receivers{Listener: l, event: event, conns: map[net.Conn]bool{}, got: map[delivery][]outcome{},
		name: map[string]string{}}
	r.done.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for conn := range r.conns {
			conn.Close()
		}
		r.mu.Unlock()
		r.done.Wait()
	})
	return r
}

func (r *receivers) accept() {
	for {
		conn, err := r.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns[conn] = true
		r.mu.Unlock()
		r.done.Go(func() {
			s := &reception{receivers: r, conn: conn, opened: time.Now(), r: textproto.NewReader(bufio.NewReader(conn))}
			s.serve()
			conn.Close()
			r.mu.Lock()
			delete(r.conns, conn)
			r.mu.Unlock()
		})
	}
}

// A reception is a connection to the receivers.
type reception struct {
	*receivers
	conn   net.Conn
	opened time.Time
	r      *textproto.Reader
	domain string
	to     []string
}

// step answers a step of the dialogue. It reports whether the step has succeeded, and whether the connection goes on.
func (s *reception) step(success string) (ok, on bool) {
	s.event()
	reply := success
	switch n := rand.IntN(100); {
	case s.domain == "flaky.example" && n < 8:
		return false, false
	case s.domain == "flaky.example" && n < 16:
		reply = "451 4.3.0 not now"
	case s.domain == "bad.example" && n < 40:
		reply = "550 5.7.1 never"
	}
	_, err := fmt.Fprintf(s.conn, "%s\r\n", reply)
	return reply == success, err == nil
}

func (s *reception) serve() {
	if rand.IntN(50) == 0 {
		return // there is a server, and it does not even greet
	}
	fmt.Fprintf(s.conn, "220 receiver.example ESMTP\r\n")
	for {
		line, err := s.r.ReadLine()
		if err != nil || !s.command(line) {
			return
		}
	}
}

func (s *reception) command(line string) (on bool) {
	verb, args, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		_, err := fmt.Fprintf(s.conn, "250-receiver.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		return err == nil
	case "RCPT":
		_, path, _ := strings.Cut(args, "<")
		path, _, _ = strings.Cut(path, ">")
		_, s.domain, _ = strings.Cut(path, "@")
		ok, on := s.step("250 2.1.5 fine")
		if ok {
			s.to = append(s.to, path)
		}
		return on
	case "DATA":
		if len(s.to) == 0 {
			_, err := fmt.Fprintf(s.conn, "503 5.5.1 no recipients\r\n")
			return err == nil
		}
		ok, on := s.step("354 go on")
		if !ok {
			return on
		}
		return s.content()
	case "MAIL", "RSET":
		s.to, s.domain = nil, ""
	case "QUIT":
		fmt.Fprintf(s.conn, "221 2.0.0 bye\r\n")
		return false
	}
	ok, on := s.step("250 2.0.0 fine")
	return ok && on
}

// queued finds the name of the message in its first Received field.
var queued = regexp.MustCompile(`^Received:[^;]*\sid (\w+)`)

// content reads a message. It counts as delivered if a 250 was sent.
func (s *reception) content() bool {
	dot := s.r.DotReader()
	if s.domain == "flaky.example" && rand.IntN(10) == 0 {
		_, _ = io.CopyN(io.Discard, dot, 200)
		return false
	}
	text, err := io.ReadAll(dot)
	if err != nil {
		return false
	}
	id, fault := inspect(string(text))
	s.mu.Lock() // nobody looks between the reply and the record of it
	defer s.mu.Unlock()
	now := time.Now()
	ok, on := s.step("250 2.0.0 kept")
	if fault != "" {
		s.wrong = append(s.wrong, fault)
	}
	if m := queued.FindStringSubmatch(string(text)); m != nil {
		s.name[id] = m[1]
	}
	if ok && on {
		for _, to := range s.to {
			d := delivery{id, to}
			s.got[d] = append(s.got[d], outcome{now, s.opened})
		}
	}
	s.to, s.domain = nil, ""
	return on
}

// compose returns a message that says what its text is.
func compose(id, from string) string {
	text := strings.Repeat(id+" is a line of this message.\r\n", 1+rand.IntN(400))
	return fmt.Sprintf("From: %s\r\nMessage-ID: %s\r\nX-Sum: %x\r\n\r\n%s", from, id, sha256.Sum256([]byte(text)), text)
}

// inspect returns the Message-ID, and what is wrong with the text.
func inspect(message string) (id, fault string) {
	m, err := mail.ReadMessage(strings.NewReader(message))
	if err != nil {
		return "", fmt.Sprintf("%v in %.200q", err, message)
	}
	id = m.Header.Get("Message-ID")
	text, _ := io.ReadAll(m.Body)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.ReplaceAll(string(text), "\n", "\r\n"))))
	if sum != m.Header.Get("X-Sum") {
		return id, fmt.Sprintf("the text of %s has changed to %.200q", id, text)
	}
	return id, ""
}
