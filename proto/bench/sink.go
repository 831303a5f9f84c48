package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A sink is the server that every client sends to. It parses no more than it needs to find the ends of commands and of
// content, accepts everything and keeps nothing. It allocates nothing for a message.
type sink struct {
	listener net.Listener
	group    sync.WaitGroup
	mutex    sync.Mutex
	conns    []net.Conn
	closed   bool
	open     int // connections
	most     int // connections that were open at once

	offer string // the reply to EHLO

	// quiet is how long a client has to be quiet before it gets replies. Zero is not at all. A client that is quiet waits
	// for the server, so that the flights of replies are the round trips.
	quiet time.Duration

	messages atomic.Int64
	octets   atomic.Int64 // of content, as on the wire
	trips    atomic.Int64 // flights of replies
}

// sinkOffer ends the reply to EHLO. With sinkChunking it is what Postfix advertises by default, except STARTTLS, VRFY
// and ETRN.
const sinkOffer = "250-PIPELINING\r\n" +
	"250-SIZE 67108864\r\n" +
	"250-ENHANCEDSTATUSCODES\r\n" +
	"250-8BITMIME\r\n" +
	"250-DSN\r\n" +
	"250 SMTPUTF8\r\n"

const (
	sinkName     = "250-sink.example\r\n"
	sinkChunking = "250-CHUNKING\r\n"
	sinkGreeting = "220 sink.example\r\n"
	sinkOK       = "250 2.0.0 OK\r\n"
	sinkGo       = "354 go ahead\r\n"
	sinkBye      = "221 2.0.0 bye\r\n"
	sinkUnknown  = "500 5.5.1 unknown\r\n"

	sinkBuffer = 256 << 10
)

// sinkOptions are the options of a sink.
type sinkOptions struct {
	quiet      time.Duration // see sink.quiet
	noChunking bool          // CHUNKING is not advertised
	delay      time.Duration // after which replies leave
}

// startSink starts a sink on the loopback interface. Close stops it.
func startSink(opt sinkOptions) (*sink, error) {
	l, err := listen()
	if err != nil {
		return nil, err
	}
	s := &sink{listener: l, offer: sinkName + sinkChunking + sinkOffer, quiet: opt.quiet}
	if opt.noChunking {
		s.offer = sinkName + sinkOffer
	}
	s.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if opt.delay > 0 {
				conn = newLongLine(conn, opt.delay)
			}
			s.mutex.Lock()
			if s.closed {
				conn.Close()
			}
			s.conns = append(s.conns, conn)
			s.mutex.Unlock()
			s.group.Go(func() { s.serve(conn) })
		}
	})
	return s, nil
}

func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

func (s *sink) Addr() string { return s.listener.Addr().String() }

// Close closes the listener and all connections.
func (s *sink) Close() error {
	err := s.listener.Close()
	s.mutex.Lock()
	s.closed = true
	for _, conn := range s.conns {
		conn.Close()
	}
	s.mutex.Unlock()
	s.group.Wait()
	return err
}

func (s *sink) serve(conn net.Conn) {
	defer conn.Close()
	p := sinkParser{sink: s, out: make([]byte, 0, 64<<10)}
	s.count(1)
	defer func() {
		if !p.done {
			s.count(-1)
		}
	}()
	if _, err := conn.Write([]byte(sinkGreeting)); err != nil {
		return
	}
	buf, n := make([]byte, sinkBuffer), 0
	for !p.done {
		got, err := s.read(conn, buf[n:], len(p.out) > 0)
		if err != nil {
			return
		}
		n += got
		n = copy(buf, buf[p.parse(buf[:n]):n])
		if p.done {
			s.count(-1) // before the client knows, and makes another connection
		}
		if n == len(buf) {
			return // a command line that is longer than the buffer
		}
		if len(p.out) == 0 || s.quiet > 0 && got > 0 {
			continue
		}
		s.trips.Add(1)
		if _, err := conn.Write(p.out); err != nil {
			return
		}
		p.out = p.out[:0]
	}
	_, _ = conn.Write(p.out)
}

// count counts connections that are open.
func (s *sink) count(n int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.open += n
	s.most = max(s.most, s.open)
}

