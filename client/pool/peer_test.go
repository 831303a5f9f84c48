package pool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto/prototest"
)

func TestMain(m *testing.M) { prototest.Main(m) }

const addr = "mail.example:25"

// A peer is a server that records what it accepts, and does harm where it is told to.
type peer struct {
	keywords []string
	delay    time.Duration          // after which what it says arrives
	harm     func(step string) harm // what happens at a step: "greeting", a verb, or "content"; nil: nothing ever
	dialed   func(n int) error      // an error for the n-th connection; nil: none
	loopback bool                   // over TCP, not in memory
	farewell string                 // said to a client that has said nothing for so long as patience; "": never
	patience time.Duration

	mu       sync.Mutex
	accepted map[string]int // how often each message was accepted, by its first line
	conns    int            // how many there have been
	open     int            // how many the peer has open
	held     int            // how many the client has open
	most     int            // how many there have been at once
	perConn  []int          // how many messages each was sent
	all      sync.WaitGroup
}

// A harm is what a peer does in place of what it should.
type harm struct {
	reply string // in place of the right one; "" is the right one
	close bool   // closes the connection, after the reply if there is one
	stall bool   // says nothing any more
	late  bool   // closes after the right reply was decided on, in place of saying it
}

func (p *peer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	n := p.conns
	p.conns++
	p.perConn = append(p.perConn, 0)
	p.mu.Unlock()
	if p.dialed != nil {
		if err := p.dialed(n); err != nil {
			return nil, err
		}
	}
	here, there := net.Pipe()
	if p.loopback {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		if here, err = new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String()); err != nil {
			return nil, err
		}
		if there, err = l.Accept(); err != nil {
			here.Close()
			return nil, err
		}
	}
	p.mu.Lock()
	p.open++
	p.held++
	p.most = max(p.most, p.held)
	p.mu.Unlock()
	s := &dialogue{peer: p, n: n, conn: there, in: bufio.NewReader(there), flights: make(chan flight, 1000)}
	p.all.Go(s.fly)
	p.all.Go(func() {
		defer close(s.flights)
		s.run()
	})
	return &clientConn{Conn: here, peer: p}, nil
}

// A clientConn is the end of the client.
type clientConn struct {
	net.Conn
	peer *peer
	once sync.Once
}

func (c *clientConn) Close() error {
	c.once.Do(func() {
		c.peer.mu.Lock()
		defer c.peer.mu.Unlock()
		c.peer.held--
	})
	return c.Conn.Close()
}

// options returns options for clients of p.
func (p *peer) options() *client.Options {
	return &client.Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, DialContext: p.dial,
		Timeouts: client.AllTimeouts(5 * time.Second)}
}

func (p *peer) count(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted[name]
}

func (p *peer) figures() (conns, open, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns, p.open, p.most
}

// A dialogue is one connection to a peer.
type dialogue struct {
	*peer
	n    int
	conn net.Conn
	in   *bufio.Reader
	out  strings.Builder

	flights chan flight
	mail    bool
	rcpts   int
	body    strings.Builder
}

// say says what is due at a step, or does harm. It reports false at the end of the dialogue.
func (s *dialogue) say(step, reply string) bool { return s.do(s.at(step), reply) }

// at returns the harm to be done at a step.
func (s *dialogue) at(step string) harm {
	if s.harm == nil {
		return harm{}
	}
	return s.harm(step)
}

// do does the harm h, or else says reply.
func (s *dialogue) do(h harm, reply string) bool {
	switch {
	case h.stall:
		s.flush()
		_, _ = io.Copy(io.Discard, s.in)
		return false
	case h.reply != "":
		s.out.WriteString(h.reply + "\r\n")
	case h.close || h.late:
		return false
	default:
		s.out.WriteString(reply + "\r\n")
	}
	if s.in.Buffered() == 0 || h.close {
		s.flush()
	}
	return !h.close
}

func (s *dialogue) flush() {
	s.flights <- flight{time.Now().Add(s.delay), s.out.String()}
	s.out.Reset()
}

// A flight is what a peer has said, and when it arrives.
type flight struct {
	at   time.Time
	text string
}

