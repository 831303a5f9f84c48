package smtpotel

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

// A session takes all mail, but refuses by the local part: "code.N@…" with the code N at RCPT. Content that begins
// with "content N" it refuses with N.
type session struct{}

func refusal(text string) error {
	var code int
	if _, err := fmt.Sscanf(text, "code.%d", &code); err != nil {
		return nil
	}
	return proto.Refuse(code, proto.Status{uint16(code / 100), 1, 1}, "not carol@d.example")
}

func (session) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	return refusal(from.Local)
}
func (session) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	return refusal(to.Local)
}
func (session) Data(_ context.Context, r io.Reader) error {
	p, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return refusal(string(p))
}

// A lab is a server and a client's options, with all that they record.
type lab struct {
	t              *testing.T
	srv            *server.Server
	opt            *client.Options
	client         *clientTrace
	server         *serverTrace
	spans          *tracetest.InMemoryExporter
	metrics        *sdkmetric.ManualReader
	tracerProvider *sdktrace.TracerProvider
	serving        sync.WaitGroup
}

func newLab(t *testing.T, mode ext.TLSMode) *lab {
	l := &lab{t: t, spans: tracetest.NewInMemoryExporter(), metrics: sdkmetric.NewManualReader()}
	l.tracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(l.spans))
	opt := &Options{TracerProvider: l.tracerProvider,
		MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(l.metrics))}
	config := &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}}
	l.client = newClientTrace(opt)
	l.server = newServerTrace(opt)
	var err error
	l.srv, err = server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return session{}, nil
	}), &server.Options{Hostname: "mail.example", TLSConfig: config, Trace: l.server.trace()})
	if err != nil {
		t.Fatal(err)
	}
	l.opt = &client.Options{Hostname: "client.example", TLS: mode, TLSConfig: clienttest.TLSConfig(),
		Trace: l.client.trace(), DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			l.serving.Go(func() { l.srv.ServeConn(context.Background(), here) })
			return there, nil
		}}
	return l
}

func (l *lab) dial(ctx context.Context) *client.Client {
	l.t.Helper()
	c, err := client.Dial(ctx, "mail.example:25", l.opt)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// end waits for the server, and checks that nothing is kept and no address was recorded.
func (l *lab) end() tracetest.SpanStubs {
	l.t.Helper()
	l.serving.Wait()
	if n, m := len(l.client.conns), len(l.server.conns); n+m != 0 {
		l.t.Errorf("%d and %d connections are kept", n, m)
	}
	spans := l.spans.GetSpans()
	for _, text := range []string{fmt.Sprintf("%+v", spans), fmt.Sprintf("%+v", l.collect())} {
		for _, word := range []string{"@", "alice", "bob", "carol", "d.example", "hush"} {
			if strings.Contains(text, word) {
				l.t.Errorf("%q was recorded: %s", word, text)
			}
		}
	}
	return spans
}

func (l *lab) collect() map[string]metricdata.Aggregation {
	var all metricdata.ResourceMetrics
	if err := l.metrics.Collect(context.Background(), &all); err != nil {
		l.t.Fatal(err)
	}
	got := make(map[string]metricdata.Aggregation)
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			got[m.Name] = m.Data
		}
	}
	return got
}

// points describes the data points of a metric: their attributes, and their value or count.
func points(data metricdata.Aggregation) string {
	var all []string
	add := func(attrs attribute.Set, n any) {
		var words []string
		for _, a := range attrs.ToSlice() {
			if a.Key != "server.address" {
				words = append(words, a.Value.String())
			}
		}
		all = append(all, strings.TrimSpace(fmt.Sprint(strings.Join(words, " "), " ", n)))
	}
	switch d := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			add(p.Attributes, p.Value)
		}
	case metricdata.Histogram[int64]:
		for _, p := range d.DataPoints {
			add(p.Attributes, fmt.Sprint(p.Count, "x", p.Sum))
		}
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			add(p.Attributes, p.Count)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (l *lab) want(metrics map[string]string) {
	l.t.Helper()
	got := l.collect()
	for name, want := range metrics {
		if p := points(got[name]); p != want {
			l.t.Errorf("%s is %q, want %q", name, p, want)
		}
	}
}

