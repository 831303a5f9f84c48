package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// handshake makes the TLS handshake of a connection that begins with one: with implicit TLS, or if the listener accepts
// connections of TLS.
func (c *Conn) handshake(implicit bool) error {
	nc := c.link.raw
	if implicit {
		nc = tls.Server(&handshakeConn{nc, &c.link}, c.srv.tlsConfig)
	}
	t, ok := nc.(interface{ HandshakeContext(context.Context) error })
	if !ok {
		return nil
	}
	leave, refusal := claims{c}.enterHandshake()
	if refusal != nil {
		return refusal
	}
	defer leave()
	ctx, done, err := c.beginHandshake()
	if err != nil {
		return errShutdown
	}
	defer done()
	var state *tls.ConnectionState
	err = apart(func() error {
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		state = stateOf(nc)
		return nil
	})
	if err != nil {
		return fmt.Errorf("smtp: TLS handshake: %w", c.link.cutError(err))
	}
	c.link.use(nc, state)
	c.trace.secured()
	return nil
}

// beginHandshake returns the context of a handshake, and a function to be called when the handshake is over. It returns
// an error if the server is shutting down.
func (c *Conn) beginHandshake() (context.Context, func(), error) {
	c.link.handshakes()
	if c.srv.closing.Load() {
		c.link.waited()
		return nil, nil, ErrServerClosed
	}
	ctx, cancel := c.ctx, context.CancelFunc(func() {})
	if t := c.srv.opt.Timeouts.Handshake; t > 0 {
		ctx, cancel = context.WithTimeout(ctx, t)
	}
	return ctx, func() {
		cancel()
		c.link.waited()
	}, nil
}

// recordCertificate returns a copy of config that records on the link which certificate was presented. Package
// crypto/tls does not tell, and channel binding by tls-server-end-point needs to know (RFC 5929 section 4).
func (o *Options) recordCertificate(config *tls.Config) *tls.Config {
	//lint:ignore SA1019 it decides which certificate is used where there is one
	if config.NameToCertificate != nil {
		return config
	}
	w := config.Clone()
	w.Certificates = nil // as long as there are any, GetCertificate is not called for all clients
	w.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := chooseCertificate(config, hello)
		if h, ok := hello.Conn.(*handshakeConn); ok {
			h.link.certificate = cert
		}
		return cert, err
	}
	if each := config.GetConfigForClient; each != nil {
		w.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := each(hello)
			if c == nil || err != nil {
				return nil, err
			}
			return o.recordCertificate(o.harden(c)), nil
		}
	}
	return w
}

// harden returns a copy of config with what the options promise of versions, of session tickets and of ALPN.
func (o *Options) harden(config *tls.Config) *tls.Config {
	h := config.Clone()
	switch {
	case !o.AllowObsoleteTLS:
		h.MinVersion = max(h.MinVersion, tls.VersionTLS12)
	case h.MinVersion == 0:
		h.MinVersion = tls.VersionTLS10
	}
	if !o.SessionTickets && h.WrapSession == nil {
		h.SessionTicketsDisabled = true
	}
	if len(h.NextProtos) == 0 {
		h.NextProtos = []string{"smtp"}
	}
	return h
}

// chooseCertificate returns the certificate for a client, as package crypto/tls would choose it with config.
func chooseCertificate(config *tls.Config, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := config.Certificates
	if config.GetCertificate != nil && (len(list) == 0 || hello.ServerName != "") {
		if cert, err := config.GetCertificate(hello); cert != nil || err != nil {
			return cert, err
		}
	}
	if len(list) == 0 {
		return nil, errors.New("smtp: Options.TLSConfig has no certificate for the client")
	}
	for i := range list {
		if len(list) == 1 || hello.SupportsCertificate(&list[i]) == nil {
			return &list[i], nil
		}
	}
	return &list[0], nil
}

// A handshakeConn is a connection on which a handshake is to be made.
type handshakeConn struct {
	net.Conn
	link *link // of which it is the connection
}

// ownCertificates returns the server's certificates that the client may have been shown; see Conn.OwnCertificates.
func (l *link) ownCertificates(config *tls.Config) []*x509.Certificate {
	switch {
	case l.tls == nil:
		return nil
	case l.certificate != nil && !l.tls.DidResume:
		return leaves(l.certificate)
	case config == nil || config.GetCertificate != nil || config.GetConfigForClient != nil:
		return nil
	}
	var all []*x509.Certificate
	for i := range config.Certificates {
		all = append(all, leaves(&config.Certificates[i])...)
	}
	return all
}

// leaves returns the certificate at the head of the chain c, if it can be parsed.
func leaves(c *tls.Certificate) []*x509.Certificate {
	leaf := c.Leaf
	if leaf == nil && len(c.Certificate) > 0 {
		leaf, _ = x509.ParseCertificate(c.Certificate[0]) // one that cannot be parsed has failed in the handshake
	}
	if leaf == nil {
		return nil
	}
	return []*x509.Certificate{leaf}
}
