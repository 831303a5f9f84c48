package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"

	"smtpkit.example/smtp/ext"
)

// handshake starts TLS on a connection on which nothing else has been said, and returns what goes over it.
func (c *conn) handshake(ctx context.Context) (net.Conn, error) {
	limited, cancel := withTimeout(ctx, c.cfg.Timeouts.Command)
	defer cancel()
	secured := tls.Client(c.raw, c.policy.TLSConfig)
	if err := secured.HandshakeContext(limited); err != nil {
		return nil, err
	}
	c.secured(ctx, secured)
	return secured, nil
}

// secured records the state of TLS of the connection on which the session goes on.
func (c *conn) secured(ctx context.Context, over net.Conn) {
	s, ok := over.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return
	}
	state := s.ConnectionState()
	c.tls = &state
	// A configuration that verifies by functions of its own, and does nothing else, leaves no chains. In TLSOpportunistic
	// the library sets InsecureSkipVerify, so functions do not count as verification there.
	config := c.policy.TLSConfig
	own := config.InsecureSkipVerify && (config.VerifyConnection != nil || config.VerifyPeerCertificate != nil)
	c.verified = len(state.VerifiedChains) > 0 || own
	c.trace.secured(ctx, state)
}

// explainHandshake adds to the error of a handshake on a new connection what the reason often is.
func explainHandshake(err error) error {
	if _, ok := asType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("%w: where TLS is started later, as on the ports 587 and 25, use TLSRequired in place of "+
			"TLSImplicit", err)
	}
	return explainCertificate(err)
}

// explainCertificate adds to the error of a handshake how a certificate of a private authority can be trusted.
func explainCertificate(err error) error {
	if _, ok := asType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: if you trust that authority, put its certificate into RootCAs of Options.TLSConfig", err)
	}
	return err
}

// explainNegotiation adds to the error of an extension, such as the one that starts TLS, what the reason often is.
func (c *conn) explainNegotiation(err error) error {
	if e, ok := asType[*ext.TLSError](err); ok {
		if e.Err = explainCertificate(e.Err); e.Err == io.EOF {
			e.Err = fmt.Errorf("the server hung up in the handshake: %w", io.EOF)
		}
		return err
	}
	e, ok := asType[*ext.AuthError](err)
	p := &c.policy
	switch {
	case !ok:
	case c.cfg.unix && c.tls == nil && !p.AllowPlaintextAuth:
		e.Err = fmt.Errorf("%w; on a unix socket, which others cannot read, AllowPlaintextAuth does no harm", e.Err)
	case c.tls != nil && !c.verified && !p.AllowUnverifiedAuth && p.TLS != ext.TLSOpportunistic:
		e.Err = fmt.Errorf("%w; Options.TLSConfig has InsecureSkipVerify: to have the certificate verified, "+
			"leave that out and set RootCAs", e.Err)
	}
	return err
}

// CertificateError returns what is wrong with the server's certificate if it was not verified, as with
// TLSOpportunistic: for instance that it is for another name. It returns nil if nothing is wrong, if the certificate
// was verified, and without TLS. It is for logs and reports. A connection on which the certificate does not matter is
// not protected against somebody in between, whatever CertificateError says.
func (c *Client) CertificateError() error {
	state := c.TLS()
	if state == nil || c.Verified() || len(state.PeerCertificates) == 0 {
		return nil
	}
	config := c.policy.TLSConfig
	opt := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool(), DNSName: config.ServerName}
	if config.Time != nil {
		opt.CurrentTime = config.Time()
	}
	for _, cert := range state.PeerCertificates[1:] {
		opt.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opt); err != nil {
		return fmt.Errorf("smtp: the server's certificate: %w", err)
	}
	return nil
}

var (
	errTLSNotOffered = notOffered("it is required and the server does not offer it, or somebody in between hides the " +
		"offer: use TLSImplicit for a port where TLS comes first, or TLSIfOffered if mail may travel in plaintext")
	errWeaker = errors.New("the connection before this one was better protected: somebody may be in between")
)

// A notOffered is an error for something that the server does not offer. Reports on TLS have a word of their own for it
// (RFC 8460 section 4.3.1).
type notOffered string

func (e notOffered) Error() string { return string(e) }

// Is reports whether target is errors.ErrUnsupported, as it is with an ext.UnsupportedError.
func (e notOffered) Is(target error) bool { return target == errors.ErrUnsupported }
