package server

import (
	"context"
	"fmt"
	"io"
	"iter"

	"smtpkit.example/smtp/ext"
)

// Middleware returns a Backend that does something for each session, or before there is one, and leaves the rest to
// next. [Use] puts several around a Backend.
//
// Middleware refuses a client by an error of NewSession, and wraps the session that next makes to see its commands; see
// [Wrapper].
type Middleware func(next Backend) Backend

// Use returns b with middleware around it. The first is the outermost: it is asked first, about clients and about each
// command. Use panics if one is nil.
func Use(b Backend, m ...Middleware) Backend {
	for i := len(m) - 1; i >= 0; i-- {
		if m[i] == nil {
			panic(fmt.Sprintf("smtp: middleware %d of server.Use is nil: leave it out", i+1))
		}
		b = m[i](b)
	}
	return b
}

// A Wrapper is a Session around another one. Embed it in a session of middleware, and write only the methods that the
// middleware is about:
//
//	type session struct {
//		server.Wrapper
//		…
//	}
//
//	func (s *session) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
//		if err := s.check(ctx, to); err != nil {
//			return err
//		}
//		return s.Session.Rcpt(ctx, to, p)
//	}
//
// Further methods of the inner session, such as Authenticate, stay visible through Unwrap. These need care:
//
//   - A method that replaces Reset or Close calls that of the Wrapper, which calls that of the inner session.
//   - Data is not called where the inner session has DataEach. To see the content, or to change it, implement
//     [ContentFilter], which is asked in front of both.
//   - A method of another interface, such as Authenticate, hides that of the inner session. To call it, find it by
//     ext.As.
type Wrapper struct{ Session }

// Unwrap returns the inner session.
func (w Wrapper) Unwrap() any { return w.Session }

// Reset calls Reset of the inner session, if it is a [Resetter].
func (w Wrapper) Reset(ctx context.Context) {
	if r, ok := ext.As[Resetter](w.Session); ok {
		r.Reset(ctx)
	}
}

// Close calls Close of the inner session, if it is an io.Closer.
func (w Wrapper) Close() error {
	if c, ok := ext.As[io.Closer](w.Session); ok {
		return c.Close()
	}
	return nil
}

// A ContentFilter is a session that looks at the content of a message before another session takes it, or changes it.
// This one adds a field on top:
//
//	func (s *session) FilterContent(_ context.Context, r io.Reader) (io.Reader, error) {
//		return tracefield.Prepend(r, "X-Scanned: yes"), nil
//	}
//
// The server asks the sessions that Unwrap leads to, from the outermost to the innermost; each gets the reader that the
// one before it has returned. The last reader is that of Data, or DataEach.
type ContentFilter interface {
	// FilterContent returns the reader of the content, or r as it is. It may read from r first, such as the header. What
	// it returns has to return the errors of r, and io.EOF only where r does. An error refuses the message, as an error of
	// [Session.Data] does.
	FilterContent(ctx context.Context, r io.Reader) (io.Reader, error)
}

// filtersOf returns the filters among the session and those inside of it.
func filtersOf(session any) []ContentFilter {
	var filters []ContentFilter
	for s := range layers(session) {
		if f, ok := s.(ContentFilter); ok {
			filters = append(filters, f)
		}
	}
	return filters
}

// unwrapper is a session that wraps another.
type unwrapper interface{ Unwrap() any }

// layers yields the session, and then each that Unwrap leads to.
func layers(session any) iter.Seq[any] {
	return func(yield func(any) bool) {
		for session != nil && yield(session) {
			u, ok := session.(unwrapper)
			if !ok {
				return
			}
			session = u.Unwrap()
		}
	}
}

// content returns the reader of the content of which r is the reader.
func (s *userSession) content(ctx context.Context, r io.Reader) (io.Reader, error) {
	for _, f := range s.filters {
		var err error
		if r, err = f.FilterContent(ctx, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}
