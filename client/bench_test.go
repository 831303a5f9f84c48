package client

import (
	"context"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

// listen returns the address of a sink on the loopback interface, which takes one connection.
func listen(b *testing.B, keywords ...string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s := &sink{conn: conn, in: &lineReader{r: conn}, done: make(chan struct{}), discard: true}
		s.serve(keywords)
	}()
	b.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// BenchmarkSendAll sends messages of 4 KB over one connection.
func BenchmarkSendAll(b *testing.B) {
	body := strings.Repeat("The quick brown fox jumps over the lazy dog, time and again.\r\n", 64)
	for name, keywords := range map[string][]string{
		"lockstep": nil, "groups": {"PIPELINING"}, "chunks": {"PIPELINING", "CHUNKING"},
	} {
		b.Run(name, func(b *testing.B) {
			c, err := Dial(context.Background(), listen(b, keywords...), &Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			msgs := func(yield func(*Message) bool) {
				for b.Loop() {
					if !yield(message(body, "c@d.example")) {
						return
					}
				}
			}
			err = c.SendAll(context.Background(), msgs, func(_ *Message, _ *Result, err error) bool { return err == nil })
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSendLarge sends a message of 30 MB.
func BenchmarkSendLarge(b *testing.B) {
	body := strings.Repeat("The quick brown fox jumps over the lazy dog, time and again.\r\n", 500000)
	for name, keywords := range map[string][]string{"DATA": {"PIPELINING"}, "chunks": {"PIPELINING", "CHUNKING"}} {
		b.Run(name, func(b *testing.B) {
			c, err := Dial(context.Background(), listen(b, keywords...), &Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				m := message("", "c@d.example")
				m.Body = strings.NewReader(body)
				if _, err := c.Send(context.Background(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
