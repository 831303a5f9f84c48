package hostile

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// drip sends text, one octet each second, and then the last one again and again, until the server hangs up. It returns
// what the server has said, and how long that took.
func drip(nc net.Conn, text string) (said string, d time.Duration) {
	start := time.Now()
	over := make(chan struct{})
	go func() {
		defer close(over)
		all, _ := io.ReadAll(nc)
		said, d = string(all), time.Since(start)
	}()
	for i := 0; ; i++ {
		if _, err := io.WriteString(nc, text[min(i, len(text)-1):][:1]); err != nil {
			break
		}
		select {
		case <-over:
			return said, d
		case <-time.After(time.Second):
		}
	}
	<-over
	return said, d
}

// TestSlowClients has 200 clients that send one octet a second, some that read nothing, and some that stop in the
// middle of a TLS handshake. Each is disconnected when its time is over, and a client that behaves waits for none.
func TestSlowClients(t *testing.T) {
	ours, _ := tlsPair(t)
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		srv := newServer(t, server.BackendFunc(j.newSession), server.Options{TLSConfig: ours})
		plain, secure := servertest.Listen(nil), servertest.Listen(nil)
		served := make(chan error, 2)
		go func() { served <- srv.Serve(plain) }()
		go func() { served <- srv.ServeTLS(secure) }()
		var all sync.WaitGroup
		start := time.Now()
		const envelope = "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<alice@d.example>\r\n"
		for i := range 200 {
			nc := dialFrom(t, plain, i)
			all.Go(func() {
				defer nc.Close()
				if i%2 == 0 {
					said, d := drip(nc, "NOOP x")
					if want := 5 * time.Minute; d != want || !strings.HasPrefix(last(said), "421 4.4.2") {
						t.Errorf("a command that is never over: %q after %v, want 421 after %v", last(said), d, want)
					}
					return
				}
				_, _ = io.WriteString(nc, envelope+"DATA\r\n")
				said, d := drip(nc, "slow")
				if least := 10 * time.Minute; d < least || d > least+2*time.Second || !strings.HasPrefix(last(said), "421 4.4.2") {
					t.Errorf("content of an octet a second: %q after %v, want 421 after %v", last(said), d, least)
				}
			})
		}
		for i := range 20 {
			nc := dialFrom(t, plain, 200+i)
			all.Go(func() { // reads nothing, and the buffers of the network fill
				defer nc.Close()
				help := strings.Repeat("HELP\r\n", 500)
				var err error
				for err == nil {
					_, err = io.WriteString(nc, help)
				}
				if d := time.Since(start); d != 5*time.Minute {
					t.Errorf("a client that reads nothing is disconnected after %v: %v", d, err)
				}
			})
		}
		for i, hello := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
			nc := dialFrom(t, secure, 220+i)
			all.Go(func() {
				defer nc.Close()
				_, _ = io.WriteString(nc, hello)
				if said, _ := io.ReadAll(nc); time.Since(start) != time.Minute || strings.Contains(string(said), "220") {
					t.Errorf("a handshake that stops behind %q ends after %v", hello, time.Since(start))
				}
			})
		}
		const sent = 80
		for i := range sent {
			time.Sleep(10 * time.Second)
			at := time.Now()
			p := prototest.NewPeer(t, dialFrom(t, plain, 300))
			p.Expect("220 ")
			sendHello(p)
			p.Ask("QUIT", "221")
			p.ExpectEnd()
			if d := time.Since(at); d != 0 {
				t.Fatalf("message %d takes %v", i, d)
			}
		}
		all.Wait()
		synctest.Wait()
		if n := srv.Stats().Open; n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown returns %v", err)
		}
		<-served
		<-served
		got := j.take()
		if n := got.delivered[delivery{"alice", "hello\r\n"}]; n != sent || len(got.delivered) != 1 {
			t.Errorf("%d messages of %d are delivered: %v", n, sent, got.delivered)
		}
		if got.made != got.closed || got.begun != got.reset {
			t.Errorf("%d sessions were made and %d closed, %d transactions begun and %d reset",
				got.made, got.closed, got.begun, got.reset)
		}
	})
}

// dialFrom connects from the i-th address.
func dialFrom(t *testing.T, l *servertest.Listener, i int) net.Conn {
	t.Helper()
	nc, err := l.DialFrom(context.Background(), &net.TCPAddr{IP: net.IPv4(10, 1, byte(i>>8), byte(i)), Port: 49152})
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// last returns the last line.
func last(said string) string {
	lines := strings.SplitAfter(strings.TrimSuffix(said, "\r\n"), "\n")
	return lines[len(lines)-1]
}
