package smtpotel

import (
	"context"
	"crypto/tls"
	"errors"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// ClientTrace returns a Trace that records spans and metrics. Several clients may share it, and should: each call makes
// instruments. Opt may be nil.
func ClientTrace(opt *Options) *client.Trace {
	return newClientTrace(opt).trace()
}

type clientTrace struct {
	*instruments

	mu    sync.Mutex
	conns map[*client.Client]*connection // those that are open
}

func newClientTrace(opt *Options) *clientTrace {
	return &clientTrace{instruments: newInstruments(opt, "client"), conns: make(map[*client.Client]*connection)}
}

func (t *clientTrace) trace() *client.Trace {
	return &client.Trace{Connected: t.connected, Secured: t.secured, Message: t.message, Closed: t.closed}
}

// of returns the connection that c has, or nil.
func (t *clientTrace) of(c *client.Client) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[c]
}

// serverAddress is the one attribute of all metrics.
func serverAddress(c *client.Client) attribute.KeyValue {
	address := c.ServerName()
	if address == "" {
		address, _ = split(c.RemoteAddr())
	}
	return attribute.String("server.address", address)
}

func (t *clientTrace) connected(ctx context.Context, c *client.Client) {
	attrs := []attribute.KeyValue{serverAddress(c), attribute.String("network.protocol.name", "smtp")}
	if _, port := split(c.RemoteAddr()); port != 0 {
		attrs = append(attrs, attribute.Int("server.port", port))
	}
	conn := &connection{start: time.Now(), attrs: append(attrs, peer(c.RemoteAddr())...)}
	_, conn.span = t.tracer.Start(ctx, "SMTP session", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(conn.start), trace.WithAttributes(conn.attrs...))
	t.open.Add(ctx, 1, metric.WithAttributes(serverAddress(c)))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = conn
}

func (t *clientTrace) secured(_ context.Context, c *client.Client, state tls.ConnectionState) {
	if conn := t.of(c); conn != nil {
		conn.secured(state)
	}
}

func (t *clientTrace) closed(ctx context.Context, c *client.Client, err error) {
	t.mu.Lock()
	conn := t.conns[c]
	delete(t.conns, c)
	t.mu.Unlock()
	if conn != nil {
		t.close(ctx, conn, errorType(err), serverAddress(c))
	}
}

func (t *clientTrace) message(ctx context.Context, c *client.Client, m *client.Message) func(*client.Result, error) {
	start := time.Now()
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(start)}
	if conn := t.of(c); conn != nil {
		opts = append(opts, trace.WithAttributes(conn.attrs...),
			trace.WithLinks(trace.Link{SpanContext: conn.span.SpanContext()}))
	}
	_, span := t.tracer.Start(ctx, "SMTP send", opts...)
	server := serverAddress(c)
	return func(res *client.Result, err error) {
		r := &report{
			recipients: make(tally), errorType: errorType(err), isError: err != nil,
			reply: res.Reply, rcpts: len(res.Recipients), octets: res.Octets,
		}
		for i := range res.Recipients {
			r.recipients[recipientOutcome(res.Recipients[i].Err)]++
		}
		r.outcome = r.recipients.outcome(failed)
		var refusal *proto.Error
		if errors.As(err, &refusal) {
			r.command, r.reply = refusal.Verb, refusal.Reply()
		}
		t.end(ctx, span, start, r, []attribute.KeyValue{server})
	}
}

// recipientOutcome returns the outcome for a recipient with the error err.
func recipientOutcome(err error) string {
	var refusal *proto.Error
	switch {
	case err == nil:
		return accepted
	case errors.As(err, &refusal):
		return outcomeOf(refusal.Code)
	case !client.SafeToRetry(err):
		return unknown
	case client.Temporary(err):
		return deferred
	}
	return failed
}

// errorType returns the class of err for metrics: there are few.
func errorType(err error) string {
	var (
		refusal     *proto.Error
		lost        *client.LostError
		limit       *client.LimitError
		protocol    *client.ProtocolError
		message     *client.MessageError
		unsupported *ext.UnsupportedError
		tooLarge    *ehlo.TooLargeError
		noTLS       *ext.TLSError
		noAuth      *ext.AuthError
		allOrNone   *client.AllOrNoneError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return strconv.Itoa(refusal.Code)
	case errors.As(err, &allOrNone):
		return errorType(allOrNone.Err) // which it does not wrap
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &lost) && lost.Timeout():
		return "timeout"
	case lost != nil:
		return "connection"
	case errors.As(err, &protocol):
		return "protocol"
	case errors.As(err, &limit):
		return "limit"
	case errors.As(err, &message):
		return "message"
	case errors.As(err, &unsupported), errors.As(err, &tooLarge):
		return "unsupported"
	case errors.As(err, &noTLS):
		return "tls"
	case errors.As(err, &noAuth):
		return "auth"
	}
	return "_OTHER"
}
