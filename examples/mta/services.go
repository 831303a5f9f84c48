package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"smtpkit.example/smtp/client/queue/queuehttp"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/policy"
)

// listen makes the servers, and takes their ports.
func (m *mta) listen() error {
	c := m.config
	certificates, err := c.tlsConfig()
	if err != nil {
		return err
	}
	strangers, err := m.strangers(certificates)
	if err != nil {
		return err
	}
	users, err := m.users(certificates)
	if err != nil {
		return err
	}
	if m.server, err = server.New(strangers.backend, strangers.options); err != nil {
		return err
	}
	submission, err := m.server.Service(users.backend, users.options)
	if err != nil {
		return err
	}
	m.page.Handler = queuehttp.New(m.queue, &queuehttp.Options{Logger: m.log})
	m.page.ReadHeaderTimeout = 10 * time.Second
	err = errors.Join(
		m.take(c.mx, m.server.Serve),
		m.take(c.submission, submission.Serve),
		m.take(c.submissions, submission.ServeTLS),
		m.take(c.http, m.operate),
	)
	if err != nil || len(c.demand) == 0 {
		return err
	}
	customers := m.customers(certificates)
	demand, err := m.server.Service(customers.backend, customers.options)
	if err != nil {
		return err
	}
	return m.take(c.odmr, demand.Serve)
}

// operate serves the page of operators.
func (m *mta) operate(l net.Listener) error {
	if err := m.page.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return server.ErrServerClosed
}

// take listens on an address, unless it is "".
func (m *mta) take(addr string, serve func(net.Listener) error) error {
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err == nil {
		m.ports = append(m.ports, port{l, serve})
	}
	return err
}

// A service is what a kind of client is served by.
type service struct {
	backend server.Backend
	options *server.Options
}

// options are those that all services share. No Maildir can hold binary content.
func (m *mta) options(config *tls.Config, extensions []ext.Extension) *server.Options {
	o := &server.Options{Hostname: m.config.hostname, TLSConfig: config, Logger: m.log}
	binary := ehlo.BinaryMIME().Keyword
	o.Extensions = slices.DeleteFunc(extensions, func(e ext.Extension) bool { return e.Keyword == binary })
	o.Limits.MessageSize = maxSize
	if m.config.verbose {
		o.Trace = serverTrace(m.log)
	}
	return o
}

// strangers are other servers, which deliver mail for the domains here and for those that are fetched from here.
func (m *mta) strangers(config *tls.Config) (s service, err error) {
	domains := slices.Clone(m.config.domains)
	for d := range m.config.demand {
		domains = append(domains, d)
	}
	checks, err := policy.Chain(
		policy.Rate{Messages: 300, Recipients: 3000},
		policy.Harvest{},
		policy.Relay{Domains: domains},
		policy.Recipients{Lookup: m.people.lookup, Domains: m.config.domains},
	)
	if err != nil {
		return s, err
	}
	s.backend = server.Use(server.BackendFunc(func(_ context.Context, conn *server.Conn) (server.Session, error) {
		return &session{mta: m, conn: conn}, nil
	}), m.logRefusals, checks)
	s.options = m.options(config, append(ehlo.Relay(), ehlo.ETRN()))
	return s, nil
}

// users send to anybody, once they have authenticated.
func (m *mta) users(config *tls.Config) (s service, err error) {
	checks, err := policy.Chain(policy.Recipients{Lookup: m.people.lookup, Domains: m.config.domains})
	if err != nil {
		return s, err
	}
	s.backend = server.Use(server.BackendFunc(func(_ context.Context, conn *server.Conn) (server.Session, error) {
		return &submission{session{mta: m, conn: conn}}, nil
	}), m.logRefusals, checks)
	s.options = m.options(config, ehlo.Submission(ehlo.SubmissionPolicy{Hold: ehlo.HoldLimits{Interval: maxHold}}))
	return s, nil
}

// customers are users who fetch the mail of their domains by ATRN.
func (m *mta) customers(config *tls.Config) (s service) {
	s.backend = server.BackendFunc(func(_ context.Context, conn *server.Conn) (server.Session, error) {
		return &customer{submission{session{mta: m, conn: conn}}}, nil
	})
	s.options = m.options(config, []ext.Extension{
		ehlo.Pipelining(), ehlo.EnhancedStatusCodes(), ehlo.StartTLS(), auth.Auth(), ehlo.ATRN(),
	})
	s.options.AllowInsecureAuth = true // for CRAM-MD5 alone: see FilterMechanisms
	return s
}

// serverTrace logs what is said with clients.
func serverTrace(log *slog.Logger) *server.Trace {
	return &server.Trace{
		Command: func(ctx context.Context, c *server.Conn, verb, args string) {
			log.Debug("command", "conn", c.ID(), "client", c.RemoteAddr(), "verb", verb, "args", args)
		},
		Reply: func(ctx context.Context, c *server.Conn, verb string, r proto.Reply) {
			log.Debug("reply", "conn", c.ID(), "verb", verb, "code", r.Code, "text", r.Text)
		},
	}
}
