package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"unicode/utf8"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
)

// External returns credentials for a client that the server knows by the client's TLS certificate, for the mechanism
// EXTERNAL (RFC 4422 appendix A). Put the certificate into the client's TLSConfig; without one, connecting fails with
// an [ext.AuthError].
//
// Authzid is the authorization identity: the name of the user to act as. It is usually "": the server then derives the
// user from the certificate. It must be valid UTF-8 without control characters.
func External(authzid string) ext.Credentials {
	return func(_ context.Context, conn ext.ClientConn) ([]sasl.Client, error) {
		config := conn.Policy().TLSConfig
		switch {
		case authzid != "" && !isCredential(authzid):
			return nil, errors.New("smtp: a user name has to be UTF-8 without control characters")
		case conn.TLS() != nil && (config == nil || len(config.Certificates) == 0 && config.GetClientCertificate == nil):
			return nil, errors.New("smtp: EXTERNAL needs a certificate of the client: put it in the TLS configuration")
		}
		return []sasl.Client{identified{sasl.NewExternalClient(authzid), authzid}}, nil
	}
}

// hasCertificate reports whether the session can serve EXTERNAL. A certificate that was sent and not verified proves
// nothing (RFC 8314 section 4.2).
func hasCertificate(conn ext.ServerConn) bool {
	s := directTLS(conn)
	return implements[CertificateSession](conn) && s != nil && len(s.VerifiedChains) > 0
}

// directTLS returns the state of the TLS connection with the client itself, or nil. A TLS connection with a proxy does
// not count: the certificate is not the client's, and the client cannot bind to the channel.
func directTLS(conn ext.ServerConn) *tls.ConnectionState {
	if conn.Origin() != nil {
		return nil
	}
	return conn.TLS()
}

func newExternalServer(a *attempt) sasl.Server {
	return sasl.NewExternalServer(func(authzid string) error {
		a.claimed.as = authzid
		s, ok := ext.As[CertificateSession](a.conn.Session())
		if !ok {
			return ErrCredentials
		}
		user, err := s.AuthenticateCertificate(a.ctx, a.conn.TLS().VerifiedChains[0])
		if err != nil {
			return a.sessionError(err)
		}
		return a.authorize(user, authzid)
	})
}

// Anonymous returns credentials for a guest, for the mechanism ANONYMOUS (RFC 4505). Trace tells the server whom to
// contact: an email address, or a text without "@". It may be empty.
//
// Trace must be valid UTF-8 of at most 255 characters, without control characters. Otherwise connecting fails with an
// [ext.AuthError].
func Anonymous(trace string) ext.Credentials {
	return func(context.Context, ext.ClientConn) ([]sasl.Client, error) {
		if !isTrace(trace) {
			return nil, errors.New("smtp: the trace of a guest has to be UTF-8 without control characters, of 255 " +
				"characters at most")
		}
		return []sasl.Client{sasl.NewAnonymousClient(trace)}, nil
	}
}

func newAnonymousServer(a *attempt) sasl.Server {
	return sasl.NewAnonymousServer(func(trace string) error {
		a.claimed.user = trace
		s, ok := ext.As[AnonymousSession](a.conn.Session())
		if !ok || !isTrace(trace) {
			return ErrCredentials
		}
		name, err := s.AuthenticateAnonymous(a.ctx, trace)
		if err != nil {
			return a.sessionError(err)
		}
		a.user = name
		return nil
	})
}

// isTrace reports whether s can be the message of ANONYMOUS (RFC 4505 section 2).
func isTrace(s string) bool { return s == "" || isCredential(s) && utf8.RuneCountInString(s) <= 255 }
