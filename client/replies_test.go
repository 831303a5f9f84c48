package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestMinTimeout checks that a verb of an extension is given the time that the extension wants for it, unless the user
// gives it more or bounds nothing.
func TestMinTimeout(t *testing.T) {
	slow := append(ehlo.Default(), ext.Extension{
		Keyword: "XSLOW", MinTimeout: 10 * time.Minute,
		Verbs: []proto.Verb{{Name: "XSLOW", In: proto.Ready, Last: true}},
	})
	for _, tt := range []struct {
		name          string
		verb          string
		command, want time.Duration
	}{
		{"default", "XSLOW", 0, 10 * time.Minute},
		{"less", "XSLOW", time.Minute, 10 * time.Minute},
		{"more", "XSLOW", time.Hour, time.Hour},
		{"none", "XSLOW", -1, 24 * time.Hour},
		{"another verb", "NOOP", 0, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := inPlaintext(clienttest.New(t, hello("XSLOW")+"C: "+tt.verb+"\nHANGUP"))
				opt.Extensions, opt.Timeouts.Command = slow, tt.command
				c, err := Dial(context.Background(), host, opt)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
				defer cancel()
				start := time.Now()
				_, err = c.Do(ctx, tt.verb, "")
				if e, ok := asType[*LostError](err); !ok || !e.Timeout() {
					t.Errorf("%v, want a timeout", err)
				}
				if got := time.Since(start); got != tt.want {
					t.Errorf("it took %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestG11_HugeReplies checks that what a server says is bounded.
func TestG11_HugeReplies(t *testing.T) {
	for _, piece := range []string{"250-x\r\n", "2", "250-XXXX\r\n"} {
		here, there := net.Pipe()
		done := make(chan int)
		go func() {
			sent := 0
			io.WriteString(here, "220 mail.example\r\n")
			(&lineReader{r: here}).line()
			if piece == "2" {
				io.WriteString(here, "250 ")
			}
			block := strings.Repeat(piece, 1000)
			for {
				n, err := io.WriteString(here, block)
				sent += n
				if err != nil {
					done <- sent
					return
				}
			}
		}()
		_, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
		if !errors.Is(err, proto.ErrReply) {
			t.Errorf("%q without end: %v, want ErrReply", piece, err)
		}
		if sent := <-done; sent > 256<<10 {
			t.Errorf("%q without end: %d octets were taken", piece, sent)
		}
		here.Close()
	}
}

// TestG16I01I02_Timeouts checks each default of RFC 5321 section 4.5.3.2, to the second, and that the connection is not
// used again.
func TestG16I01I02_Timeouts(t *testing.T) {
	one := func(ctx context.Context, c *Client) error {
		_, err := c.Send(ctx, message("hello\r\n", "c@d.example"))
		return err
	}
	for _, tt := range []struct {
		name, script string
		call         func(context.Context, *Client) error
		want         time.Duration
	}{
		{"greeting", "", nil, 5 * time.Minute},
		{"EHLO", "S: 220 mail.example\nC: EHLO *", nil, 5 * time.Minute},
		{"MAIL", hello() + "C: MAIL*", one, 5 * time.Minute},
		{"RCPT", hello() + "C: MAIL*\nS: 250 ok\nC: RCPT*", one, 5 * time.Minute},
		{"DATA", hello() + "C: MAIL*\nS: 250 ok\nC: RCPT*\nS: 250 ok\nC: DATA", one, 2 * time.Minute},
		{"content", hello("PIPELINING") + groupUpToData + "C: hello\nC: .", one, 10 * time.Minute},
		{"NOOP", hello() + "C: NOOP", func(ctx context.Context, c *Client) error { return c.Noop(ctx) }, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := clienttest.New(t, tt.script+"\nHANGUP")
				start := time.Now()
				c, err := Dial(context.Background(), host, inPlaintext(srv))
				if tt.call != nil && err == nil {
					err = tt.call(context.Background(), c)
				}
				if got := time.Since(start); got != tt.want {
					t.Errorf("it took %v, want %v", got, tt.want)
				}
				e, ok := asType[*LostError](err)
				if !ok || !e.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || !Temporary(err) {
					t.Errorf("%v, want a timeout", err)
				}
				if tt.call != nil {
					if err := tt.call(context.Background(), c); !errors.Is(err, ErrClosed) {
						t.Errorf("the next call: %v, want ErrClosed", err)
					}
				}
			})
		})
	}
}

// TestBlockTimeout checks that the time for content is bounded for each block of it, and not as a whole.
func TestBlockTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		end := make(chan struct{})
		defer close(end)
		go func() {
			defer here.Close()
			in := &lineReader{r: here}
			io.WriteString(here, "220 mail.example\r\n")
			in.line()
			io.WriteString(here, "250 mail.example\r\n")
			in.line()
			io.WriteString(here, "250 ok\r\n")
			in.line()
			io.WriteString(here, "250 ok\r\n")
			in.line()
			io.WriteString(here, "354 go on\r\n")
			for range 10 {
				time.Sleep(2 * time.Minute)
				io.CopyN(io.Discard, here, 70000) // a block and more, so that each is taken in within two minutes
			}
			<-end
		}()
		c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		m := message("", "c@d.example")
		m.Body = endless{}
		_, err = c.Send(context.Background(), m)
		if got, want := time.Since(start), 23*time.Minute; got != want || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v after %v, want a timeout after %v", err, got, want)
		}
	})
}

