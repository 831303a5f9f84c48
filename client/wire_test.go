package client

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
)

// TestTruncation checks that the end of a TLS connection without a word in the middle of a reply is no reply (e.3 59).
func TestTruncation(t *testing.T) {
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer here.Close()
		s := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}})
		in := &lineReader{r: s}
		io.WriteString(s, "220 mail.example\r\n")
		in.line()
		io.WriteString(s, "250 mail.example\r\n")
		in.line()
		io.WriteString(s, "250-ok\r\n")
	}()
	c, err := NewClient(context.Background(), there, clienttest.Hostname,
		&Options{TLS: ext.TLSImplicit, TLSConfig: clienttest.TLSConfig()})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Noop(context.Background())
	if _, ok := asType[*LostError](err); !ok {
		t.Errorf("%v, want a LostError", err)
	}
	<-done
}
