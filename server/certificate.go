package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
)

// watched returns a copy of config that tells a connection which certificate its client is shown, whoever makes the
// handshake. Package crypto/tls keeps that to itself.
func watched(config *tls.Config) *tls.Config {
	//lint:ignore SA1019 it decides which certificate is used where there is one
	if config.NameToCertificate != nil {
		return config
	}
	w := config.Clone()
	w.Certificates = nil // GetCertificate is not asked for all clients as long as there are any
	w.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := choose(config, hello)
		if s, ok := hello.Conn.(*showing); ok {
			s.c.shown = cert
		}
		return cert, err
	}
	if each := config.GetConfigForClient; each != nil {
		w.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := each(hello)
			if c == nil || err != nil {
				return nil, err
			}
			return watched(hardened(c)), nil
		}
	}
	return w
}

// hardened returns a copy of config with what Options.TLSConfig promises of versions and of ALPN.
func hardened(config *tls.Config) *tls.Config {
	h := config.Clone()
	h.MinVersion = max(h.MinVersion, tls.VersionTLS12)
	if len(h.NextProtos) == 0 {
		h.NextProtos = []string{"smtp"}
	}
	return h
}

// choose returns the certificate for a client, as package crypto/tls would do with config.
func choose(config *tls.Config, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
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

// showing is a connection on which a handshake is to be made.
type showing struct {
	net.Conn
	c *Conn
}

// OwnCertificates returns the certificates of the server one of which the client has been shown. There is one, unless
// the session of TLS was resumed or the listener has made the handshake: then these are all that Options.TLSConfig has,
// and none if it has GetCertificate or GetConfigForClient. There is none on a connection in clear.
func (c *Conn) OwnCertificates() []*x509.Certificate {
	switch config := c.srv.opt.TLSConfig; {
	case c.tls == nil:
		return nil
	case c.shown != nil && !c.tls.DidResume:
		return leaves(c.shown)
	case config == nil || config.GetCertificate != nil || config.GetConfigForClient != nil:
		return nil
	default:
		var all []*x509.Certificate
		for i := range config.Certificates {
			all = append(all, leaves(&config.Certificates[i])...)
		}
		return all
	}
}

// leaves returns the certificate that c is about, if it can be parsed.
func leaves(c *tls.Certificate) []*x509.Certificate {
	leaf := c.Leaf
	if leaf == nil && len(c.Certificate) > 0 {
		leaf, _ = x509.ParseCertificate(c.Certificate[0]) // a handshake with what is none has failed
	}
	if leaf == nil {
		return nil
	}
	return []*x509.Certificate{leaf}
}
