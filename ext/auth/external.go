package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"

	"github.com/emersion/go-sasl"
)

// External returns the credentials of a client that is known by the certificate in its TLS configuration, for the
// mechanism EXTERNAL (RFC 4422 appendix A). Authzid is the name of the user to act as; "" leaves it to the server to
// tell by the certificate.
func External(authzid string) ext.Credentials {
	return func(_ context.Context, d ext.ClientConn) ([]sasl.Client, error) {
		c := d.Policy().TLSConfig
		switch {
		case authzid != "" && !isSecret(authzid):
			return nil, errors.New("smtp: a user name has to be UTF-8 without control characters")
		case d.TLS() != nil && (c == nil || len(c.Certificates) == 0 && c.GetClientCertificate == nil):
			return nil, errors.New("smtp: EXTERNAL needs a certificate of the client: put it in the TLS configuration")
		}
		return []sasl.Client{named{sasl.NewExternalClient(authzid), authzid}}, nil
	}
}

// hasCertificate reports whether the client has shown a certificate that was verified, to a session that knows what
// to do with it. That a certificate was sent proves nothing (RFC 8314 section 4.2).
func hasCertificate(x ext.ServerConn) bool {
	s := directTLS(x)
	return is[CertificateSession](x) && s != nil && len(s.VerifiedChains) > 0
}

// directTLS returns the state of the TLS connection with the client, nil if there is none. That with a proxy which speaks for
// clients is none: its certificate is not theirs, and they cannot bind to its channel.
func directTLS(x ext.ServerConn) *tls.ConnectionState {
	if x.Origin() != nil {
		return nil
	}
	return x.TLS()
}

func newExternalServer(l *login) sasl.Server {
	return sasl.NewExternalServer(func(authzid string) error {
		c, ok := ext.As[CertificateSession](l.x.Session())
		if !ok {
			return ErrCredentials
		}
		user, err := c.AuthenticateCertificate(l.ctx, l.x.TLS().VerifiedChains[0])
		if err != nil {
			return l.verdict(err)
		}
		return l.as(user, authzid)
	})
}

// Anonymous returns the credentials of a guest, for the mechanism ANONYMOUS (RFC 4505). Trace tells the server whom
// to turn to: an address, or a text of up to 255 characters without "@". It may be empty.
func Anonymous(trace string) ext.Credentials {
	return func(context.Context, ext.ClientConn) ([]sasl.Client, error) {
		if !isTrace(trace) {
			return nil, errors.New("smtp: the trace of a guest has to be UTF-8 without control characters, of 255 " +
				"characters at most")
		}
		return []sasl.Client{sasl.NewAnonymousClient(trace)}, nil
	}
}

func newAnonymousServer(l *login) sasl.Server {
	return sasl.NewAnonymousServer(func(trace string) error {
		g, ok := ext.As[AnonymousSession](l.x.Session())
		if !ok || !isTrace(trace) {
			return ErrCredentials
		}
		name, err := g.AuthenticateGuest(l.ctx, trace)
		if err != nil {
			return l.verdict(err)
		}
		l.who = name
		return nil
	})
}

// isTrace reports whether s can be the message of ANONYMOUS (RFC 4505 section 2).
func isTrace(s string) bool { return s == "" || isSecret(s) && utf8.RuneCountInString(s) <= 255 }
