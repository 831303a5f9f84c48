// Mx is a mail server for port 25: it takes mail for the recipients in a file, and delivers it into Maildirs.
//
//	go run ./examples/mx -domain example.org -recipients recipients.txt -mail /var/mail/vhosts \
//	    -cert cert.pem -key key.pem -greylist /var/lib/mx/greylist -dnsbl bl.example
//
// Users and programs that send mail do so elsewhere: it relays for nobody.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/deliver"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/policy"
	"smtpkit.example/smtp/server/proxyproto"
)

// config is what the command line says.
type config struct {
	addr, cert, key, recipients, mail, greylist string
	domains                                     []string
	lists                                       []policy.List
	trusted, proxies                            []netip.Prefix
	messages                                    int
	delay                                       time.Duration
	dns                                         dns.Options
	options                                     server.Options
}

func parseFlags() (*config, error) {
	c := &config{}
	flag.StringVar(&c.addr, "addr", ":25", "listen here")
	flag.StringVar(&c.options.Hostname, "hostname", "", "name of the server (default: that of the machine)")
	flag.StringVar(&c.cert, "cert", "", "file with the certificate, PEM; it is read again when it is renewed")
	flag.StringVar(&c.key, "key", "", "file with its private key, PEM (default: it is in -cert)")
	flag.StringVar(&c.recipients, "recipients", "", "file with an address in each line; it is read again when it changes")
	flag.StringVar(&c.mail, "mail", "mail", "directory: the Maildir of joe@example.org is example.org/joe in it")
	flag.StringVar(&c.greylist, "greylist", "greylist", "file in which greylisting remembers")
	flag.DurationVar(&c.delay, "delay", time.Minute, "for how long greylisting puts off")
	flag.IntVar(&c.messages, "rate", 60, "messages in a minute from one address")
	text := func(s string) (string, error) { return s, nil }
	each("domain", "`domain` for which mail is taken; the first one's is the postmaster", &c.domains, text)
	each("resolver", "`address` of a name server (default: those of the machine)", &c.dns.Servers, text)
	list := func(zone string) (policy.List, error) { return policy.List{Zone: zone}, nil }
	each("dnsbl", "`zone` of a block list", &c.lists, list)
	each("trust", "`network` whose clients are asked for nothing but recipients", &c.trusted, netip.ParsePrefix)
	each("proxy", "`network` of proxies that tell the client by the PROXY protocol", &c.proxies, netip.ParsePrefix)
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case c.recipients == "" || len(c.domains) == 0:
		return nil, errors.New("give -domain, and -recipients with the addresses there")
	}
	return c, nil
}

func each[T any](name, usage string, list *[]T, parse func(string) (T, error)) {
	flag.Func(name, usage+" (repeatable)", func(s string) error {
		v, err := parse(s)
		*list = append(*list, v)
		return err
	})
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("mx: ")
	c, err := parseFlags()
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", l.Addr())
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(stop, cancel) // a second signal ends it at once
	if err := run(stop, c, l); err != nil {
		log.Fatal(err)
	}
}

// run serves until stop has ended, and then lets clients finish what is in hand.
func run(stop context.Context, c *config, l net.Listener) error {
	kept, err := policy.OpenGreylistFile(c.greylist, nil)
	if err != nil {
		return err
	}
	defer kept.Close()
	checks, err := c.checks(kept)
	if err != nil {
		return err
	}
	if c.cert != "" {
		certs, err := server.ReadCertificates(nil, server.CertificateFile{Certificate: c.cert, Key: c.key})
		if err != nil {
			return err
		}
		c.options.TLSConfig = &tls.Config{GetCertificate: certs.GetCertificate}
	}
	binary := ehlo.BinaryMIME().Keyword // no Maildir can hold such content
	c.options.Extensions = slices.DeleteFunc(ehlo.Relay(), func(e ext.Extension) bool { return e.Keyword == binary })
	home, err := proto.ParseDomain(c.domains[0])
	if err != nil {
		return err
	}
	backend := deliverTo(deliver.Maildir{Path: deliver.Under(c.mail)}, home)
	srv, err := server.New(server.Use(backend, checks), &c.options)
	if err != nil {
		return err
	}
	if len(c.proxies) > 0 {
		l = proxyproto.NewListener(l, &proxyproto.Options{Trusted: c.proxies})
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-stop.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return srv.Shutdown(ctx)
}

// checks returns what a client has to pass, in the order in which it is asked: what costs least comes first.
func (c *config) checks(kept policy.GreylistStore) (server.Middleware, error) {
	resolver, err := dns.New(&c.dns)
	if err != nil {
		return nil, err
	}
	recipients, err := policy.ReadRecipients(c.recipients, nil)
	if err != nil {
		return nil, err
	}
	trusted := func(_ context.Context, conn *server.Conn) bool {
		at, ok := conn.RemoteAddr().(*net.TCPAddr)
		in := func(p netip.Prefix) bool { return p.Contains(at.AddrPort().Addr().Unmap()) }
		return ok && slices.ContainsFunc(c.trusted, in)
	}
	parts := []policy.Part{
		policy.Rate{Messages: c.messages, Recipients: 10 * c.messages, Skip: trusted},
		policy.Harvest{Skip: trusted},
		policy.Relay{Domains: c.domains},
		policy.Recipients{Lookup: recipients.Lookup},
		policy.HELO{Resolver: resolver, Refuse: policy.HELOForged, Skip: trusted},
	}
	if len(c.lists) > 0 {
		lists := policy.DNSList{Resolver: resolver, Lists: c.lists, Skip: trusted}
		if err := lists.Check(context.Background()); err != nil {
			log.Print(err) // a list that does not answer refuses nobody
		}
		parts = append(parts, lists)
	}
	return policy.Chain(append(parts, policy.Greylist{Store: kept, Delay: c.delay, Skip: trusted})...)
}

// deliverTo returns a backend that delivers each message while its client waits. If that fails for one of several
// recipients, the client tries again, and the others get the message twice: that is better than not at all.
func deliverTo(mailboxes client.Sender, home proto.Domain) server.Backend {
	return server.MessageFunc(func(ctx context.Context, m *server.Message) error {
		for i := range m.To {
			if a := &m.To[i].Address; a.Domain.IsZero() { // <Postmaster>
				a.Domain = home
			}
		}
		body := tracefield.Prepend(tracefield.CheckLoop(m.Body, nil), server.Received(m.Conn).String())
		result, err := mailboxes.Send(ctx, &client.Message{From: m.From, To: m.To, Body: body})
		switch {
		case err == nil || result.Sent() == 0:
			return err
		case client.Temporary(err):
			return &proto.Error{Code: 451, Status: proto.Status{4, 3, 0}, Text: "Try again later", Err: err}
		}
		log.Print(err) // the recipients file has an address that can have no Maildir
		return nil
	})
}
