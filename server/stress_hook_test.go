package server_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
)

// TestStressIsAsked: Options.Stress sees the load and decides, again and again, until the load is gone.
func TestStressIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := newServer(t, &store{}, server.Options{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Stress: func(l server.Load) *server.Stress {
				if l.MaxConns != 1000 || l.MaxHandshakes != 250 || l.MaxMemory != 256<<20 || l.Memory != int64(l.Conns)<<14 {
					t.Errorf("the load is %+v", l)
				}
				switch l.Conns {
				case 0, 1:
					return nil
				case 2:
					return &server.Stress{Command: time.Minute}
				}
				return &server.Stress{Command: 5 * time.Second}
			},
		})
		first := dialFrom(t, srv, "192.0.2.1:1")
		first.hello()
		<-time.After(2 * time.Minute)
		first.ask("NOOP", "250 ")
		second := dialFrom(t, srv, "192.0.2.2:1") // the stress begins
		second.hello()
		<-time.After(6 * time.Second)
		first.ask("NOOP", "250 ")
		second.ask("NOOP", "250 ")
		third := dialFrom(t, srv, "192.0.2.3:1")
		third.hello()
		start := time.Now()
		for _, p := range []*peer{first, second, third} {
			p.expect(cutByStress)
			_ = p.ended()
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("the connections have ended after %v, want 5s", d)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "stress"); n != 2 || srv.Stats().Stresses != 1 {
			t.Errorf("the log is\n%s", &log)
		}
	})
}

// TestStressThatPanics: a function that panics is called once, and does no harm.
func TestStressThatPanics(t *testing.T) {
	for _, at := range []int32{1, 3} { // in the goroutine of a connection, and under stress
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			var calls atomic.Int32
			srv := newServer(t, &store{}, server.Options{
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Stress: func(server.Load) *server.Stress {
					if calls.Add(1) >= at {
						panic("no idea")
					}
					return &server.Stress{Errors: 1}
				},
			})
			p := dialFrom(t, srv, "192.0.2.1:1")
			p.hello()
			<-time.After(time.Minute)
			p.begin()
			p.ask("DATA", "354 ", "x\r\n.", "250 ", "FOO", "500 ", "FOO", "500 ")
			p.quit()
			synctest.Wait()
			if n := strings.Count(log.String(), "Options.Stress has panicked"); n != 1 || calls.Load() != at {
				t.Errorf("it was called %d times, and the log is\n%s", calls.Load(), &log)
			}
		})
	}
}

// TestStressAndShutdown: a shutdown under stress ends as usual, and tells of it as usual.
func TestStressAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := newServer(t, &store{data: func(_ context.Context, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}}, server.Options{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Stress: func(l server.Load) *server.Stress {
				if l.Conns == 0 {
					return nil
				}
				return &server.Stress{Command: 10 * time.Second}
			},
		})
		idle, busy := dialFrom(t, srv, "192.0.2.1:1"), dialFrom(t, srv, "192.0.2.2:1")
		idle.hello()
		busy.hello()
		busy.begin()
		busy.ask("DATA", "354 ")
		done := make(chan error)
		go func() { done <- srv.Shutdown(context.Background()) }()
		idle.expect("421 4.3.2 Service is shutting down")
		_ = idle.ended()
		<-time.After(time.Minute)
		busy.ask("x\r\n.", "250 ")
		busy.expect("421 4.3.2 ")
		_ = busy.ended()
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		log.Reset()
		<-time.After(time.Minute)
		synctest.Wait()
		if log.Len() > 0 {
			t.Errorf("after the shutdown the log is\n%s", &log)
		}
	})
}
