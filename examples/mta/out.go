package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/deliver"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// The names of routes that are not those of domains.
const (
	local     = "local"
	smarthost = "smarthost"
)

// An outbound has what mail leaves the queue by: mail exchangers, and routes.
type outbound struct {
	exchangers *mx.Deliverer
	routes     map[string]client.Sender
	closers    []func(context.Context) error // in the order in which they are called
}

func (m *mta) openOutbound() (o *outbound, err error) {
	c := m.config
	o = &outbound{routes: map[string]client.Sender{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close(context.Background()))
		}
	}()
	resolver, err := dns.New(&c.resolver)
	if err != nil {
		return o, err
	}
	store, err := mtasts.DirStore(filepath.Join(c.dir, "mta-sts"), 0)
	if err != nil {
		return o, err
	}
	policies, err := mtasts.New(&mtasts.Options{Resolver: resolver, Store: store, Logger: m.log})
	if err != nil {
		return o, err
	}
	o.closers = append(o.closers, func(context.Context) error { return policies.Close() })
	o.exchangers, err = mx.New(&mx.Options{Resolver: resolver, Port: c.mxPort, Client: &c.client, STS: policies})
	if err != nil {
		return o, err
	}
	o.closers = slices.Insert(o.closers, 0, o.exchangers.Close)
	return o, o.openRoutes(m)
}

func (o *outbound) openRoutes(m *mta) error {
	c := m.config
	server := func(name, addr string, with client.Options) error {
		with.Hostname, with.Trace = c.hostname, c.client.Trace
		p, err := pool.New(addr, &with, nil)
		if err != nil {
			return err
		}
		o.routes[name] = p
		o.closers = slices.Insert(o.closers, 0, p.Close)
		return nil
	}
	if c.smarthost != nil {
		if err := server(smarthost, c.smarthost.Addr, c.smarthost.Options); err != nil {
			return err
		}
	}
	for d, addr := range c.routes {
		if err := server(d, addr, client.Options{TLS: ext.TLSOpportunistic}); err != nil {
			return err
		}
	}
	for d := range c.demand {
		o.routes[d] = nil // until it is fetched
	}
	if c.lmtp == "" {
		under := deliver.Under(c.maildir)
		o.routes[local] = deliver.Maildir{Path: func(to proto.Address) (string, error) {
			if !m.people.boxes[key(to)] {
				return "", nil
			}
			return under(to)
		}}
		return nil
	}
	err := server(local, c.lmtp, client.Options{Protocol: proto.LMTP, TLS: ext.TLSInsecureNone})
	o.routes[local] = arrived{o.routes[local]}
	return err
}

// route names the way to a recipient: "" is by the mail exchangers of his domain.
func (m *mta) route(_ *queue.Message, to proto.Address) string {
	d := to.Domain.Key()
	switch _, has := m.out.routes[d]; {
	case m.people.isOurs(to.Domain):
		return local
	case has:
		return d
	case m.config.smarthost != nil:
		return smarthost
	}
	return ""
}

func (o *outbound) close(ctx context.Context) (err error) {
	for _, f := range o.closers {
		err = errors.Join(err, f(ctx))
	}
	return err
}

// An arrived sender hands mail to the mailboxes of this host, where REQUIRETLS has no meaning any more (RFC 8689
// section 1), and which need not offer it.
type arrived struct{ client.Sender }

func (a arrived) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	there := *m
	there.Mail = slices.DeleteFunc(slices.Clone(m.Mail),
		func(p proto.Param) bool { return strings.EqualFold(p.Key, "REQUIRETLS") })
	return a.Sender.Send(ctx, &there)
}
