package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/proxyproto"
)

// config is what the command line of serve says.
type config struct {
	addr, tlsAddr, proxyAddr string
	cert, key, clientCA      string
	user, password, token    string
	mechanisms               string
	trusted                  string
	mailMax, domainMax       int
	records                  string
	options                  server.Options
}

func parseServe(args []string) (*config, error) {
	c := new(config)
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	f.StringVar(&c.addr, "addr", "127.0.0.1:2525", "listen for SMTP here and offer STARTTLS")
	f.StringVar(&c.tlsAddr, "tls-addr", "", "listen for SMTP over TLS here")
	f.StringVar(&c.proxyAddr, "proxy-addr", "", "listen for SMTP behind the PROXY protocol here")
	f.StringVar(&c.cert, "cert", "", "file with the certificate, PEM")
	f.StringVar(&c.key, "key", "", "file with its private key, PEM")
	f.StringVar(&c.clientCA, "client-ca", "", "file with the authority of clients' certificates, PEM")
	f.StringVar(&c.user, "user", "", "name of the one user")
	f.StringVar(&c.password, "password", "", "the user's password")
	f.StringVar(&c.token, "token", "", "the user's bearer token")
	f.StringVar(&c.mechanisms, "mechanisms", "", "mechanisms to offer, separated by commas; empty: all")
	f.StringVar(&c.trusted, "trusted", "127.0.0.0/8", "network that may use XCLIENT, XFORWARD and PROXY")
	f.IntVar(&c.mailMax, "mail-max", 0, "messages over one connection; 0: no limit")
	f.IntVar(&c.domainMax, "domain-max", 0, "domains of recipients over one connection; 0: no limit")
	f.StringVar(&c.records, "records", "", "file for the records")
	f.IntVar(&c.options.Limits.Rcpts, "max-rcpts", 0, "recipients of a message; 0: 1000")
	f.BoolVar(&c.options.RequireAuth, "require-auth", false, "accept mail from users only")
	f.BoolVar(&c.options.AllowInsecureAuth, "insecure-auth", false, "let users authenticate in clear")
	return c, f.Parse(args)
}

func serve(args []string) error {
	c, err := parseServe(args)
	if err != nil {
		return err
	}
	trusted, err := netip.ParsePrefix(c.trusted)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	clients, err := authority(c.clientCA)
	if err != nil {
		return err
	}
	out, err := os.Create(c.records)
	if err != nil {
		return err
	}
	defer out.Close()
	b := &backend{config: c, recorder: newRecorder(out)}
	if err := b.makeSecrets(); err != nil {
		return err
	}
	c.options.Hostname = "ours.example"
	c.options.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.VerifyClientCertIfGiven,
	}
	c.options.Extensions = withAll(ehlo.XCLIENT(trusted), ehlo.XFORWARD(trusted))
	c.options.Trace = b.trace()
	srv, err := server.New(b, &c.options)
	if err != nil {
		return err
	}
	return b.listen(srv, &proxyproto.Options{Trusted: []netip.Prefix{trusted}, Rejected: b.rejected})
}

// listen serves until the program is told to end.
func (c *config) listen(srv *server.Server, proxy *proxyproto.Options) error {
	done := make(chan error, 3)
	for _, l := range []struct {
		addr  string
		serve func(net.Listener) error
	}{
		{c.addr, srv.Serve},
		{c.tlsAddr, srv.ServeTLS},
		{c.proxyAddr, func(l net.Listener) error { return srv.Serve(proxyproto.NewListener(l, proxy)) }},
	} {
		if l.addr == "" {
			continue
		}
		listener, err := net.Listen("tcp", l.addr)
		if err != nil {
			return errors.Join(err, srv.Close())
		}
		go func() { done <- l.serve(listener) }()
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	select {
	case err := <-done:
		return errors.Join(err, srv.Close())
	case <-stop.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}

// A backend knows one user, by every mechanism there is.
type backend struct {
	*config
	*recorder
	secrets map[crypto.Hash]auth.SCRAMSecret
}

// iterations are those of the secrets.
const iterations = 4096

func (b *backend) makeSecrets() error {
	b.secrets = make(map[crypto.Hash]auth.SCRAMSecret)
	if b.password == "" {
		return nil
	}
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		s, err := auth.NewSCRAMSecret(h, b.password, iterations)
		if err != nil {
			return err
		}
		b.secrets[h] = s
	}
	return nil
}

func (b *backend) NewSession(_ context.Context, c *server.Conn) (server.Session, error) {
	s := &session{backend: b, conn: c, record: b.of(c)}
	s.quota = ehlo.Quota{MailMax: b.mailMax, RcptDomainMax: b.domainMax}
	if b.user == "" {
		return s, nil
	}
	return &userSession{s}, nil
}

// offered returns the mechanisms of names that are to be offered.
func (c *config) offered(names []string) []string {
	if c.mechanisms == "" {
		return names
	}
	var list []string
	for _, name := range names {
		if strings.Contains(","+c.mechanisms+",", ","+name+",") {
			list = append(list, name)
		}
	}
	return list
}

func refusal(code int, status proto.Status, text string) error {
	return &proto.Error{Code: code, Status: status, Text: text}
}