// read reads from a client. If replies are withheld it returns 0 when the client has been quiet.
func (s *sink) read(conn net.Conn, buf []byte, withheld bool) (int, error) {
	if s.quiet == 0 {
		return conn.Read(buf)
	}
	var deadline time.Time
	if withheld {
		deadline = time.Now().Add(s.quiet)
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := conn.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

// A sinkParser is the state of one connection to a sink.
type sinkParser struct {
	sink  *sink
	out   []byte // replies not written yet
	data  bool   // content that ends with a dot follows
	chunk int    // octets of a chunk that follow
	last  bool   // that chunk ends the message
	done  bool   // QUIT
}

// endOfData ends content after DATA. The first CRLF may be that of the DATA line.
var endOfData = []byte("\r\n.\r\n")

// parse handles what is complete in b, and returns how many octets of b that was.
func (p *sinkParser) parse(b []byte) int {
	n := 0
	for n < len(b) && !p.done {
		var used int
		switch {
		case p.data:
			used = p.content(b[n:])
		case p.chunk > 0:
			used = min(p.chunk, len(b)-n)
			p.chunk -= used
			p.sink.octets.Add(int64(used))
			if p.chunk == 0 {
				p.endOfChunk()
			}
		default:
			used = p.command(b[n:])
		}
		if used == 0 {
			break
		}
		n += used
	}
	return n
}

func (p *sinkParser) content(b []byte) int {
	if i := bytes.Index(b, endOfData); i >= 0 {
		p.sink.octets.Add(int64(i)) // with the CRLF of DATA, without the last of the content
		p.endOfMessage()
		p.data = false
		return i + len(endOfData)
	}
	used := max(len(b)-len(endOfData)+1, 0)
	p.sink.octets.Add(int64(used))
	return used
}

func (p *sinkParser) endOfChunk() {
	if p.last {
		p.endOfMessage()
	} else {
		p.out = append(p.out, sinkOK...)
	}
}

func (p *sinkParser) endOfMessage() {
	p.sink.messages.Add(1)
	p.out = append(p.out, sinkOK...)
}

func (p *sinkParser) command(b []byte) int {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return 0
	}
	verb, args, _ := bytes.Cut(bytes.TrimRight(b[:end], "\r"), []byte(" "))
	switch string(verb) {
	case "MAIL", "RCPT", "NOOP", "RSET":
		p.out = append(p.out, sinkOK...)
	case "DATA":
		p.out = append(p.out, sinkGo...)
		p.data = true
		return end - 1 // the CRLF may begin endOfData
	case "BDAT":
		size, last, _ := bytes.Cut(args, []byte(" "))
		n, err := strconv.Atoi(string(size))
		if err != nil || n < 0 {
			p.out, p.done = append(p.out, sinkUnknown...), true
			break
		}
		p.chunk, p.last = n, len(last) > 0
		if n == 0 {
			p.endOfChunk()
		}
	case "EHLO", "HELO":
		p.out = append(p.out, p.sink.offer...)
	case "QUIT":
		p.out, p.done = append(p.out, sinkBye...), true
	default:
		p.out = append(p.out, sinkUnknown...)
	}
	return end + 1
}

// A sendJob is a client of a library that sends to a sink.
type sendJob struct {
	sink   *sink
	sender sender
	text   []byte
}

// A sender sends messages over one connection.
type sender interface {
	// Send sends the same message n times.
	Send(n int) error
	Close() error
}

// Run sends n messages and compares with what the sink has received.
func (j *sendJob) Run(n int) error {
	messages, octets := j.sink.messages.Load(), j.sink.octets.Load()
	if err := j.sender.Send(n); err != nil {
		return err
	}
	messages, octets = j.sink.messages.Load()-messages, j.sink.octets.Load()-octets
	if want := int64(n) * int64(len(j.text)); messages != int64(n) || octets < want {
		return fmt.Errorf("%d messages of %d octets arrived; %d of %d were sent", messages, octets, n, want)
	}
	return nil
}

func (j *sendJob) Close() error {
	err := j.sender.Close()
	return errors.Join(err, j.sink.Close())
}
