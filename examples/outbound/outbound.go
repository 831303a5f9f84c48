package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"path/filepath"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/deliver"
	"smtpkit.example/smtp/client/dkim"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/ext/dns"
)

// An outbound has all parts that deliver mail, joined. It is a client.Sender.
type outbound struct {
	*deliver.Routes
	others      *mx.Deliverer
	policies    *mtasts.Cache
	reports     *tlsrpt.Collector
	stopReports context.CancelFunc
	reported    chan error // what Run of reports has returned
}

// open makes the parts, each before those that use it. Close ends them.
func (c *config) open(ctx context.Context) (*outbound, error) {
	resolver, err := dns.New(&c.dns)
	if err != nil {
		return nil, err
	}
	if err := resolver.CheckDNSSEC(ctx); err != nil {
		log.Printf("there is no DANE, mail goes without: %v", err)
	}
	signer, err := dkim.New(&c.dkim)
	if err != nil {
		return nil, err
	}
	store, err := mtasts.DirStore(filepath.Join(c.state, "mta-sts"), 0)
	if err != nil {
		return nil, err
	}

	o := &outbound{reported: make(chan error, 1)}
	c.tlsrpt.Resolver = resolver
	c.tlsrpt.Store = tlsrpt.FileStore(filepath.Join(c.state, "tlsrpt"))
	c.tlsrpt.Trace = &tlsrpt.Trace{Sent: logReport}
	// Reports go the way of other mail. The routes are there before Run sends the first one.
	c.tlsrpt.Sender = client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
		return o.Send(ctx, m)
	})
	if o.reports, err = tlsrpt.New(&c.tlsrpt); err != nil {
		return nil, err
	}
	o.policies, err = mtasts.New(&mtasts.Options{
		Resolver: resolver, Store: store, TLSConfig: c.client.TLSConfig, DialContext: c.client.DialContext,
	})
	if err != nil {
		return nil, err
	}
	o.others, err = mx.New(&mx.Options{
		Resolver: resolver,
		Port:     c.port,
		Client:   &c.client,
		STS:      o.policies,
		Prepare:  signer.Prepare, // signs for each attempt
		Reports:  o.reports,
		Trace:    &mx.Trace{Routed: o.logRoute, Attempted: logAttempt},
	})
	if err != nil {
		return nil, errors.Join(err, o.policies.Close())
	}
	o.Routes, err = deliver.NewRoutes(map[string]client.Sender{
		c.domain: deliver.Maildir{Path: deliver.Under(c.mailboxes)},
		"*":      o.others,
	}, nil)
	if err != nil {
		return nil, errors.Join(err, o.others.Close(ctx), o.policies.Close())
	}

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	o.stopReports = stop
	go func() { o.reported <- o.reports.Run(running) }()
	return o, nil
}

// close ends the parts, each before those that it uses. Call it when no mail comes in any more.
func (o *outbound) close(ctx context.Context) error {
	// Reports use the Deliverer. Those on their way are given up, and sent again after the next start.
	o.stopReports()
	err := <-o.reported
	// The Deliverer uses the policies, and records its last events in reports.
	err = errors.Join(err, o.others.Close(ctx))
	err = errors.Join(err, o.reports.Save())
	// The resolver, which all use, has nothing to close.
	return errors.Join(err, o.policies.Close())
}

// logRoute logs what no outcome tells: that the policy of a domain could not be found out.
func (o *outbound) logRoute(ctx context.Context, domain string, _ *mx.Route, _ error) {
	found, err := o.policies.Lookup(ctx, domain)
	if err == nil && found.Problem != nil {
		log.Printf("%s: %v", domain, found.Problem)
	}
}

// logAttempt logs what a host has said of each recipient.
func logAttempt(_ context.Context, a *mx.Attempt) {
	where := fmt.Sprintf("%s (%v), policy %v, TLS %v", a.Host, a.Addr, a.Policy, a.TLS != nil)
	for _, r := range a.Result.Recipients {
		if r.Err != nil {
			log.Printf("%v by %s: %v", r.Address, where, r.Err)
		} else {
			log.Printf("%v by %s: %d %s", r.Address, where, r.Reply.Code, r.Reply.Text)
		}
	}
}

func logReport(_ context.Context, r *tlsrpt.Report, destination string, err error) {
	if err == nil {
		log.Printf("report on %s sent to %s", r.Domain, destination)
	} else {
		log.Printf("report on %s not sent to %s: %v", r.Domain, destination, err)
	}
}
