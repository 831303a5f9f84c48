package server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestH16_CommandTimeout: a client has 5 minutes for a whole line, even if octets arrive (RFC 5321 section 4.5.3.2.7).
func TestH16_CommandTimeout(t *testing.T) {
	t.Run("silence", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.hello()
			p.expect("421 4.4.2")
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
		})
	})
	t.Run("Z26 dribble", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.hello()
			for range 10 {
				p.send("N")
				select {
				case line := <-p.lines:
					if !strings.HasPrefix(line, "421 4.4.2") {
						t.Errorf("the server says %q", line)
					}
					return
				case <-time.After(time.Minute):
				}
			}
			t.Error("the server waits for ever")
		})
	})
	t.Run("commands", func(t *testing.T) {
		inBubble(t, 40*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.hello()
			for range 10 {
				<-time.After(4 * time.Minute)
				p.ask("NOOP", "250 ")
			}
			p.quit()
		})
	})
	t.Run("in an exchange", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, authStore{&store{}}, server.Options{AllowInsecureAuth: true}))
			p.hello()
			p.ask("AUTH PLAIN", "334 ")
			p.expect("421 4.4.2")
			<-p.done
		})
	})
}

// TestH17_ContentTimeout: each block of content renews the timeout, and the time that the session takes does not count.
func TestH17_ContentTimeout(t *testing.T) {
	block := strings.Repeat("12345678\r\n", 10000)
	t.Run("renewed", func(t *testing.T) {
		inBubble(t, 40*time.Minute, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, nil)
			p.ask("DATA", "354 ")
			for range 10 {
				<-time.After(4 * time.Minute)
				p.send(block)
			}
			p.ask(".", "250 ")
			p.quit()
		})
	})
	t.Run("stalled", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			var got error
			p, st := withData(t, server.Options{}, func(ctx context.Context, r io.Reader) error {
				_, got = io.Copy(io.Discard, r)
				if ctx.Err() == nil {
					t.Error("the context lives on")
				}
				return got
			})
			p.ask("DATA", "354 ")
			p.send("hello\r\n")
			p.expect("421 4.4.2")
			if p.ended() == nil {
				t.Error("ServeConn returned nil")
			}
			var e *proto.Error
			if !errors.As(got, &e) || e.Code != 421 {
				t.Errorf("the reader returned %v, want the 421", got)
			}
			if got := st.calls(); !strings.HasSuffix(got, "data, reset, close") {
				t.Errorf("called %s", got)
			}
		})
	})
	t.Run("slow session", func(t *testing.T) {
		inBubble(t, time.Hour, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
				<-time.After(time.Hour)
				_, err := io.Copy(io.Discard, r)
				return err
			})
			p.ask("DATA", "354 ", "hello\r\n.", "250 ")
			p.quit()
		})
	})
	t.Run("between chunks", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, nil)
			p.chunk("BDAT 3", "abc", "250 ")
			p.expect("421 4.4.2")
			<-p.done
		})
	})
}

func TestSessionTimeout(t *testing.T) {
	t.Run("between commands", func(t *testing.T) {
		inBubble(t, 10*time.Minute, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{Timeouts: server.Timeouts{Session: 10 * time.Minute}}))
			p.hello()
			<-time.After(4 * time.Minute)
			p.ask("NOOP", "250 ")
			<-time.After(4 * time.Minute)
			p.ask("NOOP", "250 ")
			p.expect("421 4.4.2")
			<-p.done
		})
	})
	t.Run("in a session", func(t *testing.T) {
		inBubble(t, 10*time.Minute, func(t *testing.T) {
			st := &store{mail: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
				<-ctx.Done()
				return ctx.Err()
			}}
			p := dial(t, newServer(t, st, server.Options{Timeouts: server.Timeouts{Session: 10 * time.Minute}}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "421 4.")
			<-p.done
		})
	})
}