// fly has the flights arrive. At the end it closes the connection.
func (s *dialogue) fly() {
	for f := range s.flights {
		time.Sleep(time.Until(f.at))
		_, _ = io.WriteString(s.conn, f.text)
	}
	s.conn.Close()
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
}

// accept takes responsibility for the message.
func (s *dialogue) accept() {
	name, _, _ := strings.Cut(s.body.String(), "\r\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted == nil {
		s.accepted = make(map[string]int)
	}
	s.accepted[name]++
	s.perConn[s.n]++
}

func (s *dialogue) run() {
	if !s.say("greeting", "220 mail.example") {
		return
	}
	for {
		line, err := s.command()
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, args, _ := strings.Cut(line, " ")
		var ok bool
		switch verb {
		case "EHLO":
			lines := append([]string{"mail.example"}, s.keywords...)
			for i, l := range lines[:len(lines)-1] {
				lines[i] = "250-" + l
			}
			lines[len(lines)-1] = "250 " + lines[len(lines)-1]
			ok = s.say(verb, strings.Join(lines, "\r\n"))
		case "MAIL", "RSET":
			s.rcpts = 0
			s.body.Reset()
			h := s.at(verb)
			s.mail = verb == "MAIL" && h == harm{}
			ok = s.do(h, "250 ok")
		case "RCPT":
			ok = s.rcpt()
		case "DATA":
			ok = s.data()
		case "BDAT":
			ok = s.chunk(args)
		case "QUIT":
			s.say(verb, "221 bye")
			return
		default:
			ok = s.say(verb, "502 what?")
		}
		if !ok {
			return
		}
	}
}

// command reads a command, or says farewell.
func (s *dialogue) command() (string, error) {
	if s.farewell != "" {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	}
	line, err := s.in.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.out.WriteString(s.farewell + "\r\n")
		s.flush()
	}
	return line, err
}

func (s *dialogue) rcpt() bool {
	if !s.mail {
		return s.do(harm{}, "503 no")
	}
	h := s.at("RCPT")
	if h == (harm{}) {
		s.rcpts++
	}
	return s.do(h, "250 ok")
}

func (s *dialogue) data() bool {
	if s.rcpts == 0 {
		return s.do(harm{}, "503 no")
	}
	if h := s.at("DATA"); h != (harm{}) || !s.do(h, "354 go on") {
		return h != (harm{}) && s.do(h, "")
	}
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			return s.end()
		}
		s.body.WriteString(strings.TrimPrefix(line, "."))
	}
}

func (s *dialogue) chunk(args string) bool {
	size, last, _ := strings.Cut(args, " ")
	n, _ := strconv.Atoi(size)
	if _, err := io.CopyN(&s.body, s.in, int64(n)); err != nil {
		return false
	}
	switch {
	case s.rcpts == 0:
		return s.do(harm{}, "503 no")
	case last != "":
		return s.end()
	}
	return s.say("BDAT", "250 more")
}

// end ends a message, which is accepted unless harm is done. What is late does harm to the reply alone.
func (s *dialogue) end() bool {
	h := s.at("content")
	if h == (harm{}) || h.late {
		s.accept()
	}
	s.rcpts = 0
	s.body.Reset()
	return s.do(h, "250 queued")
}

// named returns a message with a name, by which the peer knows it.
func named(name string) *client.Message {
	m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader(name+"\r\n"))
	if err != nil {
		panic(err)
	}
	return m
}

// random returns a harm that is done at one step in n.
func random(rnd *rand.Rand, n int) func(string) harm {
	var mu sync.Mutex
	return func(step string) harm {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(n) > 0 {
			return harm{}
		}
		switch rnd.IntN(8) {
		case 0:
			return harm{close: true}
		case 1:
			return harm{stall: true}
		case 2:
			return harm{reply: "421 4.3.2 closing", close: true}
		case 3:
			return harm{reply: fmt.Sprintf("%d no", 450+rnd.IntN(3))}
		case 4:
			return harm{reply: fmt.Sprintf("%d no", 550+rnd.IntN(5))}
		case 5:
			return harm{reply: "\x00garbage\x80"}
		case 6:
			return harm{late: true}
		}
		return harm{reply: "4", close: true}
	}
}
