package client

import (
	"context"
	"crypto/tls"
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

// Options are the options of a client; nil stands for the zero value. They are copied. For timeouts zero is the default
// that the comment names and a negative value is none.
type Options struct {
	// Hostname is the name by which the client introduces itself: a fully-qualified domain name or an address literal
	// (RFC 5321 section 4.1.4). A U-label is sent as an A-label. Default: the name of the machine if it is
	// fully-qualified, otherwise its address on this connection as a literal. It is never "localhost", which many
	// servers refuse.
	Hostname string
	// Protocol is SMTP, the default, or LMTP (RFC 2033).
	Protocol proto.Protocol

	// TLS says when TLS is used; the default is to require it.
	TLS ext.TLSMode
	// TLSConfig is what TLS is used with. Default: what crypto/tls does, with the roots of the system. Without a
	// ServerName the certificate has to be for the host that was dialled; versions before TLS 1.2 are not used (RFC 8314
	// section 4).
	TLSConfig *tls.Config
	// Credentials are what the client authenticates with; see auth.Password. If they are given, a session without
	// authentication is an error. Default: none.
	Credentials ext.Credentials
	// AllowInsecureAuth permits to send credentials on a connection that is in clear, or to a server whose certificate
	// was not verified. Whoever listens then has them.
	AllowInsecureAuth bool

	// Extensions are what the client can make use of; nil means ehlo.Default(), or ehlo.LMTP() in LMTP. An empty list that is not nil makes a
	// client that uses none.
	Extensions []ext.Extension
	// Without are keywords that are taken as not offered, for servers known not to do what they say.
	Without []string

	// DialContext makes connections in place of a net.Dialer, for instance through a proxy. The network is "tcp" or "unix".
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeouts bound how long the server may take.
	Timeouts Timeouts
	// Limits bound what is accepted of a server.
	Limits proto.Limits
	// Trace has functions that are told what happens.
	Trace *Trace
}

// Timeouts are how long a client waits. Each is for one wait and begins anew with every command, reply and block, so
// none of them bounds a session; a context does that. The defaults are those of RFC 5321 section 4.5.3.2 where it
// has one. After a timeout the connection is closed, since a late reply would be taken for that to another command.
type Timeouts struct {
	Connect  time.Duration // for a connection to be made, the look-up of the name included. Default 1 minute
	Greeting time.Duration // for the greeting. Default 5 minutes
	Command  time.Duration // for replies not listed here, and for handshakes. Default 5 minutes
	Mail     time.Duration // for the reply to MAIL. Default 5 minutes
	Rcpt     time.Duration // for the reply to each RCPT. Default 5 minutes
	Data     time.Duration // for the reply to DATA. Default 2 minutes
	Block    time.Duration // for the server to take in what is written at once, 64 KiB or so. Default 3 minutes
	Content  time.Duration // for the reply to the content, and to each chunk of it. Default 10 minutes
	Quit     time.Duration // for the reply to QUIT when a client is closed. Default 10 seconds
}

// AllTimeouts returns timeouts that are all of them d.
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

// The sets of the default extensions are made once: they are immutable, and making one costs more than a connection to
// a host nearby.
var (
	defaultSMTP = sync.OnceValues(func() (*ext.Set, error) { return ext.NewSet(proto.SMTP, ehlo.DefaultFor(proto.SMTP)) })
	defaultLMTP = sync.OnceValues(func() (*ext.Set, error) { return ext.NewSet(proto.LMTP, ehlo.DefaultFor(proto.LMTP)) })
)

// A config is Options made ready.
type config struct {
	Options
	set   *ext.Set
	trace Trace
	unix  bool // the server is at the other end of a unix socket
	verbs verbs
}

// verbs are rows of the table that every transaction needs.
type verbs struct{ mail, rcpt, data, rset, quit *proto.Verb }

func newConfig(opt *Options) (*config, error) {
	cfg := &config{}
	if opt != nil {
		cfg.Options = *opt
	}
	cfg.Extensions = slices.Clone(cfg.Extensions)
	cfg.Without = slices.Clone(cfg.Without)
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	if cfg.Trace != nil {
		cfg.trace = *cfg.Trace
	}
	if cfg.TLS > ext.TLSInsecureNone {
		return nil, fmt.Errorf("smtp: Options.TLS is %d, which is none of the modes of package ext", cfg.TLS)
	}
	if cfg.Protocol > proto.LMTP {
		return nil, fmt.Errorf("smtp: Options.Protocol is %d: use proto.SMTP or proto.LMTP", cfg.Protocol)
	}
	if cfg.Hostname != "" {
		d, err := proto.ParseDomain(cfg.Hostname)
		if err != nil {
			return nil, fmt.Errorf("smtp: Options.Hostname has to be a domain name or an address literal: %w", err)
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
		mail: t.Lookup("MAIL"), rcpt: t.Lookup("RCPT"), data: t.Lookup("DATA"), rset: t.Lookup("RSET"), quit: t.Lookup("QUIT"),
	}
	return cfg, nil
}

// tlsConfig returns what TLS with host is used with.
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

// helloName returns the name to introduce the client by on conn.
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

// isQualified reports whether a host that goes by name can be found by it from elsewhere, as far as the name tells.
func isQualified(name string) bool {
	label, rest, _ := strings.Cut(strings.TrimSuffix(name, "."), ".")
	return rest != "" && !strings.EqualFold(label, "localhost") && !strings.EqualFold(rest, "localdomain")
}

// addrLiteral returns the address as an address literal; that of a connection without one is local by nature.
func addrLiteral(a net.Addr) string {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok && a.AddrPort().Addr().IsValid() {
		return proto.AddrLiteral(a.AddrPort().Addr()).String()
	}
	return "[127.0.0.1]"
}
