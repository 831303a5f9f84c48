package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A stages is a part at work: what it does at each stage of a session. A function that is nil does nothing.
//
// C is what the part remembers of a client, until the session begins anew. T is what it remembers of a transaction.
// Both begin as the zero value.
//
// A function refuses by a *proto.Error. Any other error, and a panic, means that the part could not find something
// out. It becomes a verdict with the result "temperror"; then the mail passes, or is put off if closed is set.
type stages[C, T any] struct {
	// method is that of the part's verdicts.
	method string
	// skip leaves clients out. It is asked when a client connects, and for each MAIL. Nil leaves nobody out.
	skip func(ctx context.Context, c *server.Conn) bool
	// closed answers 451 where the part could not find something out.
	closed bool
	// atOnce sends a refusal by connect in place of the greeting. Otherwise it is held back until RCPT.
	atOnce bool

	// connect is called before the greeting, and again after STARTTLS. Its refusal is held back.
	connect func(ctx context.Context, s *session[C, T]) error
	// hello is called for each MAIL, before mail: the name of the client is in Conn.Hello from then on. Its refusal is
	// held back.
	hello func(ctx context.Context, s *session[C, T]) error
	// mail is called for each MAIL, before the session inside is.
	mail func(ctx context.Context, s *session[C, T], from proto.Address, p proto.Params) error
	// rcpt is called for each RCPT, before the session inside is.
	rcpt func(ctx context.Context, s *session[C, T], to proto.Address, p proto.Params) error
	// answered is called when the session inside has answered RCPT, with its error or nil. What it returns is the answer
	// of the part, nil included.
	answered func(ctx context.Context, s *session[C, T], to proto.Address, err error) error
	// content is called when the content begins. It returns the reader of the content: see server.ContentFilter. Each of
	// its errors refuses the message, so it returns the whole of the content where it could not find something out.
	content func(ctx context.Context, s *session[C, T], r io.Reader) (io.Reader, error)
}

// A session is the session of a part, around that of what is inside.
type session[C, T any] struct {
	server.Wrapper
	stages *stages[C, T]
	conn   *server.Conn

	// client is forgotten when the session begins anew, with the session itself.
	client struct {
		known C
		held  error // the refusal to send for RCPT, nil if there is none
	}
	// transaction is forgotten by Reset.
	transaction transaction[T]
}

// A transaction is what a part knows of a transaction.
type transaction[T any] struct {
	known   T
	skipped bool  // the client is left out
	held    error // the refusal to send for RCPT, nil if there is none
}

// middleware returns the part as middleware.
func (st *stages[C, T]) middleware() server.Middleware {
	return func(next server.Backend) server.Backend {
		if next == nil {
			return nil // which New refuses
		}
		return server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
			s := &session[C, T]{stages: st, conn: c}
			if st.connect != nil && !s.skips(ctx) {
				s.client.held = s.ask(ctx, func() error { return st.connect(ctx, s) })
			}
			if st.atOnce && s.client.held != nil {
				return nil, s.client.held
			}
			inner, err := next.NewSession(ctx, c)
			if inner == nil || err != nil {
				return nil, err
			}
			s.Session = inner
			return s, nil
		})
	}
}

// Mail begins a transaction.
func (s *session[C, T]) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	s.transaction = transaction[T]{skipped: s.skips(ctx)}
	err := s.begin(ctx, from, p)
	if err != nil {
		return err
	}
	return s.Session.Mail(ctx, from, p)
}

// begin asks the part about MAIL.
func (s *session[C, T]) begin(ctx context.Context, from proto.Address, p proto.Params) error {
	st := s.stages
	if s.transaction.skipped {
		return nil
	}
	if st.hello != nil {
		s.transaction.held = s.ask(ctx, func() error { return st.hello(ctx, s) })
	}
	if st.mail == nil {
		return nil
	}
	return s.ask(ctx, func() error { return st.mail(ctx, s, from, p) })
}

// Rcpt adds a recipient.
func (s *session[C, T]) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	st := s.stages
	if s.transaction.skipped {
		return s.Session.Rcpt(ctx, to, p)
	}
	if !isPostmaster(to) {
		for _, held := range []error{s.client.held, s.transaction.held} {
			if held != nil {
				return held
			}
		}
	}
	if st.rcpt != nil {
		if err := s.ask(ctx, func() error { return st.rcpt(ctx, s, to, p) }); err != nil {
			return err
		}
	}
	err := s.Session.Rcpt(ctx, to, p)
	if st.answered == nil {
		return err
	}
	return s.answered(ctx, to, err)
}

// answered gives the answer of the session inside to the part. It stays as it is if the part cannot find something out.
func (s *session[C, T]) answered(ctx context.Context, to proto.Address, inner error) error {
	answer := inner
	err := s.ask(ctx, func() error {
		answer = s.stages.answered(ctx, s, to, inner)
		return nil
	})
	if err != nil {
		return err
	}
	return answer
}

// FilterContent returns the reader of the content. Every error refuses the message: what the part has read of it is
// lost.
func (s *session[C, T]) FilterContent(ctx context.Context, r io.Reader) (filtered io.Reader, err error) {
	if s.stages.content == nil || s.transaction.skipped {
		return r, nil
	}
	err = protect(func() error {
		var err error
		filtered, err = s.stages.content(ctx, s, r)
		return err
	})
	return filtered, err
}

// Reset forgets the transaction.
func (s *session[C, T]) Reset(ctx context.Context) {
	s.transaction = transaction[T]{}
	s.Wrapper.Reset(ctx)
}

// skips reports whether the client is left out. It is not if that cannot be found out.
func (s *session[C, T]) skips(ctx context.Context) (skips bool) {
	if s.stages.skip != nil {
		if err := protect(func() error { skips = s.stages.skip(ctx, s.conn); return nil }); err != nil {
			s.record("temperror", "", err)
			return false
		}
	}
	return skips
}

// ask calls a function of the part. It returns the refusal, or nil if the mail may pass.
func (s *session[C, T]) ask(ctx context.Context, f func() error) error {
	err := protect(f)
	if err == nil {
		return nil
	}
	if refusal := (*proto.Error)(nil); errors.As(err, &refusal) {
		return err
	}
	if f, ok := err.(failure); ok {
		err = f.error
	}
	s.record("temperror", "", err)
	if !s.stages.closed {
		return nil
	}
	return proto.Refuse(451, proto.Status{4, 3, 0}, "Try again later") // the verdict is logged with its cause
}

// record records a verdict of the part.
func (s *session[C, T]) record(result, reason string, err error) {
	s.conn.Record(server.Verdict{Method: s.stages.method, Result: result, Reason: reason, Err: err})
}

// protect calls f, and returns a panic as an error.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("smtp: a policy panics: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// A failure is the error of a function that was to find something out. It is no refusal, even if it is a *proto.Error.
type failure struct{ error }
