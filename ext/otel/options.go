package smtpotel

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"smtpkit.example/smtp/proto"
)

const scope = "smtpkit.example/smtp/ext/otel"

// Options say where spans and metrics go. The zero value is ready to use, and nil stands for it.
type Options struct {
	TracerProvider trace.TracerProvider // default: the global one
	MeterProvider  metric.MeterProvider // default: the global one
}

// The instruments are what one end records.
type instruments struct {
	tracer trace.Tracer
	meter  metric.Meter

	messageDuration, connDuration metric.Float64Histogram
	messageSize                   metric.Int64Histogram
	recipients                    metric.Int64Counter
	open                          metric.Int64UpDownCounter
}

// newInstruments returns the instruments of an end, "client" or "server".
func newInstruments(opt *Options, end string) *instruments {
	var o Options
	if opt != nil {
		o = *opt
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	meter := o.MeterProvider.Meter(scope)
	seconds := metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 600)
	octets := metric.WithExplicitBucketBoundaries(1<<10, 1<<12, 1<<14, 1<<16, 1<<18, 1<<20, 1<<22, 1<<24, 1<<26)
	prefix := "smtp." + end + "."
	i := &instruments{tracer: o.TracerProvider.Tracer(scope), meter: meter}
	var errs [5]error
	i.messageDuration, errs[0] = meter.Float64Histogram(prefix+"message.duration", metric.WithUnit("s"), seconds,
		metric.WithDescription("How long it took until the outcome of a message was known."))
	i.messageSize, errs[1] = meter.Int64Histogram(prefix+"message.size", metric.WithUnit("By"), octets,
		metric.WithDescription("The size of the content as it was transmitted."))
	i.recipients, errs[2] = meter.Int64Counter(prefix+"recipients", metric.WithUnit("{recipient}"),
		metric.WithDescription("The recipients of messages, by their outcome."))
	i.open, errs[3] = meter.Int64UpDownCounter(prefix+"open_connections", metric.WithUnit("{connection}"),
		metric.WithDescription("The connections that are open."))
	i.connDuration, errs[4] = meter.Float64Histogram(prefix+"connection.duration", metric.WithUnit("s"), seconds,
		metric.WithDescription("How long a connection was open."))
	for _, err := range errs {
		if err != nil {
			otel.Handle(err) // the instrument does nothing then
		}
	}
	return i
}

// since returns the seconds since start.
func since(start time.Time) float64 { return time.Since(start).Seconds() }

// A connection is what is known of one.
type connection struct {
	span  trace.Span
	start time.Time
	attrs []attribute.KeyValue // of its span, and of those of its messages
}

// secured notes the state of TLS.
func (c *connection) secured(state tls.ConnectionState) {
	attrs := []attribute.KeyValue{
		attribute.String("tls.protocol.version", strings.TrimPrefix(tls.VersionName(state.Version), "TLS ")),
		attribute.String("tls.cipher", tls.CipherSuiteName(state.CipherSuite)),
	}
	c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], attrs...)
	c.span.SetAttributes(attrs...)
}

// peer returns the attributes for the address of the other end.
func peer(addr net.Addr) []attribute.KeyValue {
	host, port := split(addr)
	if host == "" {
		return nil
	}
	attrs := []attribute.KeyValue{attribute.String("network.peer.address", host)}
	if port != 0 {
		attrs = append(attrs, attribute.Int("network.peer.port", port))
	}
	return attrs
}

// split returns the host and the port of addr; the port is 0 if it has none.
func split(addr net.Addr) (string, int) {
	if addr == nil {
		return "", 0
	}
	text := addr.String()
	host, port, err := net.SplitHostPort(text)
	if n, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil {
		return host, int(n)
	}
	return text, 0
}

// The outcomes of recipients and messages.
const (
	accepted = "accepted"
	deferred = "deferred"
	rejected = "rejected"
	unknown  = "unknown"
	failed   = "failed"
	aborted  = "aborted"
	partial  = "partial"
)

// outcomeOf returns the outcome that a final reply is.
func outcomeOf(code int) string {
	switch code / 100 {
	case 2:
		return accepted
	case 4:
		return deferred
	}
	return rejected
}

// A tally counts recipients by their outcome.
type tally map[string]int

// outcome returns that of the message, or otherwise if there are no recipients.
func (t tally) outcome(otherwise string) string {
	switch len(t) {
	case 0:
		return otherwise
	case 1:
		for outcome := range t {
			return outcome
		}
	}
	return partial
}

// A report is what is to be recorded of a message.
type report struct {
	recipients tally
	outcome    string
	errorType  string // "" if there was none
	isError    bool   // of the span
	command    string // that was refused
	reply      proto.Reply
	rcpts      int
	octets     int64
}

// end records a message that began at start, and ends its span. The attributes are those of its metrics.
func (i *instruments) end(ctx context.Context, span trace.Span, start time.Time, r *report, attrs []attribute.KeyValue) {
	attrs = attrs[:len(attrs):len(attrs)]
	span.SetAttributes(
		attribute.String("smtp.outcome", r.outcome), attribute.Int("smtp.recipients", r.rcpts),
		attribute.Int("smtp.recipients.accepted", r.recipients[accepted]), attribute.Int64("smtp.size", r.octets))
	if r.reply.Code != 0 {
		span.SetAttributes(attribute.Int("smtp.response.status_code", r.reply.Code))
	}
	if !r.reply.Status.IsZero() {
		span.SetAttributes(attribute.String("smtp.response.enhanced_status_code", r.reply.Status.String()))
	}
	if r.command != "" {
		span.SetAttributes(attribute.String("smtp.command", r.command))
	}
	fail(span, r.errorType, r.isError)
	span.End()

	ctx = trace.ContextWithSpan(ctx, span) // for exemplars
	for outcome, n := range r.recipients {
		with := metric.WithAttributes(append(attrs, attribute.String("smtp.outcome", outcome))...)
		i.recipients.Add(ctx, int64(n), with)
	}
	attrs = append(attrs, attribute.String("smtp.outcome", r.outcome))
	if r.octets > 0 {
		i.messageSize.Record(ctx, r.octets, metric.WithAttributes(attrs...))
	}
	i.messageDuration.Record(ctx, since(start), metric.WithAttributes(withError(attrs, r.errorType)...))
}

// close records the end of a connection. The attributes are those of its metrics.
func (i *instruments) close(ctx context.Context, c *connection, errorType string, attrs ...attribute.KeyValue) {
	fail(c.span, errorType, errorType != "")
	c.span.End()
	ctx = trace.ContextWithSpan(ctx, c.span)
	i.open.Add(ctx, -1, metric.WithAttributes(attrs...))
	i.connDuration.Record(ctx, since(c.start), metric.WithAttributes(withError(attrs, errorType)...))
}

// fail notes an error in a span. The status has no description: the text of an error can have addresses in it.
func fail(span trace.Span, errorType string, isError bool) {
	if errorType != "" {
		span.SetAttributes(attribute.String("error.type", errorType))
	}
	if isError {
		span.SetStatus(codes.Error, "")
	}
}

func withError(attrs []attribute.KeyValue, errorType string) []attribute.KeyValue {
	if errorType == "" {
		return attrs
	}
	return append(attrs[:len(attrs):len(attrs)], attribute.String("error.type", errorType))
}
