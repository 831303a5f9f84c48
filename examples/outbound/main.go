// Outbound delivers mail for a queue: it takes messages by LMTP on a local port, delivers them while the queue waits,
// and tells the outcome for each recipient. Mail for its own domain goes into Maildirs, and all other to the mail
// exchangers of the recipients, signed with DKIM and protected by DANE and MTA-STS. Each day it sends reports on TLS.
//
//	go run . -hostname mail.example.org -domain example.org -key 2026a:rsa.pem -mailboxes MAIL -state STATE
//
// It shows how the parts of delivery are joined, in outbound.go, and in which order they end. To have DANE, run a
// resolver that validates on this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/dkim"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A config is what the command line says. Tests set more of it.
type config struct {
	listen    string
	domain    string
	mailboxes string // a directory
	state     string // likewise: policies, and what reports count
	port      uint16 // of mail exchangers; 0 stands for 25
	dns       dns.Options
	client    client.Options
	dkim      dkim.Options
	tlsrpt    tlsrpt.Options
}

func parseFlags(args []string) (*config, error) {
	c := &config{}
	var key, resolver string
	f := flag.NewFlagSet("outbound", flag.ContinueOnError)
	f.StringVar(&c.listen, "listen", "127.0.0.1:2424", "`address` for LMTP, which must not be reached by strangers")
	f.StringVar(&c.client.Hostname, "hostname", "", "the `name` that the address of this machine has in the DNS")
	f.StringVar(&c.domain, "domain", "", "the `domain` whose mail goes into Maildirs")
	f.StringVar(&c.mailboxes, "mailboxes", "", "`directory` of the Maildirs: DIR/DOMAIN/USER")
	f.StringVar(&c.state, "state", "", "`directory` for what has to outlive the program; it must be there")
	f.StringVar(&key, "key", "", "`SELECTOR:FILE` of the key with which the domain signs")
	f.StringVar(&resolver, "resolver", "", "`host:port` of a resolver (default: those of the system)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	selector, file, ok := strings.Cut(key, ":")
	if !ok || c.client.Hostname == "" || c.domain == "" || c.mailboxes == "" || c.state == "" || f.NArg() > 0 {
		return nil, errors.New("give -hostname, -domain, -key SELECTOR:FILE, -mailboxes and -state, and nothing else")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	signer, err := dkim.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	c.dkim.Keys = []dkim.Key{{Domain: c.domain, Selector: selector, Signer: signer}}
	c.tlsrpt.Organization = c.domain
	c.tlsrpt.Contact = "postmaster@" + c.domain
	if resolver != "" {
		c.dns.Servers = []string{resolver}
	}
	return c, nil
}

func main() {
	log.SetPrefix("outbound: ")
	c, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", c.listen)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.run(ctx, l); err != nil {
		log.Fatal(err)
	}
}

// run takes mail from l and delivers it, until ctx ends. It closes l, and nothing of it is left when it returns.
func (c *config) run(ctx context.Context, l net.Listener) error {
	defer l.Close()
	out, err := c.open(ctx)
	if err != nil {
		return err
	}
	srv, err := server.New(server.BackendFunc(func(_ context.Context, conn *server.Conn) (server.Session, error) {
		return &session{conn: conn, next: out}, nil
	}), &server.Options{Hostname: c.client.Hostname, Protocol: proto.LMTP, Extensions: extensions()})
	if err != nil {
		return errors.Join(err, out.close(ctx))
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case <-ctx.Done():
	case err = <-served: // the listener has failed
		served <- err
	}

	// The end: take no more mail, wait for what is being delivered, and then end what delivers.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	stopped := srv.Shutdown(ending)
	if err = <-served; errors.Is(err, server.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, stopped, out.close(ending))
}
