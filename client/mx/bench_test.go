package mx

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// BenchmarkSend measures what routing costs: the same message to the same host in memory, by MX and over a pool.
func BenchmarkSend(b *testing.B) {
	text := strings.NewReader("Subject: x\r\n\r\n" + strings.Repeat("All work and no play\r\n", 50))
	send := func(b *testing.B, s client.Sender) {
		b.ReportAllocs()
		m, err := client.NewMessage("alice@sender.example", []string{"a@d.example"}, text)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := s.Send(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("mx", func(b *testing.B) {
		var n network
		n.add("192.0.2.1", &host{forgets: true})
		d, err := New(&Options{
			Resolver: dnstest.New(oneHost), DisableSTS: true,
			Client: &client.Options{Hostname: "client.example", DialContext: n.connect},
		})
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close(b.Context())
		send(b, d)
	})
	b.Run("pool", func(b *testing.B) {
		var n network
		n.add("192.0.2.1", &host{forgets: true})
		p, err := pool.New("192.0.2.1:25", &client.Options{
			Hostname: "client.example", DialContext: n.connect, TLS: ext.TLSInsecureNone,
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close(b.Context())
		send(b, p)
	})
}
