package mx

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// Options are the options of a [Deliverer]. The zero value is ready to use, and nil stands for it.
type Options struct {
	// Resolver answers the questions about the DNS. For DANE it has to be one that tells what DNSSEC has proved, such as
	// that of [dns.New] beside a validating resolver on this machine. Default: the resolver of the system by package net,
	// without DANE.
	Resolver dns.Resolver
	// Names and Addrs are those of this host as a mail exchanger, and Family says which addresses are used; see [Router].
	// Client.Hostname, if it is set, counts among the names.
	Names  []string
	Addrs  []netip.Addr
	Family Family
	// Port is the port of the mail exchangers. Default 25. TLSA records are looked up for this port, at
	// _2525._tcp.mx.example.org for instance.
	Port uint16

	// Client are the options of the connections. Set Hostname to the name that the address of this host has in the DNS:
	// many receivers refuse mail otherwise. Others are TLSConfig with its RootCAs, LocalAddr, DialContext, Timeouts,
	// Trace and so on. DialContext is given an IP address and a port. What the policies decide must not be set: Protocol,
	// TLS, Credentials, LookupNetIP, and ServerName and InsecureSkipVerify of TLSConfig. The default of Timeouts.Connect
	// is 30 seconds here, and that of AttemptDelay 2 seconds: one address should do if it answers.
	Client *client.Options
	// Pool bounds the connections. The default of MaxConns is 500 here.
	Pool *pool.Options

	// RequireTLS demands TLS of all hosts, and a certificate by a trusted authority for the name of the host, or one that
	// matches its TLSA records. Many mail exchangers have no such certificate.
	RequireTLS bool
	// STS finds the MTA-STS policies of domains. Give one with a store of files, so that policies are known after a
	// restart. It needs the same Resolver, and is closed by its owner, after the Deliverer. Default: a cache in memory,
	// which uses Resolver, and TLSConfig and DialContext of Client, the latter with port 443.
	STS *mtasts.Cache
	// DisableSTS and DisableDANE leave out the one or the other. Mail that they would protect goes with opportunistic TLS.
	DisableSTS, DisableDANE bool

	// MaxAddresses is how many addresses are tried for a domain in one attempt. No host gets more than a half of them.
	// Default 8, also for a negative value. 1 counts as 2 (RFC 5321 section 5.1).
	MaxAddresses int
	// MaxSessions is with how many hosts of a domain there is a session in one attempt. Hosts that cannot be reached, and
	// those that do not fulfil a policy for TLS, do not count. Default 2, also for a negative value.
	MaxSessions int

	// Prepare is called for each attempt at a host. It returns the message that is sent in place of m, with the same
	// recipients: with a signature in front, for instance. It must not change m. An error is the outcome for all
	// recipients. It is for good, unless it has a method Status that returns a code of class 4. Default: m itself.
	Prepare func(ctx context.Context, m *client.Message) (*client.Message, error)
	// Reports is told of each attempt to use TLS, for reports to the domains (RFC 8460). Default: nobody is told.
	Reports interface{ Record(tlsrpt.Event) }
	// Trace has functions that are called when something happens.
	Trace *Trace
}

// A Trace has functions that are called when something happens in a [Deliverer]. Each may be nil. Several goroutines
// call them at once. Ctx is that of Send.
type Trace struct {
	// Routed is called when the hosts of a domain are known, or why there are none.
	Routed func(ctx context.Context, domain string, r *Route, err error)
	// Attempted is called at the end of each attempt at a host, also if the policies for TLS did not permit one.
	Attempted func(ctx context.Context, a *Attempt)
}

// An Attempt is what became of a message at a host.
type Attempt struct {
	Domain string // the domain of the recipients, as in Route
	Host   string // the name of the host
	// Addr is its address. It is not valid if there was no connection over which the message could have been sent.
	Addr netip.AddrPort
	// Facts are what decided, with the channel that there was. Policy is the policy that held.
	Facts  Facts
	Policy Policy
	// STSProblem is why the MTA-STS policy of the domain could not be found or fetched lately, as an *mtasts.Error, or
	// nil. Mail went as if there were none, unless Facts.STS has an older one. The DNS that did not answer is a problem
	// too.
	STSProblem error
	// TLS is the state of TLS, or nil.
	TLS *tls.ConnectionState
	// Result has the outcomes for the recipients who were left, and Err is the error of Send; see [client.Client.Send].
	Result *client.Result
	Err    error
	// Began is the beginning.
	Began time.Time
}

