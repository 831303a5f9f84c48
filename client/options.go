package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Options are the options of a client. The zero value is ready to use, and nil stands for it. [Dial] and [NewClient]
// copy them, and return an error if they make no sense.
type Options struct {
	// Hostname is the name by which the client introduces itself with EHLO: a fully-qualified domain name, or an address
	// literal such as [192.0.2.1] (RFC 5321 section 4.1.4). A name in another script is sent in ASCII.
	//
	// Default: the name of the machine if that is fully-qualified, otherwise its address on this connection as a literal.
	// The default is never "localhost", which many servers refuse.
	Hostname string
	// Protocol is proto.SMTP, the default, or proto.LMTP (RFC 2033).
	Protocol proto.Protocol

	// TLS says when TLS is used. The default, ext.TLSRequired, starts TLS with STARTTLS, and Dial fails if that is not
	// possible. Use ext.TLSImplicit for port 465, and ext.TLSIfOffered for servers of which some have no TLS. If addr is a
	// unix socket, where nobody is in between, the default means no TLS; the other modes mean the same there as elsewhere.
	TLS ext.TLSMode
	// TLSConfig is the configuration for TLS. Default: that of crypto/tls, with the roots of the system. If it has no
	// ServerName, the certificate has to be for the host that was dialled. For a server with a certificate of a private
	// authority set RootCAs. Versions before TLS 1.2 are not used (RFC 8314 section 4), whatever MinVersion says.
	TLSConfig *tls.Config
	// Credentials are what the client authenticates with; see auth.Password and auth.Token. If they are set, Dial fails if
	// the server does not offer authentication, or refuses it. Default: none.
	Credentials ext.Credentials
	// AllowPlaintextAuth permits the client to send credentials without TLS. Anybody who listens can then read a password,
	// or try many against what was sent. It is needed for credentials on a unix socket, where nobody listens.
	AllowPlaintextAuth bool
	// AllowUnverifiedAuth permits the client to send credentials over TLS to a server whose certificate was not verified,
	// as with TLSOpportunistic, or with InsecureSkipVerify in TLSConfig. Anybody who poses as the server can then read a
	// password. It does not permit to send credentials without TLS.
	AllowUnverifiedAuth bool

	// Extensions are those that the client can use if the server offers them. Default: ehlo.Default(), or ehlo.LMTP() for
	// LMTP. An empty list that is not nil makes a client that uses none.
	Extensions []ext.Extension
	// Without lists keywords that the client ignores in the reply to EHLO, in any case. It is for servers that do not do
	// what they offer.
	Without []string

	// DialContext makes the connections, for instance through a proxy. The network is "tcp" or "unix". It is given the
	// host as it is, so which of several addresses is tried is its affair; with LookupNetIP it is given each address.
	// An error is temporary with the code 4.4.1, unless it has a method Status() proto.Status with a code of class 4 or 5.
	// One of class 5 is final if every address has one. Default: [Dial] tries the addresses one after the other.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// LookupNetIP finds the addresses of a host, as the method of [net.Resolver] with this name does. The network is "ip",
	// or with LocalAddr "ip4" or "ip6". The addresses are tried in the order in which they are returned, at most 8. It is
	// not called for a host that is an address. Default: [net.DefaultResolver], the families in turns.
	LookupNetIP func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// AttemptDelay is how long a connection to one address may take before the next address is tried too. Default 250 ms
	// (RFC 8305 section 5). If it is negative, the next one is tried only after the one before has failed.
	AttemptDelay time.Duration
	// LocalAddr is the address that connections come from, for a machine with several. Only addresses of its family are
	// tried. It has no effect on unix sockets. With DialContext it is an error: that function chooses. Default: the system
	// chooses.
	LocalAddr netip.Addr
	// Timeouts bound each wait for the server.
	Timeouts Timeouts
	// Limits bound the length of replies. Their LaxReplies tolerates replies that end with LF alone, or have a TAB behind
	// the code. Set it for a server that is known to send them.
	Limits proto.Limits
	// Trace has functions that are called when something happens on a connection.
	Trace *Trace
}

// Timeouts bound how long a client waits. Zero means the default, and a negative value means no timeout. The defaults
// are those of RFC 5321 section 4.5.3.2, where it has one.
//
// Each timeout is for one wait, and begins anew with every command, reply and block. So none of them bounds a session,
// or a message: the context of the call does that. After a timeout the connection is closed, since a late reply would
// be taken for the answer to the next command.
type Timeouts struct {
	Connect  time.Duration // to connect to one of the addresses, the look-up included. Default 1 minute
	Greeting time.Duration // for the greeting. Default 5 minutes
	Command  time.Duration // for replies not listed here, and for handshakes. Default 5 minutes
	Mail     time.Duration // for the reply to MAIL. Default 5 minutes
	Rcpt     time.Duration // for the reply to each RCPT. Default 5 minutes
	Data     time.Duration // for the reply to DATA. Default 2 minutes
	Block    time.Duration // for the server to take in what is written at once, about 64 KiB. Default 3 minutes
	Content  time.Duration // for the reply to the content, and to each chunk of it. Default 10 minutes
	Quit     time.Duration // for the reply to QUIT when a client is closed. Default 10 seconds
}

// AllTimeouts returns Timeouts in which each timeout is d. A negative d means no timeouts.
func AllTimeouts(d time.Duration) Timeouts {
	return Timeouts{Connect: d, Greeting: d, Command: d, Mail: d, Rcpt: d, Data: d, Block: d, Content: d, Quit: d}
}

