package smtpotel

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// counters are the instruments of a server beside those that both ends have.
type counters struct {
	refused, limited, authentications, verdicts metric.Int64Counter
}

func newCounters(meter metric.Meter) (c counters) {
	for _, i := range []struct {
		to                      *metric.Int64Counter
		name, unit, description string
	}{
		{&c.refused, "smtp.server.refused_connections", "{connection}", "The connections that were over a limit."},
		{&c.limited, "smtp.server.limited_commands", "{command}", "What was refused to clients by limits that they share."},
		{&c.authentications, "smtp.server.authentications", "{attempt}", "The attempts to authenticate, by their outcome."},
		{&c.verdicts, "smtp.server.verdicts", "{verdict}", "What checks have found out, by method and result."},
	} {
		var err error
		*i.to, err = meter.Int64Counter(i.name, metric.WithUnit(i.unit), metric.WithDescription(i.description))
		if err != nil {
			otel.Handle(err) // the instrument does nothing then
		}
	}
	return c
}

// refusedConn is called for a connection for which connected is not.
func (t *serverTrace) refusedConn(ctx context.Context, _ *server.Conn, e *proto.Error) {
	t.refused.Add(ctx, 1, metric.WithAttributes(attribute.Int("smtp.response.status_code", e.Code)))
}

// limitedBy is called when a client on an open connection is over a limit that it shares with others.
func (t *serverTrace) limitedBy(ctx context.Context, _ *server.Conn, e *proto.Error) {
	t.limited.Add(ctx, 1, metric.WithAttributes(attribute.Int("smtp.response.status_code", e.Code)))
}

// authenticated notes the end of an attempt. Who it was is not noted.
func (t *serverTrace) authenticated(ctx context.Context, c *server.Conn, o ext.AuthOutcome) {
	outcome, mechanism := failed, o.Mechanism
	switch {
	case o.Err == nil:
		outcome = accepted
	case o.Denied:
		outcome = rejected
	default:
		mechanism = "_OTHER" // the client may have made it up
	}
	t.note(ctx, c, t.authentications, "smtp.auth",
		attribute.String("smtp.auth.mechanism", mechanism), attribute.String("smtp.outcome", outcome))
}

func (t *serverTrace) verdict(ctx context.Context, c *server.Conn, v server.Verdict) {
	t.note(ctx, c, t.verdicts, "smtp.verdict",
		attribute.String("smtp.verdict.method", v.Method), attribute.String("smtp.verdict.result", v.Result))
}

// note counts something that happens on a connection, and makes it an event of the span of the message, if there is
// one, and otherwise of the session.
func (t *serverTrace) note(ctx context.Context, c *server.Conn, counter metric.Int64Counter, event string,
	attrs ...attribute.KeyValue) {
	if conn := t.of(c); conn != nil {
		span := conn.span
		if conn.message.span != nil {
			span = conn.message.span
		}
		span.AddEvent(event, trace.WithAttributes(attrs...))
		ctx = trace.ContextWithSpan(ctx, span) // for exemplars
	}
	counter.Add(ctx, 1, metric.WithAttributes(attrs...))
}
