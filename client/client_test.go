package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
)

// deaf is a connection whose other end has stopped reading, once it is closed.
func deaf(conn net.Conn, from <-chan struct{}) net.Conn { return &deafConn{conn, from} }

type deafConn struct {
	net.Conn
	from <-chan struct{}
}

func (d *deafConn) Write(p []byte) (int, error) {
	select {
	case <-d.from:
		_, err := d.Conn.Read(make([]byte, 1)) // blocks until the connection is closed
		return 0, err
	default:
		return d.Conn.Write(p)
	}
}

// TestQuitIsBounded has servers that do not answer QUIT, or do not even read it.
func TestQuitIsBounded(t *testing.T) {
	t.Run("by the context of Send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go answer(far, "")
			opt := &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone,
				DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			start := time.Now()
			if err := Send(ctx, host, opt, message("hello\r\n", "c@d.example")); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("it took %v, and the context had a second", took)
			}
		})
	})
	t.Run("by its own timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go answer(far, "QUIT")
			stop := make(chan struct{})
			opt := &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, Timeouts: Timeouts{Quit: 2 * time.Second},
				DialContext: func(context.Context, string, string) (net.Conn, error) { return deaf(near, stop), nil }}
			c, err := Dial(context.Background(), host, opt)
			if err != nil {
				t.Fatal(err)
			}
			close(stop)
			start := time.Now()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v, want Timeouts.Quit", took)
			}
		})
	})
}

// answer is a server that accepts everything, and goes silent at the command called silent, or at QUIT.
func answer(conn net.Conn, silent string) {
	defer conn.Close()
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	say("220 mail.example")
	content := false
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(buf[:n])) {
			word := strings.TrimSpace(line)
			switch {
			case content:
				if content = word != "."; !content {
					say("250 ok")
				}
			case word == "QUIT" || silent != "" && strings.HasPrefix(word, silent):
			case word == "DATA":
				content = true
				say("354 go on")
			default:
				say("250 ok")
			}
		}
	}
}

// TestH13H14H15_Close checks that QUIT is said, and that its reply can be anything or nothing.
func TestH13H14H15_Close(t *testing.T) {
	for _, end := range []string{"S: 221 bye", "S: 500 what", "S: 421 bye", "S: nonsense", "CLOSE"} {
		c := dial(t, nil, hello()+"C: QUIT\n"+end)
		if err := c.Close(); err != nil {
			t.Errorf("%q: %v", end, err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("%q: a second Close: %v", end, err)
		}
		if err := c.Noop(context.Background()); err != ErrClosed {
			t.Errorf("%q: Noop after Close: %v, want ErrClosed", end, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, nil, hello()+"C: QUIT\nHANGUP")
		start := time.Now()
		if err := c.Close(); err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("without an answer: %v after %v", err, time.Since(start))
		}
	})
}

// TestCloseMeanwhile checks that Close ends a call that is waiting, and that no two calls run at once.
func TestCloseMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, nil, hello()+"C: NOOP\nHANGUP")
		result := make(chan error)
		go func() { result <- c.Noop(context.Background()) }()
		synctest.Wait()
		if _, err := c.Send(context.Background(), message("", "c@d.example")); !errors.Is(err, ErrBusy) {
			t.Errorf("a call meanwhile: %v, want ErrBusy", err)
		}
		go c.Close()
		c.Close()
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Errorf("the call that was waiting: %v, want ErrClosed", err)
		}
	})
}