// describe returns the attributes of spans of a name, those that all have left out, and E for an error.
func describe(spans tracetest.SpanStubs, name string) string {
	var all []string
	for _, s := range spans {
		if s.Name != name {
			continue
		}
		values := make(map[attribute.Key]string)
		for _, a := range s.Attributes {
			values[a.Key] = a.Value.String()
		}
		text := fmt.Sprintf("%s %s/%s %s", values["smtp.outcome"], values["smtp.recipients.accepted"],
			values["smtp.recipients"], values["smtp.size"])
		for _, key := range []attribute.Key{"smtp.command", "smtp.response.status_code",
			"smtp.response.enhanced_status_code", "error.type"} {
			if v := values[key]; v != "" {
				text += " " + v
			}
		}
		if s.Status.Code == codes.Error {
			text += " E"
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n")
}

func message(t testing.TB, body, from string, to ...string) *client.Message {
	m, err := client.NewMessage(from, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOneMessage: the trace of one message, with the server that the other end of the wire sees.
func TestOneMessage(t *testing.T) {
	l := newLab(t, ext.TLSRequired)
	ctx, parent := l.tracerProvider.Tracer("test").Start(t.Context(), "request")
	m := message(t, "hush\r\n", "alice@d.example", "bob@d.example")
	if err := client.Send(ctx, "mail.example:25", l.opt, m); err != nil {
		t.Fatal(err)
	}
	parent.End()
	spans := l.end()
	byKind := make(map[string]tracetest.SpanStub)
	for _, s := range spans {
		byKind[s.SpanKind.String()+" "+s.Name] = s
	}
	session, send := byKind["client SMTP session"], byKind["client SMTP send"]
	theirs, receive := byKind["server SMTP session"], byKind["server SMTP receive"]
	if len(spans) != 5 || len(byKind) != 5 {
		t.Fatalf("%d spans, want the request's and two of each end", len(spans))
	}
	for _, s := range []tracetest.SpanStub{session, send} {
		if s.Parent.SpanID() != parent.SpanContext().SpanID() {
			t.Errorf("%s is no child of the request", s.Name)
		}
	}
	if len(send.Links) != 1 || send.Links[0].SpanContext.SpanID() != session.SpanContext.SpanID() {
		t.Error("the message has no link to the connection")
	}
	if theirs.Parent.IsValid() || receive.Parent.SpanID() != theirs.SpanContext.SpanID() {
		t.Error("on the server the message is no child of the connection")
	}
	want := "network.peer.address=pipe network.protocol.name=smtp server.address=mail.example " +
		"smtp.outcome=accepted smtp.recipients.accepted=1 smtp.recipients=1 " +
		"smtp.response.enhanced_status_code=2.0.0 smtp.response.status_code=250 smtp.size=6 " +
		"tls.cipher=TLS_AES_128_GCM_SHA256 tls.protocol.version=1.3"
	if got := attributes(send); got != want {
		t.Errorf("the client's message has\n%s\nwant\n%s", got, want)
	}
	want = strings.Replace(want, "server.address=mail.example ", "", 1)
	if got := attributes(receive); got != want {
		t.Errorf("the server's message has\n%s\nwant\n%s", got, want)
	}
	if got := attributes(session); !strings.Contains(got, "tls.protocol.version=1.3") {
		t.Errorf("the connection has %s", got)
	}
	for _, end := range []string{"client", "server"} {
		l.want(map[string]string{
			"smtp." + end + ".message.duration": "accepted 1", "smtp." + end + ".message.size": "accepted 1x6",
			"smtp." + end + ".recipients": "accepted 1", "smtp." + end + ".open_connections": "0",
			"smtp." + end + ".connection.duration": "1",
		})
	}
}

func attributes(s tracetest.SpanStub) string {
	var all []string
	for _, a := range s.Attributes {
		all = append(all, string(a.Key)+"="+a.Value.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestManyOnTheirWay: with SendAll each span has the outcome of its own message, on both ends.
func TestManyOnTheirWay(t *testing.T) {
	l := newLab(t, ext.TLSInsecureNone)
	c := l.dial(t.Context())
	messages := []*client.Message{
		message(t, "first\r\n", "alice@d.example", "bob@d.example"),
		message(t, "1\r\n", "alice@d.example", "bob@d.example", "code.451@d.example"),
		message(t, "22\r\n", "alice@d.example", "code.550@d.example"),
		message(t, "code.554\r\n", "alice@d.example", "bob@d.example", "carol@d.example"),
		message(t, "333\r\n", "code.553@d.example", "bob@d.example"),
		message(t, "4444\r\n", "alice@d.example", "bob@d.example"),
	}
	if err := c.SendAll(t.Context(), slices.Values(messages), func(*client.Message, *client.Result, error) bool {
		return true
	}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	spans := l.end()
	const want = `accepted 1/1 7 250 2.0.0
partial 1/2 3 RCPT 451 4.1.1 451 E
rejected 0/1 4 RCPT 550 5.1.1 550 E
rejected 0/2 10 BDAT 554 5.1.1 554 E
rejected 0/1 5 MAIL 553 5.1.1 553 E
accepted 1/1 6 250 2.0.0`
	if got := describe(spans, "SMTP send"); got != want {
		t.Errorf("the client has\n%s\nwant\n%s", got, want)
	}
	const theirs = `accepted 1/1 7 250 2.0.0
partial 1/2 3 RCPT 451 4.1.1 451 E
rejected 0/1 0 BDAT 503 5.5.1 503
rejected 0/2 10 BDAT 554 5.1.1 554
rejected 0/0 0 MAIL 553 5.1.1 553
accepted 1/1 6 250 2.0.0`
	if got := describe(spans, "SMTP receive"); got != theirs {
		t.Errorf("the server has\n%s\nwant\n%s", got, theirs)
	}
	l.want(map[string]string{
		"smtp.client.recipients":       "accepted 3, deferred 1, rejected 4",
		"smtp.client.message.duration": "451 partial 1, 550 rejected 1, 553 rejected 1, 554 rejected 1, accepted 2",
		"smtp.server.recipients":       "accepted 3, deferred 1, rejected 3",
		"smtp.server.message.size":     "accepted 2x13, partial 1x3, rejected 1x10",
	})
}

// TestTwoClients: at the same time, with one Trace; each message is the child of its own request.
func TestTwoClients(t *testing.T) {
	l := newLab(t, ext.TLSInsecureNone)
	var all sync.WaitGroup
	for i := range 8 {
		ctx, parent := l.tracerProvider.Tracer("test").Start(t.Context(), fmt.Sprint("request ", i))
		m := message(t, strings.Repeat("x", i)+"\r\n", "alice@d.example", "bob@d.example")
		all.Go(func() {
			defer parent.End()
			if err := client.Send(ctx, "mail.example:25", l.opt, m); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	spans := l.end()
	names := make(map[string]string)
	for _, s := range spans {
		if strings.HasPrefix(s.Name, "request") {
			names[s.SpanContext.SpanID().String()] = s.Name
		}
	}
	n := 0
	for _, s := range spans {
		if s.Name != "SMTP send" {
			continue
		}
		n++
		var i int
		fmt.Sscanf(names[s.Parent.SpanID().String()], "request %d", &i)
		if !strings.Contains(attributes(s)+" ", fmt.Sprintf("smtp.size=%d ", i+2)) && i > 0 {
			t.Errorf("the message of request %d has %s", i, attributes(s))
		}
	}
	if n != 8 {
		t.Errorf("%d messages, want 8", n)
	}
	l.want(map[string]string{"smtp.client.open_connections": "0", "smtp.server.recipients": "accepted 8"})
}

// TestConnectionLost: a span ends also if the server is gone, and says that the outcome is unknown.
func TestConnectionLost(t *testing.T) {
	l := newLab(t, ext.TLSInsecureNone)
	script := clienttest.New(t, "S: 220 mail.example\nC: EHLO *\nS: 250 mail.example\nC: MAIL*\nS: 250 ok\nC: RCPT*\n"+
		"S: 250 ok\nC: DATA\nS: 354 go on\nC: hush\nC: .\nCLOSE")
	l.opt.DialContext = script.Dial
	c := l.dial(t.Context())
	_, err := c.Send(t.Context(), message(t, "hush\r\n", "alice@d.example", "bob@d.example"))
	if client.SafeToRetry(err) {
		t.Errorf("%v", err)
	}
	spans := l.end()
	if got, want := describe(spans, "SMTP send"), "unknown 0/1 9 connection E"; got != want {
		t.Errorf("the message has %q, want %q", got, want)
	}
	l.want(map[string]string{"smtp.client.connection.duration": "connection 1", "smtp.client.recipients": "unknown 1"})
}

// talk sends lines to the server as a client would that waits for each reply, and hangs up.
func (l *lab) talk(lines ...string) {
	here, there := net.Pipe()
	l.serving.Go(func() { l.srv.ServeConn(context.Background(), there) })
	p := prototest.NewPeer(l.t, here)
	p.Expect("220 ")
	for _, line := range lines {
		send, want, _ := strings.Cut(line, " > ")
		p.Ask(send, want)
	}
	here.Close()
	l.serving.Wait()
}

// TestAborted: a message on the server that is given up ends, in each of the ways.
func TestAborted(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"RSET", []string{"RSET > 250 "}, "aborted 0/1 0"},
		{"EHLO", []string{"EHLO x > 250-"}, "aborted 0/1 0"},
		{"hang-up", nil, "aborted 0/1 0"},
		{"QUIT", []string{"QUIT > 221 "}, "aborted 0/1 0"},
		{"MAIL in the middle", []string{"MAIL FROM:<x@y.example> > 503 ", "RSET > 250 "}, "aborted 0/1 0 MAIL 503 5.5.1 503"},
		{"refused, and then another", []string{"RSET > 250 ", "MAIL FROM:<code.450@d.example> > 450 ", "MAIL FROM:<> > 250 "},
			"aborted 0/1 0\ndeferred 0/0 0 MAIL 450 4.1.1 450 E\naborted 0/0 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, ext.TLSInsecureNone)
			l.talk(append([]string{"EHLO x > 250-", "MAIL FROM:<alice@d.example> > 250 ", "RCPT TO:<bob@d.example> > 250 "},
				tt.lines...)...)
			if got := describe(l.end(), "SMTP receive"); got != tt.want {
				t.Errorf("the server has\n%s\nwant\n%s", got, tt.want)
			}
			l.want(map[string]string{"smtp.server.open_connections": "0"})
		})
	}
}

// TestNothingIsKept: while a connection lasts, no message is kept that is over, nor replies to former commands.
func TestNothingIsKept(t *testing.T) {
	for _, end := range []string{"RSET", "EHLO x"} {
		l := newLab(t, ext.TLSInsecureNone)
		here, there := net.Pipe()
		l.serving.Go(func() { l.srv.ServeConn(context.Background(), there) })
		p := prototest.NewPeer(t, here)
		p.Expect("220 ")
		p.Ask("EHLO x", "250-", "MAIL FROM:<alice@d.example>", "250 ", "RCPT TO:<bob@d.example>", "250 ")
		for range 100 {
			p.Ask("NOOP", "250 ")
		}
		p.Ask(end, "250")
		for _, conn := range l.server.conns {
			if conn.message.span != nil {
				t.Errorf("the message goes on after %s", end)
			}
			if len(conn.codes) != 1 {
				t.Errorf("%d replies are kept, want that to %s", len(conn.codes), end)
			}
		}
		p.Ask("QUIT", "221 ")
		here.Close()
		l.end()
	}
}
