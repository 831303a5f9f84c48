package examples

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/server/servertest"
)

// TestTwoDomains delivers to two domains, as the test of a program would: the resolver is a text, and the hosts are one
// server in memory.
func TestTwoDomains(t *testing.T) {
	srv := servertest.NewServer(t, &servertest.Options{Memory: true})
	d, err := mx.New(&mx.Options{
		Resolver: dnstest.New("example.org MX 10 mx.example.org\nmx.example.org A 192.0.2.1\nexample.net A 192.0.2.2"),
		Client:   &client.Options{DialContext: srv.DialContext},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	text := strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n")
	m, err := client.NewMessage("alice@example.com", []string{"bob@example.org", "carol@example.net"}, text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	srv.Inbox.Wait(servertest.To("bob@example.org"), servertest.Subject("Hello"))
	srv.Inbox.Wait(servertest.To("carol@example.net"), servertest.Subject("Hello"))
}
