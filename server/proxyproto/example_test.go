package proxyproto_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"

	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/proxyproto"
)

// A server behind a balancer sees the address of the client.
func Example() {
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
	defer srv.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	balancers := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	go func() { _ = srv.Serve(proxyproto.NewListener(l, &proxyproto.Options{Trusted: balancers})) }()

	// What a balancer does for each client:
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	client, here := netip.MustParseAddrPort("192.0.2.1:4242"), netip.MustParseAddrPort("198.51.100.1:25")
	if _, err := conn.Write(proxyproto.AppendV2(nil, client, here)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-seen)
	// Output: 192.0.2.1:4242
}
