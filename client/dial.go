package client

import (
	"context"
	"fmt"
	"net"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Dial connects to the server at addr and makes the session ready to send: it waits for the greeting, says EHLO, starts
// TLS and authenticates, as opt says. If the port of a submission server is not known, use [DialSubmission].
//
// Addr is "host:port", or "unix:" and a path. The server's certificate has to be for that host. The context bounds Dial
// and has no effect on the client afterwards.
//
// If the host has several addresses, Dial tries them until a server greets with 220, at most 8: IPv6 and IPv4 in turns,
// the next one once the one before has failed or has taken 250 ms (RFC 8305). It goes on to the next after a refusal in
// place of the greeting, and if the greeting does not come within Timeouts.Greeting. The error then names all that were
// tried. It is temporary if one of them may greet later.
//
// An error is a *LostError, a *ProtocolError, an *ext.TLSError, an *ext.AuthError, or the *proto.Error with which the
// server refused. Other errors are mistakes in addr or opt. [Temporary] tells whether to try again.
func Dial(ctx context.Context, addr string, opt *Options) (*Client, error) {
	cfg, err := newConfig(opt)
	if err != nil {
		return nil, err
	}
	network, addr, host, err := target(addr)
	if err != nil {
		return nil, err
	}
	if cfg.unix = network == "unix"; cfg.unix && cfg.TLS == ext.TLSRequired {
		cfg.TLS = ext.TLSInsecureNone
	}
	return newClient(host, cfg, cfg.route(network, addr)).dial(ctx)
}

// NewClient is [Dial] over a connection that exists already. The server's certificate has to be for host. The
// connection belongs to the client from then on, and is closed if there is an error. The client cannot make another
// connection when the server takes no more messages over this one; see [LimitError].
func NewClient(ctx context.Context, conn net.Conn, host string, opt *Options) (*Client, error) {
	cfg, err := newConfig(opt)
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := newClient(host, cfg, nil)
	if err := c.open(ctx, conn); err != nil {
		return nil, err
	}
	return c, nil
}

// newClient returns a client of host that has no connection yet. The route leads to others; nil means that there are
// none.
func newClient(host string, cfg *config, r *route) *Client {
	c := &Client{cfg: cfg, route: r}
	c.policy = ext.Policy{
		TLS: cfg.TLS, TLSConfig: cfg.tlsConfig(host),
		Credentials: cfg.Credentials, AllowPlaintextAuth: cfg.AllowPlaintextAuth,
		AllowUnverifiedAuth: cfg.AllowUnverifiedAuth,
	}
	return c
}

// dial makes the first connection.
func (c *Client) dial(ctx context.Context) (*Client, error) {
	if err := c.connect(ctx, &approach{route: c.route}); err != nil {
		return nil, err
	}
	return c, nil
}

// target takes addr apart: into the network and address to dial, and the host.
func target(addr string) (network, dial, host string, err error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "unix", path, "", nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" {
		return "", "", "", fmt.Errorf("smtp: %q is not the address of a server: use host:port, or unix: and a path", addr)
	}
	return hostTarget(host, port)
}

// hostTarget is target for a host and a port.
func hostTarget(host, port string) (network, dial, name string, err error) {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '[' || r == ']' }
	if host == "" || strings.ContainsFunc(host, bad) {
		return "", "", "", fmt.Errorf("smtp: %q is not the name of a host", host)
	}
	if !has8bit([]byte(host)) {
		return "tcp", net.JoinHostPort(host, port), host, nil
	}
	d, err := proto.ParseDomain(host)
	if err != nil {
		return "", "", "", fmt.Errorf("smtp: %q is not the name of a host: %w", host, err)
	}
	return "tcp", net.JoinHostPort(d.ASCII(), port), d.ASCII(), nil
}
