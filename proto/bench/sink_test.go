package main

import (
	"net"
	"strings"
	"testing"
)

// TestSinkAtEveryCut sends a dialogue in two parts, cut at every octet.
func TestSinkAtEveryCut(t *testing.T) {
	in := "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n" +
		"one\r\n..\r\n.\r\n" +
		"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nBDAT 5\r\nQUIT\nBDAT 3 LAST\r\n.\r\n" +
		"DATA\r\n.\r\n" + "BDAT 0 LAST\r\nNOOP\r\nQUIT\r\n"
	want := sinkOffer + sinkOK + sinkOK + sinkGo + sinkOK +
		sinkOK + sinkOK + sinkOK + sinkOK + sinkGo + sinkOK + sinkOK + sinkOK + sinkBye
	for cut := range len(in) {
		s := &sink{offer: sinkOffer}
		p := sinkParser{sink: s}
		left := ""
		for _, part := range []string{in[:cut], in[cut:]} {
			left += part
			left = left[p.parse([]byte(left)):]
		}
		if string(p.out) != want || !p.done || left != "" {
			t.Errorf("cut at %d: it said %q, want %q; %q is left", cut, p.out, want, left)
		}
		if got := s.messages.Load(); got != 4 {
			t.Errorf("cut at %d: %d messages, want 4", cut, got)
		}
		if got := s.octets.Load(); got != int64(len("one\r\n..\r\n"+"QUIT\n"+".\r\n")) {
			t.Errorf("cut at %d: %d octets", cut, got)
		}
	}
}

// TestOwnEndsAllocateNothing has the peer send to the sink. Since neither allocates, the allocations in the table are
// those of the libraries.
func TestOwnEndsAllocateNothing(t *testing.T) {
	s, err := startSink(sinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := dialPeer(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	content := []byte(strings.Repeat(line, 1000) + ".\r\n")
	allocs := testing.AllocsPerRun(100, func() {
		if err := p.message(content); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a message", allocs)
	}
	p.conn.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestLoopbackOnly checks where the program listens.
func TestLoopbackOnly(t *testing.T) {
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if addr := l.Addr().(*net.TCPAddr); !addr.IP.IsLoopback() {
		t.Errorf("it listens on %v", addr)
	}
}
