package smtpotel

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// ServerTrace returns a Trace that records spans and metrics. Several servers may share it. Opt may be nil.
func ServerTrace(opt *Options) *server.Trace {
	return newServerTrace(opt).trace()
}

type serverTrace struct {
	*instruments
	counters

	mu    sync.Mutex
	conns map[*server.Conn]*serverConn // those that are open
}

// A serverConn is a connection, and the message on it. The server calls a Trace for one thing at a time.
type serverConn struct {
	connection
	ctx     context.Context // has the span of the connection
	message received
	codes   []int // of the replies since the last command
}

// A received is a message that is being received. It is zero if there is none.
type received struct {
	span     trace.Span
	start    time.Time
	rcpts    tally
	accepted int
	last     proto.Reply // the last refusal
	command  string      // that it answers
}

func newServerTrace(opt *Options) *serverTrace {
	i := newInstruments(opt, "server")
	return &serverTrace{instruments: i, counters: newCounters(i.meter), conns: make(map[*server.Conn]*serverConn)}
}

func (t *serverTrace) trace() *server.Trace {
	return &server.Trace{
		Refused: t.refusedConn, Limited: t.limitedBy, Connected: t.connected, Secured: t.secured, Authenticated: t.authenticated,
		Command: t.command, Reply: t.reply, Content: t.content, Verdict: t.verdict, Closed: t.closed,
	}
}

func (t *serverTrace) of(c *server.Conn) *serverConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[c]
}

func (t *serverTrace) connected(ctx context.Context, c *server.Conn) {
	conn := &serverConn{connection: connection{start: time.Now()}}
	name := attribute.String("network.protocol.name", strings.ToLower(c.Protocol().String()))
	conn.attrs = append([]attribute.KeyValue{name}, peer(c.RemoteAddr())...)
	conn.ctx, conn.span = t.tracer.Start(ctx, "SMTP session", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(conn.start), trace.WithAttributes(conn.attrs...))
	t.open.Add(ctx, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = conn
}

func (t *serverTrace) secured(_ context.Context, c *server.Conn, state tls.ConnectionState) {
	if conn := t.of(c); conn != nil {
		conn.secured(state)
	}
}

func (t *serverTrace) command(_ context.Context, c *server.Conn, verb, _ string) {
	conn := t.of(c)
	if conn == nil {
		return
	}
	conn.codes = conn.codes[:0]
	if verb != "MAIL" || c.State() != proto.Ready {
		return
	}
	t.abort(conn)
	m := received{start: time.Now(), rcpts: make(tally)}
	_, m.span = t.tracer.Start(conn.ctx, "SMTP receive", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(m.start), trace.WithAttributes(conn.attrs...))
	conn.message = m
}

func (t *serverTrace) reply(_ context.Context, c *server.Conn, verb string, r proto.Reply) {
	conn := t.of(c)
	if conn == nil {
		return
	}
	conn.codes = append(conn.codes, r.Code)
	m := &conn.message
	if m.span == nil {
		return
	}
	if r.Code >= 400 {
		m.last, m.command = r, verb
	}
	switch verb {
	case "MAIL":
		if c.State() == proto.Ready { // it was refused, and is not one too many in a transaction
			t.finish(conn, &report{recipients: m.rcpts, outcome: outcomeOf(r.Code)})
		}
	case "RCPT":
		if r.Code/100 == 2 {
			m.accepted++
		} else {
			m.rcpts[outcomeOf(r.Code)]++
		}
	case "RSET", "EHLO", "HELO", "LHLO":
		if r.Code/100 == 2 {
			t.abort(conn)
		}
	}
}

// content is called behind the last reply to the content.
func (t *serverTrace) content(_ context.Context, c *server.Conn, octets int64, r proto.Reply) {
	conn := t.of(c)
	if conn == nil || conn.message.span == nil {
		return
	}
	m := &conn.message
	for _, code := range contentCodes(conn.codes, m.accepted, c.Protocol()) {
		m.rcpts[outcomeOf(code)]++
	}
	rep := &report{recipients: m.rcpts, reply: r, octets: octets}
	rep.outcome = m.rcpts.outcome(outcomeOf(r.Code))
	if m.last.Code == 0 {
		m.last = r
	}
	t.finish(conn, rep)
}

// contentCodes returns the code of the reply for each of n recipients. The replies are those since the last command. In
// LMTP there is one for each recipient; in SMTP one for all, unless 353 comes first: then one for each and one for all.
func contentCodes(codes []int, n int, p proto.Protocol) []int {
	if len(codes) == 0 {
		return nil
	}
	last := codes[len(codes)-1]
	announced := slices.Index(codes, 353) + 1
	switch {
	case p == proto.LMTP && len(codes) >= n:
		return codes[len(codes)-n:]
	case announced > 0 && last/100 == 2 && len(codes) > announced+n:
		return codes[announced : announced+n]
	}
	return slices.Repeat([]int{last}, n)
}

// abort ends a message that was not received to its end.
func (t *serverTrace) abort(conn *serverConn) {
	m := &conn.message
	if m.span == nil {
		return
	}
	if m.accepted > 0 {
		m.rcpts[aborted] += m.accepted
	}
	t.finish(conn, &report{recipients: m.rcpts, outcome: m.rcpts.outcome(aborted)})
}

// finish ends the message. The reply is the last refusal, if there was one.
func (t *serverTrace) finish(conn *serverConn, r *report) {
	m := conn.message
	conn.message = received{}
	for _, n := range m.rcpts {
		r.rcpts += n
	}
	if m.last.Code >= 400 {
		r.reply, r.command, r.errorType = m.last, m.command, strconv.Itoa(m.last.Code)
		r.isError = m.last.Code < 500
	}
	t.end(conn.ctx, m.span, m.start, r, nil)
}

func (t *serverTrace) closed(_ context.Context, c *server.Conn, err error) {
	t.mu.Lock()
	conn := t.conns[c]
	delete(t.conns, c)
	t.mu.Unlock()
	if conn == nil {
		return
	}
	t.abort(conn)
	t.close(conn.ctx, &conn.connection, closeType(err))
}

// closeType returns the class of the error with which a connection ended.
func closeType(err error) string {
	var refusal *proto.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return strconv.Itoa(refusal.Code)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, server.ErrServerClosed), errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "connection"
}
