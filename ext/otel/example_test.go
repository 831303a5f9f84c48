package smtpotel_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext"
	smtpotel "smtpkit.example/smtp/ext/otel"
	"smtpkit.example/smtp/server"
)

// The spans of one message: that of the request, and those of both ends.
func Example() {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	with := &smtpotel.Options{TracerProvider: provider} // leave this out where the global provider is set

	addr, stop := serve(with)
	p, err := pool.New(addr, &client.Options{TLS: ext.TLSInsecureNone, Trace: smtpotel.ClientTrace(with)}, nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, request := provider.Tracer("app").Start(context.Background(), "request")
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, strings.NewReader("Subject: Hello\r\n\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := p.Send(ctx, m); err != nil {
		log.Print(err)
	}
	request.End()
	p.Close(context.Background())
	stop()

	for _, s := range exporter.GetSpans() {
		if s.Name == "SMTP send" {
			fmt.Println(s.Name, s.SpanKind, s.Parent.SpanID() == request.SpanContext().SpanID())
			for _, a := range s.Attributes {
				if strings.HasPrefix(string(a.Key), "smtp.") {
					fmt.Println(a.Key, "=", a.Value.String())
				}
			}
		}
	}
	// Output:
	// SMTP send client true
	// smtp.outcome = accepted
	// smtp.recipients = 1
	// smtp.recipients.accepted = 1
	// smtp.size = 18
	// smtp.response.status_code = 250
	// smtp.response.enhanced_status_code = 2.0.0
}

// serve starts a server that takes everything, and returns its address.
func serve(with *smtpotel.Options) (addr string, stop func()) {
	accept := server.MessageFunc(func(context.Context, *server.Message) error { return nil })
	srv, err := server.New(accept, &server.Options{Hostname: "mail.example.net", Trace: smtpotel.ServerTrace(with)})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	return l.Addr().String(), func() {
		_ = srv.Shutdown(context.Background())
		<-done
	}
}
