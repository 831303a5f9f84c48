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

	"smtpkit.example/smtp/server"
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

// pipeClient is the client's end of a net.Pipe to a server that discards messages, past EHLO.
type pipeClient struct {
	net.Conn
	srv  *server.Server
	done chan struct{}
}

func newPipeClient(t *testing.T) *pipeClient {
	here, there := net.Pipe()
	p := &pipeClient{here, discardServer(t), make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = p.srv.ServeConn(context.Background(), there)
	}()
	p.read(t)
	io.WriteString(here, "EHLO client.example\r\n")
	p.read(t)
	return p
}

// read returns what the server has written at once.
func (p *pipeClient) read(t *testing.T) string {
	t.Helper()
	b := make([]byte, commandBuffer)
	n, err := p.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func (p *pipeClient) close() {
	p.Close()
	<-p.done
}

// TestNothingIsHeld has clients that wait for replies when they have filled the server's buffer just so, with whole
// commands or a whole chunk. Nothing more is to be expected then, and so the replies come at once.
func TestNothingIsHeld(t *testing.T) {
	const envelope = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	mail := func(n int) string { return "MAIL FROM:<" + strings.Repeat("x", n-len("MAIL FROM:<>\r\n")) + ">\r\n" }
	for _, tt := range []struct {
		name    string
		silence time.Duration
		say     []string
		replies int
	}{
		{"commands", 0, []string{strings.Repeat(mail(512), commandBuffer/512)}, 8},
		{"a command after a rest", 200 * time.Millisecond, []string{mail(32)}, 1},
		{"a chunk", 0, []string{envelope + "BDAT 131072 LAST\r\n", strings.Repeat("x", 128<<10)}, 3},
		{"a first chunk", 0, []string{envelope + "BDAT 65536\r\n", strings.Repeat("x", 64<<10)}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeClient(t)
				defer p.close()
				time.Sleep(tt.silence)
				start := time.Now()
				go func() {
					for _, s := range tt.say {
						io.WriteString(p, s)
					}
				}()
				for got := 0; got < tt.replies; {
					got += strings.Count(p.read(t), "\r\n")
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("the replies came after %v", d)
				}
			})
		})
	}
}

// TestHeldReplies has a client that waits in the middle of a chunk for the replies to what came before, as Exim does.
// It gets them after a moment, even if its octets have filled the server's buffer just so.
func TestHeldReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeClient(t)
		start := time.Now()
		first := fillBuffer(2 * commandBuffer)
		io.WriteString(p, first)
		if got := p.read(t); strings.Count(got, "250 ") != 2 {
			t.Errorf("got %q", got)
		}
		if d := time.Since(start); d <= 0 || d > 20*time.Millisecond {
			t.Errorf("the replies came after %v: they are to wait for what may have arrived, and not for long", d)
		}
		content := first[strings.Index(first, "LAST\r\n")+6:]
		io.WriteString(p, strings.Repeat("x", 2*commandBuffer-len(content)))
		if got := p.read(t); !strings.HasPrefix(got, "250 ") {
			t.Errorf("got %q", got)
		}
		p.close()
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

// TestHeldRepliesAtShutdown: a shutdown that begins while replies are held does not hold them for longer.
func TestHeldRepliesAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeClient(t)
		defer p.close()
		start := time.Now()
		group := "MAIL FROM:<sender@b.example>\r\n"
		group += strings.Repeat("RCPT TO:<c@d.example>\r\n", commandBuffer)[:commandBuffer-len(group)]
		io.WriteString(p, group)
		synctest.Wait()
		go func() { _ = p.srv.Shutdown(t.Context()) }()
		if got := p.read(t); !strings.HasPrefix(got, "250 ") {
			t.Errorf("got %q", got)
		}
		if d := time.Since(start); d <= 0 || d > 20*time.Millisecond {
			t.Errorf("the replies came after %v", d)
		}
	})
}
