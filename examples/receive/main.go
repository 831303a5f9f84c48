// Receive is a mail drop: it accepts mail over SMTP, SMTP over TLS and LMTP, and puts each message into a directory, as
// NNNNNN.eml with exactly the octets that came and NNNNNN.json with its envelope.
//
//	go run ./examples/receive -dir /tmp/mail -user alice:secret
package main

import (
	"context"
	"crypto/tls"
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

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// config is what the command line says.
type config struct {
	addr, tlsAddr, lmtpAddr string
	cert, key               string
	users                   map[string]string
	reject                  []proto.Address
	dir                     string
	options                 server.Options
}

func parseFlags() (*config, error) {
	c := &config{users: make(map[string]string)}
	flag.StringVar(&c.addr, "addr", "127.0.0.1:2525", "listen for SMTP here and offer STARTTLS; empty: do not")
	flag.StringVar(&c.tlsAddr, "tls-addr", "", "listen for SMTP over TLS here")
	flag.StringVar(&c.lmtpAddr, "lmtp-addr", "", "listen for LMTP here")
	flag.StringVar(&c.cert, "cert", "", "file with the certificate, PEM; absent: one is made")
	flag.StringVar(&c.key, "key", "", "file with its private key, PEM")
	flag.StringVar(&c.options.Hostname, "hostname", "", "name of the server (default: that of the machine)")
	flag.StringVar(&c.dir, "dir", ".", "directory for the messages")
	flag.BoolVar(&c.options.RequireAuth, "require-auth", false, "accept mail from users only")
	flag.Int64Var(&c.options.MaxSize, "max-size", 0, "largest message in octets; 0: 64 MiB, -1: no limit")
	flag.IntVar(&c.options.MaxRcpts, "max-rcpts", 0, "most recipients of a message; 0: 1000")
	flag.DurationVar(&c.options.CommandTimeout, "idle-timeout", 0, "how long to wait for a client; 0: 5 minutes")
	flag.Func("user", "`name:password` of a user who may authenticate (repeatable)", func(s string) error {
		name, password, ok := strings.Cut(s, ":")
		if !ok || name == "" || password == "" {
			return errors.New("want name:password")
		}
		c.users[name] = password
		return nil
	})
	flag.Func("reject", "`address` of a recipient to refuse with 550 (repeatable)", func(s string) error {
		a, err := proto.ParseAddress(s)
		c.reject = append(c.reject, a)
		return err
	})
	flag.Parse()
	c.options.ContentTimeout = c.options.CommandTimeout
	c.options.WriteTimeout = c.options.CommandTimeout
	c.options.HandshakeTimeout = c.options.CommandTimeout
	switch {
	case flag.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case (c.cert == "") != (c.key == ""):
		return nil, errors.New("-cert and -key go together")
	case c.options.RequireAuth && len(c.users) == 0:
		return nil, errors.New("-require-auth needs a -user")
	}
	return c, nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("receive: ")
	c, err := parseFlags()
	if err == nil {
		err = run(c)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(c *config) error {
	drop, err := openDrop(c.dir)
	if err != nil {
		return err
	}
	if c.options.TLSConfig, err = c.tlsConfig(); err != nil {
		return err
	}
	servers, done, err := c.start(&backend{drop: drop, users: c.users, reject: c.reject})
	if err != nil {
		return err
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	select {
	case err := <-done:
		return errors.Join(err, shutDown(servers))
	case <-stop.Done():
	}
	cancel() // a second signal ends it at once
	log.Print("shutting down")
	return shutDown(servers)
}

// patience is how long clients have to finish what is in hand when the program ends.
const patience = 5 * time.Minute

// shutDown lets every server finish what is in hand, all at the same time.
func shutDown(servers []*server.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, len(servers))
	for _, s := range servers {
		go func() { done <- s.Shutdown(ctx) }()
	}
	var err error
	for range servers {
		err = errors.Join(err, <-done)
	}
	return err
}

// start listens and serves. What a server returns before it was shut down comes out of the channel.
func (c *config) start(b server.Backend) ([]*server.Server, <-chan error, error) {
	lmtp := c.options
	lmtp.Protocol = proto.LMTP
	lmtp.MaxConnsPerHost = -1 // its clients are a mail server, all of them one host
	done := make(chan error, 3)
	var servers []*server.Server
	var start []func()
	for _, l := range []struct {
		kind, addr string
		options    *server.Options
		serve      func(*server.Server, net.Listener) error
	}{
		{"SMTP", c.addr, &c.options, (*server.Server).Serve},
		{"SMTP over TLS", c.tlsAddr, &c.options, (*server.Server).ServeTLS},
		{"LMTP", c.lmtpAddr, &lmtp, (*server.Server).Serve},
	} {
		if l.addr == "" {
			continue
		}
		s, err := server.New(b, l.options)
		if err != nil {
			return nil, nil, err
		}
		listener, err := net.Listen("tcp", l.addr)
		if err != nil {
			return nil, nil, err
		}
		log.Printf("listening for %s on %v", l.kind, listener.Addr())
		servers = append(servers, s)
		start = append(start, func() {
			if err := l.serve(s, listener); !errors.Is(err, server.ErrServerClosed) {
				done <- err
			}
		})
	}
	if len(servers) == 0 {
		return nil, nil, errors.New("nothing to listen on: give -addr, -tls-addr or -lmtp-addr")
	}
	for _, serve := range start { // now that all addresses are known to be free
		go serve()
	}
	return servers, done, nil
}

func (c *config) tlsConfig() (*tls.Config, error) {
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		return &tls.Config{Certificates: []tls.Certificate{pair}}, err
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	if c.options.Hostname != "" {
		names = append([]string{c.options.Hostname}, names...)
	}
	pair, err := selfSigned(names...)
	return &tls.Config{Certificates: []tls.Certificate{pair}}, err
}

// now is the time of arrival in an envelope.
func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }
