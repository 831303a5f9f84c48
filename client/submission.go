package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// The ports of submission servers (RFC 8314 section 7.3, RFC 6409 section 3.1).
const (
	submissionsPort = "465" // TLS from the first octet
	submissionPort  = "587" // STARTTLS
)

// DialSubmission is [Dial] for the submission server on host, which is given without a port. It tries port 465, where
// TLS comes first (RFC 8314 section 3.3). If no connection can be made to that, it tries port 587, where STARTTLS has
// to lead to TLS. It never tries port 25, which is for relay. On both ports credentials are sent only once the server's
// certificate has been verified, unless Options.AllowUnverifiedAuth is set.
//
// Port 587 is tried only if nothing listens on port 465. If something goes wrong on a connection to port 465, that is
// the error: a failed handshake or a wrong password is no better on another port. It is the error too if there is no
// such host. A network that drops what is sent to port 465 delays the second attempt by Timeouts.Connect.
//
// Leave Options.TLS at its default. With ext.TLSImplicit only port 465 is tried. Modes in which mail may travel in
// plaintext are an error. SRV records (RFC 6186) are not looked up, since anybody in between can forge them without
// DNSSEC: the name of the server is a matter of configuration (RFC 8314 section 5.1).
func DialSubmission(ctx context.Context, host string, opt *Options) (*Client, error) {
	cfg, err := newConfig(opt)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.TLS != ext.TLSRequired && cfg.TLS != ext.TLSImplicit:
		return nil, errors.New("smtp: mail is submitted over TLS: leave Options.TLS as it is, or call Dial")
	case cfg.Protocol != proto.SMTP:
		return nil, fmt.Errorf("smtp: mail is not submitted by %v: leave Options.Protocol as it is", cfg.Protocol)
	}
	if _, _, err := net.SplitHostPort(host); err == nil || strings.HasPrefix(host, "unix:") {
		return nil, fmt.Errorf("smtp: %q has a port: DialSubmission takes the name of the host alone, Dial takes both", host)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host, _ = strings.CutSuffix(inner, "]")
	}
	if cfg.TLS == ext.TLSImplicit {
		c, _, err := cfg.submit(ctx, host, submissionsPort, ext.TLSImplicit)
		return c, err
	}
	c, absent, first := cfg.submit(ctx, host, submissionsPort, ext.TLSImplicit)
	if !absent || ctx.Err() != nil {
		return c, first
	}
	c, absent, err = cfg.submit(ctx, host, submissionPort, ext.TLSRequired)
	if absent {
		return nil, bothFailed(first, err)
	}
	return c, err
}

// bothFailed returns the error if neither port could be connected to.
func bothFailed(first, second error) error {
	one, _ := asType[*LostError](first)
	two, _ := asType[*LostError](second)
	if one == nil || two == nil {
		return second
	}
	return &LostError{
		Doing: one.Doing + " and " + strings.TrimPrefix(two.Doing, "connecting to "),
		Err:   fmt.Errorf("%v; %w", one.Err, two.Err), unconnected: true,
	}
}

// submit dials a port. It reports whether nothing listens there, at any address of the host, as far as the error tells.
func (cfg *config) submit(
	ctx context.Context, host, port string, mode ext.TLSMode,
) (c *Client, absent bool, err error) {
	network, addr, host, err := hostTarget(host, port)
	if err != nil {
		return nil, false, err
	}
	with := *cfg
	with.TLS = mode
	c = newClient(host, &with, with.route(network, addr))
	a := &approach{route: c.route}
	if err := c.connect(ctx, a); err != nil {
		_, unknown := asType[*net.DNSError](err)
		return nil, !a.reached && len(a.failed) > 0 && !unknown, err
	}
	return c, false, nil
}
