package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A load is what the senders do.
type load struct {
	octets  int // of the content
	rcpts   int // of each message
	senders int // connections at once; each sends one message after the other
}

func (l load) String() string {
	return fmt.Sprintf("%d KB, %d recipients, %d senders", l.octets/1000, l.rcpts, l.senders)
}

// Domains of the recipients: the one that the system under test takes mail for, and the one whose server is the sink.
const (
	ours   = "ours.example"
	theirs = "sink.example"
)

// mailbox returns the local part of a recipient.
func mailbox(i int) string { return fmt.Sprintf("box%d", i) }

// A source sends messages. Its commands are pipelined as far as RFC 2920 section 3.1 permits: what begins the next
// transaction is sent with the end of the content. So it costs two system calls a message, and the processors are left
// to the system under test.
type source struct {
	load
	addr     string
	until    time.Time    // no message is begun after it
	limit    int64        // of messages; 0: none
	begun    atomic.Int64 // messages
	accepted atomic.Int64 // messages
	first    atomic.Int64 // when the first one was accepted, in nanoseconds
	last     atomic.Int64
}

// run sends until the time is over or the limit is reached, and returns when all replies are there.
func (s *source) run() error {
	var wg sync.WaitGroup
	errs := make([]error, s.senders)
	for i := range s.senders {
		wg.Go(func() {
			for more := true; more && errs[i] == nil; {
				more, errs[i] = s.send(i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("sender: %w", err)
		}
	}
	return nil
}

// rate returns the messages accepted per second.
func (s *source) rate() float64 {
	return float64(s.accepted.Load()) / time.Duration(s.last.Load()-s.first.Load()).Seconds()
}

// more reports whether one more message is to be sent.
func (s *source) more() bool {
	n := s.begun.Add(1)
	return (s.limit == 0 || n <= s.limit) && time.Now().Before(s.until)
}

// perConnection is how many messages are sent over a connection. Servers want it to end at some time.
const perConnection = 200

// send is one connection. It reports whether another one is to follow.
func (s *source) send(number int) (again bool, err error) {
	nc, err := net.DialTimeout("tcp", s.addr, 10*time.Second)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(s.until.Add(time.Minute)); err != nil {
		return false, err
	}
	r := bufio.NewReader(nc)
	var envelope bytes.Buffer
	envelope.WriteString("MAIL FROM:<from@source.example>\r\n")
	for i := range s.rcpts {
		fmt.Fprintf(&envelope, "RCPT TO:<%s@%s>\r\n", mailbox(i), ours)
	}
	envelope.WriteString("DATA\r\n")
	body := content(s.octets)
	if err := expect(r, "220"); err != nil {
		return false, err
	}
	if _, err := nc.Write([]byte("EHLO source.example\r\n")); err != nil {
		return false, err
	}
	if err := expect(r, "250"); err != nil {
		return false, err
	}
	if !s.more() {
		return false, nil
	}
	if _, err := nc.Write(envelope.Bytes()); err != nil {
		return false, err
	}
	for n, more := 0, true; more; n++ {
		for range s.rcpts + 1 {
			if err := expect(r, "250"); err != nil {
				return false, err
			}
		}
		if err := expect(r, "354"); err != nil {
			return false, err
		}
		next := []byte("QUIT\r\n")
		if again = n == perConnection-1; again {
			more = false
		} else if more = s.more(); more {
			next = envelope.Bytes()
		}
		head := fmt.Appendf(nil, "Message-ID: <%d.%d.%d@source.example>\r\n", s.until.UnixNano(), number, n)
		if _, err := (&net.Buffers{head, body, next}).WriteTo(nc); err != nil {
			return false, err
		}
		if err := expect(r, "250"); err != nil {
			return false, err
		}
		now := time.Now().UnixNano()
		s.first.CompareAndSwap(0, now)
		s.last.Store(now)
		s.accepted.Add(1)
	}
	return again, nil
}

// expect reads one reply, which has to have this code.
func expect(r *bufio.Reader, code string) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("in place of %s: %w", code, err)
		}
		if !bytes.HasPrefix(line, []byte(code)) || len(line) < 5 {
			return fmt.Errorf("in place of %s: %q", code, line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}

// content returns a message of this many octets, without its Message-ID, with the final dot.
func content(octets int) []byte {
	var b bytes.Buffer
	b.WriteString("From: <from@source.example>\r\nTo: <box0@ours.example>\r\nDate: Sun, 29 Nov 2026 12:00:00 +0000\r\n" +
		"Subject: load\r\n\r\n")
	line := strings.Repeat("0123456789", 7) + "012345\r\n"
	for b.Len() < octets {
		b.WriteString(line[:min(len(line), max(octets-b.Len(), 2))-2] + "\r\n")
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}