func (t Timeouts) withDefaults() Timeouts {
	for _, f := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&t.Connect, time.Minute},
		{&t.Greeting, 5 * time.Minute},
		{&t.Command, 5 * time.Minute},
		{&t.Mail, 5 * time.Minute},
		{&t.Rcpt, 5 * time.Minute},
		{&t.Data, 2 * time.Minute},
		{&t.Block, 3 * time.Minute},
		{&t.Content, 10 * time.Minute},
		{&t.Quit, 10 * time.Second},
	} {
		if *f.field == 0 {
			*f.field = f.standard
		}
	}
	return t
}

// withTimeout is context.WithTimeout for which a negative d is none.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// The sets of the default extensions are made once: they are immutable, and to make one costs more than a connection to
// a host nearby.
var (
	defaultSMTP = sync.OnceValues(func() (*ext.Set, error) { return ext.NewSet(proto.SMTP, ehlo.DefaultFor(proto.SMTP)) })
	defaultLMTP = sync.OnceValues(func() (*ext.Set, error) { return ext.NewSet(proto.LMTP, ehlo.DefaultFor(proto.LMTP)) })
)

// A config is Options that have been checked, with the defaults in place.
type config struct {
	Options
	set   *ext.Set
	trace Trace
	unix  bool // the server is at the other end of a unix socket
	verbs verbs

	lookup resolver
	dial   dialFunc // nil: that of a net.Dialer
}

// verbs are rows of the table that every transaction needs.
type verbs struct{ mail, rcpt, data, rset, quit *proto.Verb }

// Check returns what is wrong with the options, as [Dial] would, or nil. Call it when a program starts, so that a
// mistake in its configuration is found before there is mail. It makes no connection; see [Verify] for that.
func (o *Options) Check() error {
	_, err := newConfig(o)
	return err
}

func newConfig(opt *Options) (*config, error) {
	cfg := &config{lookup: net.DefaultResolver.LookupNetIP}
	if opt != nil {
		cfg.Options = *opt
	}
	if cfg.LookupNetIP != nil {
		cfg.lookup = cfg.LookupNetIP
	}
	if cfg.dial = cfg.DialContext; cfg.dial != nil && cfg.LocalAddr.IsValid() {
		return nil, errors.New("smtp: Options.LocalAddr has no effect with Options.DialContext: leave it out, and bind to " +
			"the address in that function")
	}
	cfg.Extensions = slices.Clone(cfg.Extensions)
	cfg.Without = slices.Clone(cfg.Without)
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	if cfg.Trace != nil {
		cfg.trace = *cfg.Trace
	}
	if cfg.TLS > ext.TLSIfOffered {
		return nil, fmt.Errorf("smtp: Options.TLS is %d, which is none of the modes of package ext", cfg.TLS)
	}
	if cfg.Protocol > proto.LMTP {
		return nil, fmt.Errorf("smtp: Options.Protocol is %d: use proto.SMTP or proto.LMTP", cfg.Protocol)
	}
	if cfg.Hostname != "" {
		d, err := proto.ParseDomain(cfg.Hostname)
		if err != nil {
			return nil, fmt.Errorf("smtp: Options.Hostname has to be a domain name or an address literal: %s", cause(err))
		}
		cfg.Hostname = d.ASCII()
	}
	var err error
	switch {
	case cfg.Extensions != nil:
		cfg.set, err = ext.NewSet(cfg.Protocol, cfg.Extensions)
	case cfg.Protocol == proto.LMTP:
		cfg.set, err = defaultLMTP()
	default:
		cfg.set, err = defaultSMTP()
	}
	if err != nil {
		return nil, err
	}
	t := cfg.set.Table()
	cfg.verbs = verbs{
		mail: t.Lookup("MAIL"), rcpt: t.Lookup("RCPT"), data: t.Lookup("DATA"),
		rset: t.Lookup("RSET"), quit: t.Lookup("QUIT"),
	}
	return cfg, nil
}

// tlsConfig returns the configuration for TLS with host.
func (cfg *config) tlsConfig(host string) *tls.Config {
	c := cfg.TLSConfig.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	if c.ServerName == "" {
		host, _, _ = strings.Cut(host, "%") // the zone of an IPv6 address says nothing to the server
		c.ServerName = strings.TrimSuffix(host, ".")
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

// helloName returns the argument of EHLO on conn.
func (cfg *config) helloName(conn net.Conn) string {
	if cfg.Hostname != "" {
		return cfg.Hostname
	}
	if name, err := os.Hostname(); err == nil && isQualified(name) {
		if d, err := proto.ParseDomain(name); err == nil {
			return d.ASCII()
		}
	}
	return addrLiteral(conn.LocalAddr())
}

// isQualified reports whether name looks like one by which other hosts can find this one.
func isQualified(name string) bool {
	label, rest, _ := strings.Cut(strings.TrimSuffix(name, "."), ".")
	return rest != "" && !strings.EqualFold(label, "localhost") && !strings.EqualFold(rest, "localdomain")
}

// addrLiteral returns a as an address literal. A connection without an address is local by nature.
func addrLiteral(a net.Addr) string {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok && a.AddrPort().Addr().IsValid() {
		return proto.AddrLiteral(a.AddrPort().Addr()).String()
	}
	return "[127.0.0.1]"
}
