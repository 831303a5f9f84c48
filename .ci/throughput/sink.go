package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A sink is an SMTP server that takes everything and keeps nothing but counts.
type sink struct {
	addr       string
	listener   net.Listener
	messages   atomic.Int64
	recipients atomic.Int64
	octets     atomic.Int64
	last       atomic.Int64 // when the last message came, in nanoseconds

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{addr: l.Addr().String(), listener: l, conns: make(map[net.Conn]bool)}
	go s.accept()
	return s, nil
}

func (s *sink) close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.conns {
		nc.Close()
	}
}

func (s *sink) accept() {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[nc] = true
		s.mu.Unlock()
		go func() {
			s.serve(nc)
			nc.Close()
			s.mu.Lock()
			delete(s.conns, nc)
			s.mu.Unlock()
		}()
	}
}

// wait waits until so many recipients have come. It reports false if none comes for a time.
func (s *sink) wait(recipients int64, patience time.Duration) bool {
	had, since := int64(-1), time.Now()
	for {
		n := s.recipients.Load()
		switch {
		case n >= recipients:
			return true
		case n != had:
			had, since = n, time.Now()
		case time.Since(since) > patience:
			return false
		}
		time.Sleep(5 * time.Millisecond) // what comes is counted by connections, which signal nothing
	}
}

// serve is one connection. Replies to pipelined commands go out together.
func (s *sink) serve(nc net.Conn) {
	r, w := bufio.NewReaderSize(nc, 32<<10), bufio.NewWriter(nc)
	fmt.Fprint(w, "220 sink.example ESMTP\r\n")
	rcpts := int64(0)
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(bytes.ToUpper(line[:4])) {
		case "EHLO":
			fmt.Fprint(w, "250-sink.example\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")
		case "DATA":
			fmt.Fprint(w, "354 go on\r\n")
			if w.Flush() != nil || !s.data(r) {
				return
			}
			s.last.Store(time.Now().UnixNano())
			s.messages.Add(1)
			s.recipients.Add(rcpts)
			fmt.Fprint(w, "250 2.0.0 taken\r\n")
		case "QUIT":
			fmt.Fprint(w, "221 2.0.0 bye\r\n")
			w.Flush()
			return
		case "MAIL":
			rcpts = 0
			fmt.Fprint(w, "250 2.1.0 yes\r\n")
		case "RCPT":
			rcpts++
			fmt.Fprint(w, "250 2.1.5 yes\r\n")
		case "RSET", "NOOP", "HELO":
			fmt.Fprint(w, "250 2.0.0 yes\r\n")
		default:
			fmt.Fprint(w, "500 5.5.1 what?\r\n")
		}
	}
}

// data reads a message to its final dot.
func (s *sink) data(r *bufio.Reader) bool {
	for {
		line, err := r.ReadSlice('\n')
		s.octets.Add(int64(len(line)))
		if err != nil && err != bufio.ErrBufferFull {
			return false
		}
		if len(line) == 3 && line[0] == '.' {
			return true
		}
	}
}