// TestDrip checks that a reply has to be complete in time, however often an octet of it arrives.
func TestDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				time.Sleep(time.Minute - time.Second)
				if _, err := here.Write([]byte{"220-x\r\n"[i%7]}); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		_, err := NewClient(context.Background(), there, "mail.example", nil)
		if got := time.Since(start); got != 5*time.Minute || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v after %v, want a timeout after 5 minutes", err, got)
		}
		<-done
	})
}

// TestI03_Context checks that a context bounds what it is given for, and closes the connection if a reply is
// outstanding.
func TestI03_Context(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, nil, hello()+"C: NOOP\nS: 250 ok\nC: NOOP\nHANGUP")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Noop(ctx); err != nil {
			t.Fatal(err)
		}
		gone, cancelled := context.WithCancel(ctx)
		cancelled()
		if err := c.Noop(gone); !errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
			t.Errorf("a context that has ended: %v", err)
		}
		start := time.Now()
		if err := c.Noop(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the next call: %v, want ErrClosed and why", err)
		}
	})
}

// TestG15_Unsolicited checks that an unsolicited reply ends the session before the next command can take it for its
// own, and that the end of an idle session is noticed.
func TestG15_Unsolicited(t *testing.T) {
	for _, tt := range []struct {
		say  string
		want func(error) bool
	}{
		{"250 ok\r\n", func(err error) bool { _, ok := asType[*ProtocolError](err); return ok }},
		{"421 idle\r\n", func(err error) bool { e, ok := asType[*proto.Error](err); return ok && e.Code == 421 }},
		{"", func(err error) bool { return errors.Is(err, io.EOF) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			go func() {
				in := &lineReader{r: here}
				io.WriteString(here, "220 mail.example\r\n")
				in.line()
				io.WriteString(here, "250 mail.example\r\n")
				time.Sleep(time.Second)
				io.WriteString(here, tt.say)
				if line, err := in.line(); err == nil {
					t.Errorf("the client sent %q", line)
				}
			}()
			c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				t.Fatal(err)
			}
			if tt.say == "" {
				here.Close()
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) || !tt.want(err) || !Temporary(err) {
				t.Errorf("after %q: %v", tt.say, err)
			}
			here.Close()
		})
	}
}

// TestReplyBeforeCommandIsWritten: a reply that arrived before the command was written is out of step.
func TestReplyBeforeCommandIsWritten(t *testing.T) {
	c := dial(t, nil, hello()+"C: MAIL*\nS: 250 ok\nS: 250 unasked\nHANGUP\n")
	_, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
	if _, ok := asType[*ProtocolError](err); !ok || !errors.Is(err, proto.ErrOutOfStep) {
		t.Errorf("%v, want a ProtocolError", err)
	}
}
