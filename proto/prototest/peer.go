package prototest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// A Peer is the client's end of a connection, in a test of a server. It sends octets and lines of any kind, legal or
// not, and compares the replies with those that the test expects:
//
//	p := prototest.NewPeer(t, conn)
//	p.Expect("220 ")
//	p.Ask(
//		"EHLO client.example", "250-mail.example",
//		"MAIL FROM:<a@b.example>", "250 2.1.0 ",
//	)
//	p.Say("QUIT")
//	p.Expect("221 ")
//	p.ExpectEnd()
//
// Every wait is bounded by Timeout. A goroutine reads what the server sends, so that neither end waits for the other to
// read, and a net.Pipe will do for a connection. A Peer can be used in a bubble of testing/synctest; there Timeout
// passes as soon as everything else waits, so set it to more than what the test waits for.
//
// The methods must be called by the goroutine of the test.
type Peer struct {
	// Timeout bounds the wait for a reply, and for the server to take what is sent. Zero means 30 seconds, and negative
	// values mean no bound.
	Timeout time.Duration

	t       testing.TB
	conn    net.Conn
	replies chan string
	err     error // why reading has ended; set before replies is closed
}

// defaultTimeout is long enough for a machine that is busy with other tests.
const defaultTimeout = 30 * time.Second

// NewPeer returns a Peer that uses conn, which is closed at the end of the test.
func NewPeer(t testing.TB, conn net.Conn) *Peer {
	p := &Peer{t: t}
	p.listen(conn)
	t.Cleanup(p.Close)
	return p
}

// maxReplyBacklog is how many replies may wait for the test to look at them, before the server has to wait.
const maxReplyBacklog = 1 << 16

func (p *Peer) listen(conn net.Conn) {
	p.conn, p.replies, p.err = conn, make(chan string, maxReplyBacklog), nil
	go func() {
		defer close(p.replies)
		r := bufio.NewReader(conn)
		reply := ""
		for {
			line, err := r.ReadString('\n')
			reply += line
			if err != nil {
				p.err = err
				if reply != "" {
					p.replies <- reply
				}
				return
			}
			if len(line) < 4 || line[3] != '-' {
				p.replies <- reply
				reply = ""
			}
		}
	}()
}

// Conn returns the connection, which is the one with TLS after StartTLS.
func (p *Peer) Conn() net.Conn { return p.conn }

// Send sends octets as they are. That the server has closed the connection is no failure here: the next reply will be
// missing.
func (p *Peer) Send(octets string) {
	p.t.Helper()
	if limit, ok := p.limit(); ok {
		_ = p.conn.SetWriteDeadline(time.Now().Add(limit))
	}
	if _, err := io.WriteString(p.conn, octets); errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("the server does not read %.60q", octets)
	}
}

// Say sends a line, with CRLF behind it.
func (p *Peer) Say(line string) {
	p.t.Helper()
	p.Send(line + "\r\n")
}

// Next returns the next reply, with all of its lines as they came. At the end of the connection it returns the error of
// reading, such as io.EOF, with the octets that are no whole reply. Without a reply in time it returns
// os.ErrDeadlineExceeded.
func (p *Peer) Next() (string, error) {
	var late <-chan time.Time
	if limit, ok := p.limit(); ok {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case reply, ok := <-p.replies:
		switch {
		case !ok:
			return "", p.err
		case !strings.HasSuffix(reply, "\n"):
			return reply, p.err
		}
		return reply, nil
	case <-late:
		return "", os.ErrDeadlineExceeded
	}
}

// Reply returns the next reply, with all of its lines as they came. The test fails if there is none.
func (p *Peer) Reply() string {
	p.t.Helper()
	reply, err := p.Next()
	if err != nil {
		p.t.Fatalf("the server says %q and then nothing: %v", reply, err)
	}
	return reply
}

// Expect finds that the next replies begin with the texts in want, such as "250" or "250-mail.example".
func (p *Peer) Expect(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got := p.Reply(); !strings.HasPrefix(got, w) {
			p.t.Fatalf("the server says %q, want %q", got, w)
		}
	}
}

// Ask takes pairs of a line and a text. It sends each line, and finds that the reply to it begins with the text.
func (p *Peer) Ask(pairs ...string) {
	p.t.Helper()
	if len(pairs)%2 != 0 {
		p.t.Fatalf("Ask has a line without the reply to it: %q", pairs[len(pairs)-1])
	}
	for i := 0; i < len(pairs); i += 2 {
		p.Say(pairs[i])
		if got := p.Reply(); !strings.HasPrefix(got, pairs[i+1]) {
			p.t.Fatalf("the server says %q to %.60q, want %q", got, pairs[i], pairs[i+1])
		}
	}
}

// ExpectEnd finds that the server closes the connection and says nothing more.
func (p *Peer) ExpectEnd() {
	p.t.Helper()
	switch reply, err := p.Next(); {
	case err == nil || reply != "":
		p.t.Fatalf("the server says %q, want the end of the connection", reply)
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.t.Fatal("the server does not close the connection")
	}
}

// StartTLS makes a TLS handshake, after the reply to STARTTLS or on a new connection. The test fails if the handshake
// does, or if the server has said something else before it.
func (p *Peer) StartTLS(config *tls.Config) {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Unix(1, 0)) // ends the goroutine that reads
	for reply := range p.replies {
		p.t.Fatalf("the server says %q before the TLS handshake", reply)
	}
	if !errors.Is(p.err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("the connection ends before the TLS handshake: %v", p.err)
	}
	_ = p.conn.SetReadDeadline(time.Time{})
	_ = p.conn.SetWriteDeadline(time.Time{})
	ctx := context.Background()
	if limit, ok := p.limit(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	secure := tls.Client(p.conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		p.t.Fatalf("TLS handshake: %v", err)
	}
	p.listen(secure)
}

// Close closes the connection, and returns when nothing reads from it any more.
func (p *Peer) Close() {
	p.conn.Close()
	for range p.replies {
	}
}

func (p *Peer) limit() (d time.Duration, ok bool) {
	if p.Timeout == 0 {
		return defaultTimeout, true
	}
	return p.Timeout, p.Timeout > 0
}
