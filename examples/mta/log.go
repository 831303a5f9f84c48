package main

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// maxUnwritten is how many octets of the log wait in memory at most. Whoever logs more waits too.
const maxUnwritten = 1 << 20

// A logWriter writes to another writer in a goroutine of its own, at once, and what has come meanwhile together: each
// line alone would be a system call, and several for each message. A process that is killed may lose the lines of the
// last moment. Close waits until all is written.
type logWriter struct {
	to io.Writer

	mu      sync.Mutex
	grown   sync.Cond // there is something to write, or it is closed
	shrunk  sync.Cond // there is room
	waiting []byte
	closed  bool
	done    chan struct{}
}

func newLogWriter(to io.Writer) *logWriter {
	w := &logWriter{to: to, done: make(chan struct{})}
	w.grown.L, w.shrunk.L = &w.mu, &w.mu
	go w.run()
	return w
}

// Write has a line written. After Close it writes by itself.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) > maxUnwritten && !w.closed {
		w.shrunk.Wait()
	}
	if w.closed {
		<-w.done
		return w.to.Write(p)
	}
	w.waiting = append(w.waiting, p...)
	w.grown.Signal()
	return len(p), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	var text []byte
	for {
		w.mu.Lock()
		for len(w.waiting) == 0 && !w.closed {
			w.grown.Wait()
		}
		text, w.waiting = w.waiting, text[:0]
		w.shrunk.Broadcast()
		w.mu.Unlock()
		if len(text) == 0 {
			return
		}
		_, _ = w.to.Write(text) // there is nobody to tell
	}
}

// Close writes what waits.
func (w *logWriter) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.grown.Signal()
	w.shrunk.Broadcast()
	<-w.done
	return nil
}

// logRefusals is middleware that logs the senders and recipients who are refused, by whichever check.
func (m *mta) logRefusals(next server.Backend) server.Backend {
	return server.BackendFunc(func(ctx context.Context, conn *server.Conn) (server.Session, error) {
		inner, err := next.NewSession(ctx, conn)
		if err != nil {
			m.log.Info("client refused", "client", conn.RemoteAddr(), "err", err)
			return nil, err
		}
		return &refusals{Wrapper: server.Wrapper{Session: inner}, log: m.log, conn: conn}, nil
	})
}

type refusals struct {
	server.Wrapper
	log  *slog.Logger
	conn *server.Conn
	from proto.Address
}

func (s *refusals) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	s.from = from
	err := s.Session.Mail(ctx, from, p)
	if err != nil {
		s.log.Info("sender refused", "client", s.conn.RemoteAddr(), "user", s.conn.Identity(), "from", from, "err", err)
	}
	return err
}

func (s *refusals) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	err := s.Session.Rcpt(ctx, to, p)
	if err != nil {
		s.log.Info("recipient refused", "client", s.conn.RemoteAddr(), "user", s.conn.Identity(), "from", s.from, "to", to,
			"err", err)
	}
	return err
}