const (
	defaultPort      = 25
	defaultConnect   = 30 * time.Second
	defaultStagger   = 2 * time.Second
	defaultMaxConns  = 500
	defaultAddresses = 8
	defaultSessions  = 2
)

// withDefaults returns the options that hold, or what is wrong with o.
func (o *Options) withDefaults() (Options, error) {
	var with Options
	if o != nil {
		with = *o
	}
	base, err := with.base()
	if err != nil {
		return Options{}, err
	}
	with.Client = base
	with.Names = slices.Clone(with.Names)
	with.Addrs = slices.Clone(with.Addrs)
	for _, name := range with.Names {
		if normal, ok := dns.Normal(name); !ok || !isHost(normal) {
			return Options{}, fmt.Errorf("smtp: %q in Options.Names of mx is not the name of a host: write it as in an MX "+
				"record, such as mx.example.org; addresses belong into Addrs", name)
		}
	}
	if with.Family > OnlyIPv4 {
		return Options{}, fmt.Errorf("smtp: Options.Family of mx is %d: use PreferIPv6, PreferIPv4, OnlyIPv6 or OnlyIPv4",
			with.Family)
	}
	if base.Hostname != "" {
		if d, err := proto.ParseDomain(base.Hostname); err == nil && !d.Addr().IsValid() {
			with.Names = append(with.Names, d.ASCII())
		}
	}
	with.Port = cmp.Or(with.Port, defaultPort)
	with.MaxAddresses = max(2, cmp.Or(max(with.MaxAddresses, 0), defaultAddresses))
	with.MaxSessions = cmp.Or(max(with.MaxSessions, 0), defaultSessions)
	var p pool.Options
	if with.Pool != nil {
		p = *with.Pool
	}
	p.MaxConns = cmp.Or(p.MaxConns, defaultMaxConns)
	with.Pool = &p
	if with.Trace == nil {
		with.Trace = &Trace{}
	}
	return with, nil
}

// base returns the options of all connections.
func (o *Options) base() (*client.Options, error) {
	var base client.Options
	if o.Client != nil {
		base = *o.Client
	}
	config := &tls.Config{}
	if base.TLSConfig != nil {
		config = base.TLSConfig
	}
	switch {
	case base.TLS != ext.TLSRequired:
		return nil, fromPolicies("TLS", "set Options.RequireTLS of mx to demand it")
	case base.Credentials != nil:
		return nil, fromPolicies("Credentials", "mail exchangers know no users")
	case base.Protocol != proto.SMTP:
		return nil, fromPolicies("Protocol", "mail exchangers speak SMTP")
	case base.LookupNetIP != nil:
		return nil, fromPolicies("LookupNetIP", "set Options.Resolver of mx")
	case config.ServerName != "" || config.InsecureSkipVerify:
		return nil, fromPolicies("TLSConfig with ServerName or InsecureSkipVerify", "the name of each host and the policies "+
			"decide; set RootCAs for an authority of your own")
	}
	if err := base.Check(); err != nil {
		return nil, err
	}
	if local := base.LocalAddr.Unmap(); local.IsValid() {
		only := OnlyIPv6
		if local.Is4() {
			only = OnlyIPv4
		}
		if o.Family == OnlyIPv4 && local.Is6() || o.Family == OnlyIPv6 && local.Is4() {
			return nil, errors.New("smtp: Options.LocalAddr of client is not of the family that Options.Family of mx permits")
		}
		o.Family = only
	}
	if base.DialContext == nil {
		base.DialContext = dialer(base.LocalAddr.Unmap())
		base.LocalAddr = netip.Addr{}
	}
	base.Timeouts.Connect = cmp.Or(base.Timeouts.Connect, defaultConnect)
	base.AttemptDelay = cmp.Or(base.AttemptDelay, defaultStagger)
	return &base, nil
}

func fromPolicies(field, do string) error {
	return fmt.Errorf("smtp: Options.Client of mx must not have %s: %s", field, do)
}

func dialer(local netip.Addr) func(context.Context, string, string) (net.Conn, error) {
	var d net.Dialer
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return d.DialContext
}
