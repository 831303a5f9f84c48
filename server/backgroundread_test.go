package server_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestHangUp: the context ends when the client hangs up while the session works, and not before.
func TestHangUp(t *testing.T) {
	waiting := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-time.After(time.Hour):
		}
		return context.Cause(ctx)
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, got *error)
	}{
		{"Rcpt", func(t *testing.T, got *error) {
			st := &store{rcpt: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
				*got = waiting(ctx)
				return *got
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 ")
			p.send("RCPT TO:<c@d.example>\r\n")
			<-time.After(time.Minute)
			p.nc.Close()
			<-p.done
		}},
		{"Mail, behind the deadlines of the command", func(t *testing.T, got *error) {
			st := &store{mail: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
				*got = waiting(ctx)
				return *got
			}}
			p := dial(t, newServer(t, st, server.Options{Timeouts: server.Timeouts{Command: 10 * time.Second}}))
			p.hello()
			p.send("MAIL FROM:<a@b.example>\r\n")
			<-time.After(time.Minute)
			p.nc.Close()
			<-p.done
		}},
		{"NewSession", func(t *testing.T, got *error) {
			st := &store{newSession: func(ctx context.Context, _ *server.Conn) error {
				*got = waiting(ctx)
				return *got
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			<-time.After(time.Minute)
			p.nc.Close()
			<-p.done
		}},
		{"Data after the end", func(t *testing.T, got *error) {
			p, _ := withData(t, server.Options{}, func(ctx context.Context, r io.Reader) error {
				_, _ = io.Copy(io.Discard, r)
				*got = waiting(ctx)
				return *got
			})
			p.ask("DATA", "354 ")
			p.send("hello\r\n.\r\n")
			<-time.After(time.Minute)
			p.nc.Close()
			<-p.done
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, time.Minute, func(t *testing.T) {
				var got error
				c.run(t, &got)
				if got != io.ErrUnexpectedEOF {
					t.Errorf("the cause is %v, want io.ErrUnexpectedEOF", got)
				}
			})
		})
	}
}

// TestNoHangUp: the server keeps all that a client sends while a session works.
func TestNoHangUp(t *testing.T) {
	for _, commands := range []int{1, 10, 1000} {
		inBubble(t, time.Minute, func(t *testing.T) {
			st := &store{rcpt: func(ctx context.Context, _ proto.Address, _ proto.Params) error {
				<-time.After(time.Minute)
				return ctx.Err()
			}}
			p := dial(t, newServer(t, st, server.Options{Limits: server.Limits{Junk: -1}}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 ")
			p.send("RCPT TO:<c@d.example>\r\n")
			<-time.After(time.Second)
			p.send(strings.Repeat("NOOP\r\n", commands))
			p.expect("250 2.1.5")
			for range commands {
				p.expect("250 2.0.0")
			}
			p.quit()
		})
	}
}
