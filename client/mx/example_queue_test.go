package mx_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// A queue makes an attempt when a message is due. Then it strikes out the recipients who were accepted, sends a bounce
// for those who never will be, and keeps the others: [client.SendError.Retry] returns the message for these. Here the
// server is a real one on a loopback port, with a certificate that only DANE knows, and refuses strangers at first
// (greylisting).
func ExampleDeliverer_Send_queue() {
	ctx := context.Background()
	cert, _, err := prototest.NewCertificate("mx.example.org")
	if err != nil {
		log.Fatal(err)
	}
	server := listen(cert)
	defer server.Close()
	port := netip.MustParseAddrPort(server.Addr().String()).Port()
	resolver := dnstest.New(fmt.Sprintf(`
		example.org                    MX   10 mx.example.org
		mx.example.org                 A    127.0.0.1
		_%d._tcp.mx.example.org        TLSA 3 1 1 %x
	`, port, sha256.Sum256(publicKey(cert))))
	resolver.Secure("example.org")

	d, err := mx.New(&mx.Options{
		Resolver: resolver,
		Port:     port, // 25 in a program
		Client:   &client.Options{Hostname: "mail.example.com"},
		Trace: &mx.Trace{Attempted: func(_ context.Context, a *mx.Attempt) {
			fmt.Printf("%s at %v, policy %v, TLS %v\n", a.Host, a.Addr.Addr(), a.Policy, a.TLS != nil)
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)

	to := []string{"bob@example.org", "new@example.org", "nobody@example.org"}
	m, err := client.NewMessage("alice@example.com", to, strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	for attempt := 0; m != nil && attempt < 2; attempt++ {
		result, err := d.Send(ctx, m)
		for _, r := range result.Recipients {
			switch {
			case r.Err == nil:
				fmt.Println("done:", r.Address)
			case client.Temporary(r.Err) && client.SafeToRetry(r.Err):
				fmt.Println("keep:", r.Address, r.Err)
			default:
				fmt.Println("bounce:", r.Address, r.Err)
			}
		}
		var failed *client.SendError
		if errors.As(err, &failed) {
			m = failed.Retry(m) // a queue would wait, for half an hour or so at first; nil: nobody is left
		} else {
			m = nil
		}
	}
	// Output:
	// mx.example.org at 127.0.0.1, policy DANE, TLS true
	// done: bob@example.org
	// keep: new@example.org smtp: RCPT: 450 4.7.1 Greylisted, come back later
	// bounce: nobody@example.org smtp: RCPT: 550 5.1.1 No such mailbox
	// mx.example.org at 127.0.0.1, policy DANE, TLS true
	// done: new@example.org
}

// Whoever owns a domain decides to which addresses its mail exchangers resolve. A program that shares a host or a
// network with servers which trust their neighbours connects only to addresses of the public Internet. The function
// sees the addresses of literals too, such as in bob@[127.0.0.1], and those of hosts with MTA-STS policies.
func ExampleOptions_publicOnly() {
	shared := netip.MustParsePrefix("100.64.0.0/10") // between providers and their customers (RFC 6598)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		at, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, err
		}
		if a := at.Addr().Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() || shared.Contains(a) {
			return nil, notPublic{a}
		}
		return pretend(ctx, network, addr) // in a program: new(net.Dialer).DialContext
	}
	d, err := mx.New(&mx.Options{
		Resolver: dnstest.New(`
			example.org       MX   10 mx.example.org
			mx.example.org    A    192.0.2.1
			evil.example      MX   10 mx.evil.example
			mx.evil.example   A    127.0.0.1
			mx.evil.example   AAAA ::ffff:10.0.0.1 ; which is 10.0.0.1
			mixed.example     MX   10 mx.evil.example
			mixed.example     MX   20 mx.example.org
		`),
		Client: &client.Options{DialContext: dial},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(context.Background())
	to := []string{"bob@example.org", "bob@evil.example", "bob@mixed.example", "bob@[127.0.0.1]"}
	m, err := client.NewMessage("alice@example.com", to, strings.NewReader("\r\nHi\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	result, _ := d.Send(context.Background(), m)
	for _, r := range result.Recipients {
		fmt.Println(r.Address, "accepted:", r.Err == nil, "again:", client.Temporary(r.Err))
	}
	// Output:
	// bob@example.org accepted: true again: false
	// bob@evil.example accepted: false again: false
	// bob@mixed.example accepted: true again: false
	// bob@[127.0.0.1] accepted: false again: false
}

// A notPublic is the error for an address that is not of the public Internet.
type notPublic struct{ addr netip.Addr }

func (e notPublic) Error() string {
	return e.addr.String() + " is not an address of the public Internet"
}
func (e notPublic) Status() proto.Status { return proto.Status{5, 4, 4} } // for good

// publicKey returns the public key of a certificate, as a TLSA record with selector 1 has it.
func publicKey(cert tls.Certificate) []byte {
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		log.Fatal(err)
	}
	return leaf.RawSubjectPublicKeyInfo
}

// listen serves a mail exchanger on a port of its own at 127.0.0.1. It has STARTTLS, knows no nobody, and refuses new
// once.
func listen(cert tls.Certificate) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for seen := false; ; {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			seen = exchange(conn, cert, seen)
		}
	}()
	return l
}

// exchange serves a connection until it ends. It returns whether the recipient new was seen.
func exchange(conn net.Conn, cert tls.Certificate, seen bool) bool {
	defer func() { conn.Close() }()
	in := bufio.NewScanner(conn)
	for reply := "220 mx.example.org\r\n"; ; {
		if _, err := fmt.Fprint(conn, reply); err != nil || !in.Scan() {
			return seen
		}
		switch verb, args, _ := strings.Cut(in.Text(), " "); {
		case verb == "EHLO":
			reply = "250-mx.example.org\r\n250-ENHANCEDSTATUSCODES\r\n250 STARTTLS\r\n"
		case verb == "STARTTLS":
			fmt.Fprint(conn, "220 2.0.0 Go on\r\n")
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			in = bufio.NewScanner(conn)
			reply = ""
		case verb == "RCPT" && strings.HasPrefix(args, "TO:<nobody"):
			reply = "550 5.1.1 No such mailbox\r\n"
		case verb == "RCPT" && strings.HasPrefix(args, "TO:<new") && !seen:
			reply, seen = "450 4.7.1 Greylisted, come back later\r\n", true
		case verb == "DATA":
			fmt.Fprint(conn, "354 Go on\r\n")
			for in.Scan() && in.Text() != "." {
			}
			reply = "250 2.0.0 Queued\r\n"
		default:
			reply = "250 2.0.0 Fine\r\n"
		}
	}
}
