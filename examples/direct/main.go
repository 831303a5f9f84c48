// Direct sends a file, or what it reads, as a message to the mail exchangers of each recipient's domain. It prints one
// line for each recipient: the host, the version of TLS, the policy that decided, and the reply.
//
//	go run ./examples/direct -helo mail.example.org -from alice@example.org -to bob@example.net message.eml
//
// DANE needs a resolver that validates, on this machine: see -resolver. MTA-STS needs a directory that keeps policies:
// see -sts-cache.
//
// The exit status is one of sysexits.h: 0 all recipients accepted, 1 some of them, 64 usage, 65 an address or the
// message cannot be sent, 66 no such file, 69 refused, or the domain takes no mail, 75 failed for now, 76 the server
// does not follow the protocol, 77 no host fulfils the policies for TLS.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/ehlo"
)

// config is what the command line says.
type config struct {
	from       string
	to         []string
	file       string
	requireTLS bool // REQUIRETLS
	verbose    bool
	stsCache   string
	out        io.Writer // for the lines of the recipients
	names      dns.Options
	options    mx.Options
}

func parseFlags(args []string) (*config, error) {
	c := &config{out: os.Stdout, options: mx.Options{Client: &client.Options{TLSConfig: &tls.Config{}}}}
	var resolver, mode, ca string
	var port uint
	var timeout time.Duration
	var trace bool
	f := flag.NewFlagSet("direct", flag.ContinueOnError)
	f.StringVar(&c.from, "from", "", "sender; empty: the null reverse-path <>")
	f.Func("to", "`address` of a recipient (repeatable)", func(s string) error {
		c.to = append(c.to, s)
		return nil
	})
	f.StringVar(&resolver, "resolver", "", "`host:port` of a resolver, which is trusted for DNSSEC if it is on loopback "+
		"(default: those of the system)")
	f.UintVar(&port, "port", 25, "port of the mail exchangers")
	f.StringVar(&c.options.Client.Hostname, "helo", "", "name to introduce the client by")
	f.StringVar(&c.stsCache, "sts-cache", "", "`directory` for the policies of MTA-STS (default: they are forgotten)")
	f.StringVar(&ca, "ca", "", "`file` with the certificates to trust, PEM, for mail exchangers and for policies "+
		"(default: those of the system)")
	f.StringVar(&mode, "tls", "opportunistic", "opportunistic, or required: by TLS only, with a certificate that verifies")
	f.BoolVar(&c.requireTLS, "requiretls", false, "demand TLS on the whole way (REQUIRETLS, RFC 8689)")
	f.DurationVar(&timeout, "timeout", 0, "how long to wait for each reply (default: what RFC 5321 has)")
	f.BoolVar(&trace, "trace", false, "print the dialogues to standard error")
	f.BoolVar(&c.verbose, "v", false, "print the route of each domain and each attempt to standard error")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	c.file = f.Arg(0)
	switch {
	case len(c.to) == 0:
		return nil, errors.New("-to is missing")
	case f.NArg() != 1:
		return nil, errors.New("give one file with the message, or - for standard input")
	case mode != "opportunistic" && mode != "required":
		return nil, fmt.Errorf("-tls is %q: use opportunistic or required", mode)
	case port < 1 || port > 65535:
		return nil, fmt.Errorf("-port is %d: use 1 to 65535", port)
	}
	c.options.Port = uint16(port)
	c.options.RequireTLS = mode == "required"
	if resolver != "" {
		c.names.Servers = []string{resolver}
	}
	if timeout != 0 {
		c.options.Client.Timeouts = client.AllTimeouts(timeout)
	}
	if trace {
		c.options.Client.Trace = dialogue()
	}
	return c, c.trust(ca)
}

// trust makes the certificates in a file the ones to trust.
func (c *config) trust(file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("-ca %s has no certificate in PEM form", file)
	}
	c.options.Client.TLSConfig.RootCAs = roots
	return nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("direct: ")
	c, err := parseFlags(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		log.Print(err)
		os.Exit(exitUsage)
	}
	os.Exit(c.run(context.Background()))
}

// run sends the message, and returns the exit status.
func (c *config) run(ctx context.Context) int {
	body, err := c.open()
	if err != nil {
		log.Print(err)
		return exitNoInput
	}
	defer body.Close()
	m, err := client.NewMessage(c.from, c.to, body)
	if err != nil {
		log.Print(err)
		return status(err)
	}
	if c.requireTLS {
		m.Mail = ehlo.AddRequireTLS(m.Mail)
	}
	attempts := newAttempts(c.verbose)
	c.options.Trace = attempts.trace()
	d, stop, err := c.deliverer(ctx)
	if err != nil {
		log.Print(err)
		return exitUsage
	}
	defer stop()
	res, err := d.Send(ctx, m)
	return c.report(attempts, res, err)
}

// deliverer returns what delivers, and a function that ends it.
func (c *config) deliverer(ctx context.Context) (*mx.Deliverer, func(), error) {
	resolver, err := dns.New(&c.names)
	if err != nil {
		return nil, nil, err
	}
	if c.verbose {
		if err := resolver.CheckDNSSEC(ctx); err != nil {
			log.Printf("-- there is no DANE: %v", err)
		}
	}
	c.options.Resolver = resolver
	sts := mtasts.Options{Resolver: resolver, TLSConfig: c.options.Client.TLSConfig}
	if c.stsCache != "" {
		if sts.Store, err = mtasts.DirStore(c.stsCache, 0); err != nil {
			return nil, nil, err
		}
	}
	if c.options.STS, err = mtasts.New(&sts); err != nil {
		return nil, nil, err
	}
	d, err := mx.New(&c.options)
	if err != nil {
		return nil, nil, errors.Join(err, c.options.STS.Close())
	}
	return d, func() {
		if err := errors.Join(d.Close(ctx), c.options.STS.Close()); err != nil {
			log.Print(err) // the outcomes are known all the same
		}
	}, nil
}

// open returns the content. What can be read once will do: the Deliverer keeps it if it needs it more often.
func (c *config) open() (*os.File, error) {
	if c.file == "-" {
		return os.Stdin, nil
	}
	return os.Open(c.file)
}
