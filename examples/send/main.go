// Send sends a file, or what it reads, as a message, and prints one line for each recipient with the reply that
// decided.
//
//	go run ./examples/send -server mail.example.org:587 -user alice -pass secret \
//		-from alice@example.org -to bob@example.net message.eml
//
// The exit status is one of sysexits.h: 0 all recipients accepted, 1 some of them, 64 usage, 65 an address or the
// message cannot be sent, 66 no such file, 69 refused, 75 failed for now, 76 the server does not follow the protocol,
// 77 TLS or authentication failed.
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
	"strings"
	"time"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// config is what the command line says.
type config struct {
	server, from string
	to           []string
	file         string
	count        int
	trace        bool
	out          io.Writer // for the lines of the recipients
	options      client.Options
}

var modes = map[string]ext.TLSMode{
	"required":      ext.TLSRequired,
	"opportunistic": ext.TLSOpportunistic,
	"if-offered":    ext.TLSIfOffered,
	"implicit":      ext.TLSImplicit,
	"none":          ext.TLSInsecureNone,
}

func parseFlags(args []string) (*config, error) {
	c := &config{out: os.Stdout}
	var mode, ca, serverName, user, pass string
	var timeout time.Duration
	var lmtp bool
	f := flag.NewFlagSet("send", flag.ContinueOnError)
	f.StringVar(&c.server, "server", "", "`host:port` to send to; for LMTP also unix:/path")
	f.StringVar(&c.from, "from", "", "sender; empty: the null reverse-path <>")
	f.Func("to", "`address` of a recipient (repeatable)", func(s string) error {
		c.to = append(c.to, s)
		return nil
	})
	f.StringVar(&mode, "tls", "required", "required, if-offered, opportunistic, implicit or none")
	f.StringVar(&ca, "ca", "", "`file` with the certificates to trust, PEM (default: those of the system)")
	f.StringVar(&serverName, "server-name", "", "name that the certificate has to be for (default: the host)")
	f.StringVar(&user, "user", "", "name to authenticate with")
	f.StringVar(&pass, "pass", "", "password to authenticate with")
	f.StringVar(&c.options.Hostname, "helo", "", "name to introduce the client by")
	f.DurationVar(&timeout, "timeout", 0, "how long to wait for each reply (default: what RFC 5321 has)")
	f.IntVar(&c.count, "count", 1, "send the message so many times over one connection")
	f.BoolVar(&lmtp, "lmtp", false, "speak LMTP")
	f.BoolVar(&c.trace, "trace", false, "print the dialogue to standard error, without credentials")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var ok bool
	if c.options.TLS, ok = modes[mode]; !ok {
		return nil, fmt.Errorf("-tls is %q: use required, if-offered, opportunistic, implicit or none", mode)
	}
	if lmtp {
		c.options.Protocol = proto.LMTP
	}
	if timeout != 0 {
		c.options.Timeouts = client.AllTimeouts(timeout)
	}
	if user != "" {
		c.options.Credentials = auth.Password(user, pass)
	}
	c.file = f.Arg(0)
	switch {
	case c.server == "":
		return nil, errors.New("-server is missing")
	case len(c.to) == 0:
		return nil, errors.New("-to is missing")
	case f.NArg() != 1:
		return nil, errors.New("give one file with the message, or - for standard input")
	case c.count < 1:
		return nil, errors.New("-count must be 1 at least")
	}
	c.options.TLSConfig = &tls.Config{ServerName: serverName}
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
	c.options.TLSConfig.RootCAs = x509.NewCertPool()
	if !c.options.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("-ca %s has no certificate in PEM form", file)
	}
	return nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("send: ")
	c, err := parseFlags(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		log.Print(err)
		os.Exit(exitUsage)
	}
	if c.trace {
		c.options.Trace = trace()
	}
	os.Exit(c.run(context.Background()))
}

// run sends the message as often as was asked for, and returns the exit status.
func (c *config) run(ctx context.Context) int {
	open, err := c.opener()
	if err != nil {
		log.Print(err)
		return exitNoInput
	}
	first, err := c.message(open)
	if err != nil {
		log.Print(err)
		return status(err)
	}
	conn, err := client.Dial(ctx, c.server, &c.options)
	if err != nil {
		log.Print(err)
		return status(err)
	}
	code, reported := 0, 0
	messages := func(yield func(*client.Message) bool) {
		m := first
		for n := 0; n < c.count && m != nil && yield(m); n++ {
			if m, err = c.message(open); err != nil {
				log.Print(err)
				code = max(code, status(err))
			}
		}
	}
	err = conn.SendAll(ctx, messages, func(_ *client.Message, r *client.Result, err error) bool {
		code = max(code, c.report(r, err))
		reported++
		return true
	})
	if err != nil && reported < c.count { // what comes behind the last outcome changes nothing about it
		code = max(code, status(err))
	}
	if err != nil && code != 0 {
		log.Print(err)
	}
	if err := conn.Close(); err != nil && code == 0 {
		log.Print(err) // the messages are sent all the same
	}
	return code
}

func (c *config) message(open func() (io.Reader, error)) (*client.Message, error) {
	body, err := open()
	if err != nil {
		return nil, err
	}
	return client.NewMessage(c.from, c.to, body)
}

// opener returns a function that opens the message anew each time.
func (c *config) opener() (func() (io.Reader, error), error) {
	switch {
	case c.file != "-":
		f, err := os.Open(c.file)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			return func() (io.Reader, error) { return io.NewSectionReader(f, 0, info.Size()), nil }, nil
		}
		return reread(f, c.count)
	default:
		return reread(os.Stdin, c.count)
	}
}

// reread is for input that can be read once: it is kept in memory if it is needed more often.
func reread(r io.Reader, count int) (func() (io.Reader, error), error) {
	if count == 1 {
		return func() (io.Reader, error) { return r, nil }, nil
	}
	text, err := io.ReadAll(r)
	return func() (io.Reader, error) { return strings.NewReader(string(text)), nil }, err
}
