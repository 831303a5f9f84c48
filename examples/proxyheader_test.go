package examples

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/proxyproto"
)

// A program that sends on behalf of its own clients tells the server their addresses, by the PROXY protocol: both ends
// of it are in this module.
func Example_proxyHeader() {
	for _, version := range []struct {
		name  string
		bytes func(dst []byte, client, server netip.AddrPort) []byte
	}{{"version 1", proxyproto.AppendV1}, {"version 2", proxyproto.AppendV2}} {
		seen := make(chan net.Addr, 1)
		srv, err := server.New(server.MessageFunc(func(_ context.Context, m *server.Message) error {
			_, err := io.Copy(io.Discard, m.Body)
			return err
		}), &server.Options{
			Hostname: "mail.example",
			Trace:    &server.Trace{Connected: func(_ context.Context, c *server.Conn) { seen <- c.RemoteAddr() }},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			return
		}
		trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		go func() { _ = srv.Serve(proxyproto.NewListener(l, &proxyproto.Options{Trusted: trusted})) }()

		from := netip.MustParseAddrPort("[2001:db8::1]:4242") // whom the message comes from
		to := netip.MustParseAddrPort("[2001:db8::25]:25")    // what it connected to
		opt := &client.Options{
			DialContext: client.ProxyHeader(nil, func(net.Conn) []byte { return version.bytes(nil, from, to) }),
			TLS:         ext.TLSInsecureNone, // for this example
		}
		m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, strings.NewReader("Subject: Hi\r\n\r\n"))
		if err == nil {
			err = client.Send(context.Background(), l.Addr().String(), opt, m)
		}
		fmt.Println(version.name, <-seen, err)
		srv.Close()
	}
	// Output:
	// version 1 [2001:db8::1]:4242 <nil>
	// version 2 [2001:db8::1]:4242 <nil>
}
