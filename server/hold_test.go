package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// commandBuffer is how many octets the server reads at a time while it expects commands.
const commandBuffer = 4 << 10

// TestL02_LongGroups checks that replies are not written before all that has arrived is answered, although it takes the
// server several reads (RFC 2920 section 3.2).
func TestL02_LongGroups(t *testing.T) {
	m := newMemory()
	defer serveMemory(t, discardServer(t), m)()
	const rcpt = "RCPT TO:<recipient@d.example>\r\n"
	content := strings.Repeat("12345678\r\n", 20_000)
	for _, tt := range []struct {
		name, say string
		replies   int
	}{
		{"500 RCPT", "MAIL FROM:<a@b.example>\r\n" + strings.Repeat(rcpt, 500) + "RSET\r\n", 502},
		{"a large chunk", fmt.Sprintf("MAIL FROM:<a@b.example>\r\n"+rcpt+"BDAT %d LAST\r\n", len(content)) + content, 3},
		{"many messages", strings.Repeat("MAIL FROM:<a@b.example>\r\n"+rcpt+"BDAT 6 LAST\r\nhello\nRSET\r\n", 200), 800},
	} {
		m.writes, m.last = 0, m.last[:0]
		m.turn([]byte(tt.say))
		if got := strings.Count(string(m.last), "\r\n"); m.writes != 1 || got != tt.replies {
			t.Errorf("%s: %d writes, the last one with %d replies; want %d in one", tt.name, m.writes, got, tt.replies)
		}
	}
}

// fillBuffer returns the beginning of a transaction that fills the server's buffer: commands, and a part of a chunk.
func fillBuffer(chunk int) string {
	s := fmt.Sprintf("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT %d LAST\r\n", chunk)
	return s + strings.Repeat("x", commandBuffer-len(s))
}

// TestHeldReplies has a client that waits in the middle of a chunk for the replies to what came before, as Exim does. It gets
// them after a moment, even if its octets have filled the server's buffer just so.
func TestHeldReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = discardServer(t).ServeConn(context.Background(), there)
		}()
		b := make([]byte, 4096)
		read := func() string {
			n, err := here.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			return string(b[:n])
		}
		read()
		io.WriteString(here, "EHLO client.example\r\n")
		read()
		start := time.Now()
		first := fillBuffer(2 * commandBuffer)
		io.WriteString(here, first)
		if got := read(); strings.Count(got, "250 ") != 2 {
			t.Errorf("got %q", got)
		}
		if d := time.Since(start); d <= 0 || d > 20*time.Millisecond {
			t.Errorf("the replies came after %v: they are to wait for what may have arrived, and not for long", d)
		}
		content := first[strings.Index(first, "LAST\r\n")+6:]
		io.WriteString(here, strings.Repeat("x", 2*commandBuffer-len(content)))
		if got := read(); !strings.HasPrefix(got, "250 ") {
			t.Errorf("got %q", got)
		}
		here.Close()
		<-done
	})
}

// TestHeldRepliesAtTheEnd has a client that sends no more. It gets the replies before the connection is closed.
func TestHeldRepliesAtTheEnd(t *testing.T) {
	m := newMemory()
	stop := serveMemory(t, discardServer(t), m)
	m.last = m.last[:0]
	m.turn([]byte(fillBuffer(2 * commandBuffer)))
	stop()
	if got := string(m.last); strings.Count(got, "250 ") != 2 {
		t.Errorf("got %q", got)
	}
}
