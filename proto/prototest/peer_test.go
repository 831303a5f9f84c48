package prototest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A failure stands for a test that a Peer has to fail. It notes the message, and ends the goroutine as a test does.
type failure struct {
	testing.TB
	text string
}

func (f *failure) Helper()        {}
func (f *failure) Cleanup(func()) {}
func (f *failure) Fatal(args ...any) {
	f.text = fmt.Sprint(args...)
	runtime.Goexit()
}
func (f *failure) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// failed calls f with a Peer over conn, and returns the message with which that failed the test, "" if it did not.
func failed(conn net.Conn, f func(*Peer)) string {
	t := &failure{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := NewPeer(t, conn)
		defer p.Close()
		f(p)
	}()
	<-done
	return t.text
}

// echo says the greeting, and repeats each line as a reply of two lines until that is QUIT.
func echo(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "220 ready\r\n")
	for in := bufio.NewScanner(conn); in.Scan() && in.Text() != "QUIT"; {
		fmt.Fprintf(conn, "250-you said\r\n250 %s\r\n", in.Text())
	}
}

func TestPeer(t *testing.T) {
	here, there := net.Pipe()
	go echo(there)
	p := NewPeer(t, here)
	p.Expect("220 ready")
	p.Ask("A", "250-you said\r\n250 A\r\n", "B", "250")
	p.Send("C\r\nD\r\n") // the echo of C waits for nobody
	p.Expect("250-you said\r\n250 C", "250-you said\r\n250 D")
	p.Say("E")
	if got, want := p.Reply(), "250-you said\r\n250 E\r\n"; got != want {
		t.Errorf("reply is %q, want %q", got, want)
	}
	p.Say("QUIT")
	p.ExpectEnd()
	p.Send("F\r\n") // no failure
	if got, err := p.Next(); got != "" || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the end comes %q, %v", got, err)
	}
}

// TestPeerFails has servers that do something else than the test expects.
func TestPeerFails(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		do         func(*Peer)
		want       string
	}{
		{"another reply", "220 a\r\n554 b\r\n", func(p *Peer) { p.Expect("220", "220") }, `the server says "554 b\r\n", want "220"`},
		{"no reply", "220 a\r\n", func(p *Peer) { p.Expect("220", "220") }, `the server says "" and then nothing: EOF`},
		{"half a reply", "220-a\r\n220", func(p *Peer) { p.Reply() }, `the server says "220-a\r\n220" and then nothing: EOF`},
		{"a reply too many", "220 a\r\n", func(p *Peer) { p.ExpectEnd() }, `the server says "220 a\r\n", want the end`},
		{"half a reply too many", "22", func(p *Peer) { p.ExpectEnd() }, `the server says "22", want the end`},
		{"an odd line", "", func(p *Peer) { p.Ask("A") }, "Ask has a line without"},
		{"the end before TLS", "", func(p *Peer) { _, _ = p.Next(); p.StartTLS(nil) }, "the connection ends before the TLS handshake: EOF"},
	} {
		here, there := net.Pipe()
		go func() {
			fmt.Fprint(there, tt.said)
			there.Close()
		}()
		if got := failed(here, tt.do); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: fails with %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestPeerTimeout has a server that neither reads, speaks nor closes.
func TestPeerTimeout(t *testing.T) {
	for want, do := range map[string]func(*Peer){
		`the server says "" and then nothing: i/o timeout`: func(p *Peer) { p.Reply() },
		"the server does not close the connection":         func(p *Peer) { p.ExpectEnd() },
		`the server does not read "A\r\n"`:                 func(p *Peer) { p.Say("A") },
	} {
		for set, limit := range map[time.Duration]time.Duration{0: 30 * time.Second, time.Minute: time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				defer there.Close()
				begin := time.Now()
				got := failed(here, func(p *Peer) {
					p.Timeout = set
					do(p)
				})
				if took := time.Since(begin); got != want || took != limit {
					t.Errorf("fails with %q after %v, want %q after %v", got, took, want, limit)
				}
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		time.AfterFunc(24*time.Hour, func() { fmt.Fprint(there, "220 at last\r\n") })
		p := NewPeer(t, here)
		p.Timeout = -1
		p.Expect("220 at last")
		there.Close()
		p.ExpectEnd()
	})
}

// TestPeerStartTLS goes over to TLS in the middle, with the certificate of this package.
func TestPeerStartTLS(t *testing.T) {
	cert, pool := Certificate(t, "mail.example")
	here, there := net.Pipe()
	go func() {
		if _, err := io.ReadFull(there, make([]byte, len("STARTTLS\r\n"))); err != nil {
			return
		}
		fmt.Fprint(there, "220 go ahead\r\n")
		echo(tls.Server(there, &tls.Config{Certificates: []tls.Certificate{cert}}))
	}()
	p := NewPeer(t, here)
	p.Ask("STARTTLS", "220 go")
	p.StartTLS(&tls.Config{RootCAs: pool, ServerName: "mail.example"})
	p.Expect("220 ready")
	p.Ask("A", "250-you said\r\n250 A")
	if _, ok := p.Conn().(*tls.Conn); !ok {
		t.Errorf("the connection is a %T", p.Conn())
	}

	here, there = net.Pipe()
	go fmt.Fprint(there, "220 go ahead\r\n250 injected\r\n")
	got := failed(here, func(p *Peer) {
		p.Expect("220")
		for len(p.replies) == 0 { // until it is there
			runtime.Gosched()
		}
		p.StartTLS(&tls.Config{RootCAs: pool, ServerName: "mail.example"})
	})
	if want := `the server says "250 injected\r\n" before the TLS handshake`; got != want {
		t.Errorf("fails with %q, want %q", got, want)
	}
}
