package hostile

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// A poorListener has no descriptor for a new connection as long as there are so many.
type poorListener struct {
	*servertest.Listener
	tries chan struct{} // one for each descriptor that is free
	fails atomic.Int64
}

func (l *poorListener) Accept() (net.Conn, error) {
	select {
	case <-l.tries:
	default:
		l.fails.Add(1)
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &freeingConn{Conn: nc, l: l}, nil
}

type freeingConn struct {
	net.Conn
	l    *poorListener
	once sync.Once
}

func (c *freeingConn) Close() error {
	c.once.Do(func() { c.l.tries <- struct{}{} })
	return c.Conn.Close()
}

// TestNoDescriptors has a listener run out of descriptors. Connections that are open are served meanwhile, the server
// tries again after pauses of up to a second, and the pauses begin anew after a success.
func TestNoDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		j := &journal{}
		srv := newServer(t, server.BackendFunc(j.newSession), server.Options{
			Logger: slog.New(slog.NewTextHandler(&log, nil)), Timeouts: server.Timeouts{Command: time.Hour},
		})
		const descriptors = 3
		l := &poorListener{Listener: servertest.Listen(nil), tries: make(chan struct{}, descriptors)}
		for range descriptors {
			l.tries <- struct{}{}
		}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		dial := func() *prototest.Peer {
			nc, err := l.DialContext(context.Background(), "tcp", "")
			if err != nil {
				t.Fatal(err)
			}
			p := prototest.NewPeer(t, nc)
			p.Timeout = time.Hour
			return p
		}
		open := []*prototest.Peer{dial(), dial(), dial()}
		for _, p := range open {
			p.Expect("220 ")
		}
		const sent = 20
		for n := range sent {
			p, last := open[n%len(open)], n == sent-1
			for range 2 {
				time.Sleep(time.Minute)
				sendHello(p)
			}
			// Another client waits, and gets the place of one that goes.
			waiting := dial()
			time.Sleep(time.Minute)
			failed := l.fails.Load()
			time.Sleep(time.Minute)
			if d := l.fails.Load() - failed; d < 59 || d > 61 {
				t.Errorf("%d times in a minute the server has tried to accept a connection", d)
			}
			p.Ask("QUIT", "221")
			p.ExpectEnd()
			at := time.Now()
			waiting.Expect("220 ")
			if d := time.Since(at); d > time.Second {
				t.Errorf("a client has waited for %v", d)
			}
			failed = l.fails.Load()
			time.Sleep(time.Second)
			if d := l.fails.Load() - failed; !last && d < 7 { // 5, 10, 20 … 640 ms
				t.Errorf("%d failures in the first second, want the pauses to begin anew", d)
			}
			open[n%len(open)] = waiting
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown returns %v", err)
		}
		if err := <-served; err != server.ErrServerClosed {
			t.Errorf("Serve returns %v", err)
		}
		if n := j.take().delivered[delivery{"alice", "hello\r\n"}]; n != 2*sent {
			t.Errorf("%d messages of %d are delivered", n, 2*sent)
		}
		if n := strings.Count(log.String(), "accept failed"); int64(n) != l.fails.Load() {
			t.Errorf("%d failures of %d are in the log", n, l.fails.Load())
		}
	})
}

// sendHello sends a message.
func sendHello(p *prototest.Peer) {
	p.Ask("EHLO client.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<alice@d.example>", "250",
		"DATA", "354", "hello\r\n.", "250")
}
