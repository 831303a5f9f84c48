package servertest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server/servertest"
)

type address string

func (a address) Network() string { return "memory" }
func (a address) String() string  { return string(a) }

// pipes are the connections with which a Pipe is compared: both have to do the same.
func pipes(t *testing.T) map[string]func() (a, b net.Conn) {
	return map[string]func() (a, b net.Conn){
		"memory": func() (a, b net.Conn) { return servertest.Pipe(address("a"), address("b")) },
		"TCP": func() (a, b net.Conn) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if a, err = net.Dial("tcp", l.Addr().String()); err == nil {
				b, err = l.Accept()
			}
			if err != nil {
				t.Fatal(err)
			}
			return a, b
		},
	}
}

// TestPipe holds a connection in memory and one of TCP to the same expectations.
func TestPipe(t *testing.T) {
	for name, pipe := range pipes(t) {
		t.Run(name+"/octets", func(t *testing.T) {
			a, b := pipe()
			sent := make([]byte, 1<<20)
			rand.Read(sent)
			var both sync.WaitGroup
			both.Go(func() {
				if n, err := a.Write(sent); n != len(sent) || err != nil {
					t.Errorf("%d octets were written, then %v", n, err)
				}
				a.(interface{ CloseWrite() error }).CloseWrite()
			})
			got, err := io.ReadAll(b)
			both.Wait()
			if !bytes.Equal(got, sent) || err != nil {
				t.Errorf("%d octets arrived, then %v", len(got), err)
			}
			// The other direction goes on.
			both.Go(func() {
				io.WriteString(b, "back")
				b.Close()
			})
			back, err := io.ReadAll(a)
			both.Wait()
			if string(back) != "back" || err != nil {
				t.Errorf("back came %q, then %v", back, err)
			}
			if _, err := a.Write([]byte("x")); err == nil {
				t.Error("a write behind CloseWrite succeeded")
			}
			a.Close()
		})
		t.Run(name+"/closed", func(t *testing.T) {
			a, b := pipe()
			b.Close()
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("an end that is closed reads %v", err)
			}
			if _, err := b.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("an end that is closed writes: %v", err)
			}
			if _, err := a.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the other end reads %v", err)
			}
			var err error
			for err == nil {
				_, err = a.Write(make([]byte, 1000)) // TCP notices at some time
			}
			a.Close()
		})
		t.Run(name+"/deadline", func(t *testing.T) {
			a, b := pipe()
			defer a.Close()
			defer b.Close()
			a.SetReadDeadline(time.Unix(1, 0))
			if n, err := a.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the deadline, read returns %d, %v", n, err)
			}
			a.SetDeadline(time.Time{})
			go b.Write([]byte("xy"))
			p := make([]byte, 10)
			if n, err := a.Read(p); n == 0 || err != nil {
				t.Errorf("without a deadline, read returns %d, %v", n, err)
			}
			// A deadline wakes a call that waits, for reading and for writing.
			var both sync.WaitGroup
			both.Go(func() { _, _ = io.ReadFull(a, p[:8]) })
			a.SetReadDeadline(time.Unix(1, 0))
			both.Wait()
			a.SetWriteDeadline(time.Now().Add(time.Millisecond))
			if _, err := a.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a write that nobody reads returns %v", err)
			}
		})
	}
	a, b := servertest.Pipe(address("a"), address("b"))
	if a.LocalAddr() != b.RemoteAddr() || a.LocalAddr() != address("a") || b.LocalAddr() != a.RemoteAddr() {
		t.Error("the addresses are not those that were given")
	}
}

// TestPipeTime uses deadlines in a bubble, where the clock tells exactly when they pass.
func TestPipeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.Pipe(address("a"), address("b"))
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Hour))
		a.SetReadDeadline(start.Add(time.Minute)) // in place of the other
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		go func() {
			time.Sleep(time.Hour)
			b.Close()
		}()
		b.SetWriteDeadline(start.Add(time.Minute + time.Second))
		if n, err := b.Write(make([]byte, 100<<10)); n != 64<<10 || !errors.Is(err, os.ErrDeadlineExceeded) ||
			time.Since(start) != time.Minute+time.Second {
			t.Errorf("after %v: %d octets, then %v", time.Since(start), n, err)
		}
		a.SetReadDeadline(time.Time{})
		if got, err := io.ReadAll(a); len(got) != 64<<10 || err != nil {
			t.Errorf("%d octets, then %v", len(got), err)
		}
		if n, err := a.Write(make([]byte, 100<<10)); n != 100<<10 || err != nil {
			t.Errorf("the first write to an end that is closed: %d, %v", n, err)
		}
		if _, err := a.Write([]byte("x")); err != io.ErrClosedPipe {
			t.Errorf("the second one: %v", err)
		}
		a.Close()
	})
}

// TestListener dials a listener, from addresses of its choice, and closes it.
func TestListener(t *testing.T) {
	l := servertest.Listen(address("here"))
	if l.Addr() != address("here") {
		t.Errorf("the address is %v", l.Addr())
	}
	a, err := l.DialFrom(t.Context(), address("there"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil || b.RemoteAddr() != address("there") || b.LocalAddr() != address("here") {
		t.Errorf("accepted was %v, %v", b, err)
	}
	ports := make(map[string]bool)
	for range 3 {
		c, err := l.DialContext(t.Context(), "tcp", "anything:25")
		if err != nil {
			t.Fatal(err)
		}
		ports[c.LocalAddr().String()] = true
		defer func() {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("a connection that nobody accepted reads %v after Close", err)
			}
		}()
	}
	if len(ports) != 3 {
		t.Errorf("the clients are %v", ports)
	}
	var accepting sync.WaitGroup
	for range 4 {
		accepting.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("Accept returned %v", err)
					}
					return
				}
				c.Close()
			}
		})
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	accepting.Wait()
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close returned %v", err)
	}
	if _, err := l.DialContext(t.Context(), "tcp", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialing returned %v", err)
	}
	if _, err := a.Write([]byte("x")); err != nil {
		t.Errorf("Close has closed a connection that was accepted: %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := servertest.Listen(nil).DialContext(canceled, "tcp", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("dialing with a context that has ended returned %v", err)
	}
	a.Close()
	b.Close()
}

// TestBacklog waits with a dial when too many connections wait to be accepted.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := servertest.Listen(nil)
		var last error
		for range 129 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, last = l.DialContext(ctx, "tcp", "")
			cancel()
		}
		if !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("the last dial returned %v", last)
		}
		l.Close()
	})
}
