package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestH12_HalfCloseAtEachOctet: a client that shuts its direction down gets the reply to each command that has arrived
// whole, and the message if its end has. What was cut short has no reply.
func TestH12_HalfCloseAtEachOctet(t *testing.T) {
	steps := []struct{ say, reply string }{
		{"", "220"}, {"EHLO x\r\n", "250"}, {"MAIL FROM:<a@b.example>\r\n", "250"}, {"RCPT TO:<c@d.example>\r\n", "250"},
		{"DATA\r\n", "354"}, {"hello\r\n.\r\n", "250"}, {"MAIL FROM:<>\r\n", "250"}, {"RCPT TO:<c@d.example>\r\n", "250"},
		{"BDAT 3\r\nabc", "250"}, {"BDAT 4 LAST\r\nde\r\n", "250"}, {"NOOP\r\n", "250"}, {"QUIT\r\n", "221"},
	}
	var dialogue string
	for _, s := range steps {
		dialogue += s.say
	}
	for cut := range len(dialogue) + 1 {
		var want []string
		rest, accepted := cut, 0
		for _, s := range steps {
			if rest -= len(s.say); rest < 0 {
				break
			}
			want = append(want, s.reply)
			if strings.HasPrefix(s.say, "hello") || strings.Contains(s.say, "LAST") {
				accepted++
			}
		}
		st := &store{}
		s := newServer(t, st, server.Options{})
		addr, served := listen(t, s.Serve)
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, dialogue[:cut]); err != nil {
			t.Fatal(err)
		}
		if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		replies, err := io.ReadAll(nc)
		if err != nil {
			t.Errorf("%q: %v", dialogue[:cut], err)
		}
		if got := codes(string(replies)); fmt.Sprint(got) != fmt.Sprint(want) || len(st.messages()) != accepted {
			t.Errorf("%q: replies %v and %d messages, want %v and %d", dialogue[:cut], got, len(st.messages()), want, accepted)
		}
		nc.Close()
		_ = s.Shutdown(t.Context())
		<-served
	}
}

// codes returns the codes of replies.
func codes(replies string) (all []string) {
	for line := range strings.Lines(replies) {
		if len(line) > 3 && line[3] == ' ' {
			all = append(all, line[:3])
		}
	}
	return all
}

// A duplex is an end of a connection in memory of which each direction can be closed alone.
type duplex struct {
	net.Conn          // to read from
	out      net.Conn // to write to
}

func newDuplex() (near, far *duplex) {
	nearIn, farOut := net.Pipe()
	farIn, nearOut := net.Pipe()
	return &duplex{nearIn, nearOut}, &duplex{farIn, farOut}
}

func (d *duplex) Write(p []byte) (int, error) { return d.out.Write(p) }

func (d *duplex) CloseWrite() error { return d.out.Close() }

func (d *duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }

func (d *duplex) SetDeadline(t time.Time) error {
	_ = d.out.SetWriteDeadline(t)
	return d.Conn.SetReadDeadline(t)
}

func (d *duplex) Close() error {
	d.out.Close()
	return d.Conn.Close()
}

// TestH12_HalfCloseWhileWorking: a half-close ends no call of the session, however slow it is, in plaintext and in TLS.
func TestH12_HalfCloseWhileWorking(t *testing.T) {
	const slow = 4 * time.Minute
	wait := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(slow):
			return nil
		}
	}
	for _, c := range []struct {
		name, say string
		want      string
		accepted  int
	}{
		{"greeting", "", "[220]", 0},
		{"QUIT", "QUIT\r\n", "[220 221]", 0},
		{"RCPT", "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", "[220 250 250 250]", 0},
		{"DATA", "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhello\r\n.\r\n", "[220 250 250 250 354 250]", 1},
		{"BDAT", "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 2\r\n\r\nBDAT 0 LAST\r\nQUIT\r\n",
			"[220 250 250 250 250 250 221]", 1},
	} {
		for _, inTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", c.name, inTLS), func(t *testing.T) {
				// TLS takes care of the certificate's dates outside of the bubble's clock.
				config, trust := tlsPair(t)
				trust.Time, trust.InsecureSkipVerify = time.Now, true
				synctest.Test(t, func(t *testing.T) {
					st := &store{
						newSession: func(ctx context.Context, _ *server.Conn) error { return wait(ctx) },
						rcpt:       func(ctx context.Context, _ proto.Address, _ proto.Params) error { return wait(ctx) },
					}
					st.data = func(ctx context.Context, r io.Reader) error {
						text, err := io.ReadAll(r)
						if err == nil {
							err = wait(ctx)
						}
						if err == nil {
							st.mu.Lock()
							st.kept = append(st.kept, string(text))
							st.mu.Unlock()
						}
						return err
					}
					near, far := newDuplex()
					var client net.Conn = near
					var there net.Conn = far
					if inTLS {
						client, there = tls.Client(near, trust), tls.Server(far, config)
					}
					done := make(chan error, 1)
					s := newServer(t, st, server.Options{})
					go func() { done <- s.ServeConn(context.Background(), there) }()
					go func() {
						_, _ = io.WriteString(client, c.say)
						_ = client.(interface{ CloseWrite() error }).CloseWrite()
					}()
					replies, err := io.ReadAll(client)
					if err != nil {
						t.Error(err)
					}
					<-done
					client.Close()
					if got := fmt.Sprint(codes(string(replies))); got != c.want || len(st.messages()) != c.accepted {
						t.Errorf("replies %s and %d messages, want %s and %d", got, len(st.messages()), c.want, c.accepted)
					}
				})
			})
		}
	}
}

// TestHalfCloseGrace: work for a client that has shut its direction down ends after 10 minutes.
func TestHalfCloseGrace(t *testing.T) {
	const readAhead = 200 * time.Millisecond // calls follow each other without a pause
	inBubble(t, 10*time.Minute+readAhead, func(t *testing.T) {
		var cause error
		st := &store{rcpt: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return cause
		}}
		near, far := newDuplex()
		done := make(chan error, 1)
		s := newServer(t, st, server.Options{})
		go func() { done <- s.ServeConn(context.Background(), far) }()
		go func() {
			_, _ = io.WriteString(near, "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
			_ = near.CloseWrite()
		}()
		_, _ = io.ReadAll(near)
		<-done
		near.Close()
		if cause != io.ErrUnexpectedEOF {
			t.Errorf("the cause is %v, want io.ErrUnexpectedEOF", cause)
		}
	})
}

// TestResetWhileWorking: a connection that is reset is a hang-up, whatever is owed.
func TestResetWhileWorking(t *testing.T) {
	begun, cause := make(chan struct{}), make(chan error, 1)
	st := &store{rcpt: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
		close(begun)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return ctx.Err()
	}}
	s := newServer(t, st, server.Options{})
	addr, served := listen(t, s.Serve)
	p := connect(t, addr)
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "250 ")
	p.send("RCPT TO:<c@d.example>\r\nDATA\r\n")
	<-begun
	_ = p.nc.(*net.TCPConn).SetLinger(0)
	p.nc.Close()
	if err := <-cause; err != io.ErrUnexpectedEOF {
		t.Errorf("the cause is %v, want io.ErrUnexpectedEOF", err)
	}
	_ = s.Shutdown(t.Context())
	<-served
}
