package mx_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
)

// A test of a program that sends mail to anybody brings its own DNS, and a network in which there are servers of its
// own at all addresses. The function pretend stands for these: see package clienttest for one that follows a script,
// and package server for one that does what a Session says.
func Example() {
	ctx := context.Background()
	resolver := dnstest.New(`
		example.org     MX 10 mx.example.org
		mx.example.org  A  192.0.2.1
		example.net     MX 0 .   ; takes no mail
	`)
	d, err := mx.New(&mx.Options{Resolver: resolver, Client: &client.Options{DialContext: pretend}})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	text := strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n")
	m, err := client.NewMessage("alice@example.com", []string{"bob@example.org", "carol@example.net"}, text)
	if err != nil {
		log.Fatal(err)
	}
	result, _ := d.Send(ctx, m)
	for _, r := range result.Recipients {
		fmt.Println(r.Address, r.Err)
	}
	// Output:
	// bob@example.org <nil>
	// carol@example.net smtp: no route to example.net: the domain takes no mail (RFC 7505): ask for another address
}

// A program may want to know where mail would go.
func ExampleRouter() {
	resolver := dnstest.New(`
		example.org      MX   20 backup.example.org
		example.org      MX   10 mx.example.org
		mx.example.org   AAAA 2001:db8::1
		mx.example.org   A    192.0.2.1
		backup.example.org A  192.0.2.2
	`)
	domain, err := proto.ParseDomain("example.org")
	if err != nil {
		log.Fatal(err)
	}
	r := &mx.Router{Resolver: resolver}
	route, err := r.Route(context.Background(), domain)
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range route.Hosts {
		fmt.Println(h.Preference, h.Name, h.Addrs)
	}
	// Output:
	// 10 mx.example.org [2001:db8::1 192.0.2.1]
	// 20 backup.example.org [192.0.2.2]
}

// The trace tells which policy held for each host.
func ExampleTrace() {
	trace := &mx.Trace{Attempted: func(_ context.Context, a *mx.Attempt) {
		fmt.Printf("%s: %s by %s, policy %s, TLS %v\n", a.Domain, a.Result.Reply.Text, a.Host, a.Policy, a.TLS != nil)
	}}
	d, err := mx.New(&mx.Options{
		Resolver: dnstest.New("example.org MX 10 mx.example.org\nmx.example.org A 192.0.2.1"),
		Client:   &client.Options{DialContext: pretend},
		Trace:    trace,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(context.Background())
	m, err := client.NewMessage("alice@example.com", []string{"bob@example.org"}, strings.NewReader("\r\nHi\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := d.Send(context.Background(), m); err != nil {
		log.Fatal(err)
	}
	// Output:
	// example.org: Queued by mx.example.org, policy none, TLS false
}

// Mail for some domains may go another way than by MX: a Deliverer is a client.Sender, as a pool is. Package deliver
// has a table of them.
func ExampleDeliverer() {
	d, err := mx.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(context.Background())
	var sender client.Sender = d
	fmt.Printf("%T\n", sender)
	// Output:
	// *mx.Deliverer
}

// pretend connects to a server in memory that takes everything.
func pretend(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		replies := map[string]string{"EHLO": "250 mx.example", "DATA": "354 Go on", "QUIT": "221 Bye", ".": "250 Queued"}
		in, content := bufio.NewScanner(there), false
		for reply := "220 mx.example"; ; {
			if _, err := fmt.Fprint(there, reply, "\r\n"); err != nil {
				return
			}
			for in.Scan() && content && in.Text() != "." {
			}
			verb, _, _ := strings.Cut(in.Text(), " ")
			content = verb == "DATA"
			if reply = replies[verb]; reply == "" {
				reply = "250 Fine"
			}
		}
	}()
	return here, nil
}
