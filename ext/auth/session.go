package auth

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"time"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
)

// ErrCredentials means that the user does not exist or the password is wrong. It deliberately does not say which.
// Session methods return it, alone or wrapped, and the client gets 535.
var ErrCredentials = errors.New("smtp: no such user, or not that password")

// A PasswordSession is a session that checks passwords. The server advertises PLAIN and LOGIN for it.
type PasswordSession interface {
	// Authenticate returns nil if password is the password of user. Neither is empty. Both are valid UTF-8 without control
	// characters.
	//
	// If the user does not exist or the password is wrong, Authenticate returns [ErrCredentials]. It should take the same
	// time for both, so that a client cannot find out which users exist.
	//
	// Any other error is handled as in every method of this package's interfaces. A *proto.Error with a code from 400 to
	// 599 is sent as it is, such as 454 4.7.0 for a user who has to wait. Other errors mean that the check itself failed:
	// the server logs them and answers 454, which tells the client to try again later.
	Authenticate(ctx context.Context, user, password string) error
}

// A SCRAMSession is a session that keeps a [SCRAMSecret] for each user. The server advertises the SCRAM mechanisms for
// it (RFC 5802, RFC 7677).
//
// With SCRAM the password never leaves the client, and secrets stolen from the server cannot be used to log in. Use
// [NewSCRAMSecret] to make a secret from a password. The same session can implement [PasswordSession] with
// [SCRAMSecret.Matches], for clients that have only PLAIN or LOGIN.
type SCRAMSession interface {
	// SCRAMPolicy returns how the secrets were made. The zero SCRAMPolicy is right for secrets that NewSCRAMSecret made
	// with crypto.SHA256 and the default number of iterations.
	SCRAMPolicy() SCRAMPolicy
	// SCRAMSecret returns the secret of user for the hash function. The name has been prepared with SASLprep (RFC 4013).
	//
	// If the user does not exist, or has no secret for that hash function, SCRAMSecret returns [ErrCredentials] or the
	// zero SCRAMSecret. It should take the same time as for other users. The server then goes on with a made-up secret,
	// and the attempt fails at its end. For other errors see [PasswordSession].
	SCRAMSecret(ctx context.Context, user string, hash crypto.Hash) (SCRAMSecret, error)
}

// A SCRAMPolicy says how the secrets of a session were made. The server makes up secrets of the same kind for users who
// do not exist, so that a client cannot find out which users exist. The zero value is usable.
type SCRAMPolicy struct {
	// Hashes are the hash functions for which there are secrets: crypto.SHA256, crypto.SHA1 or both. Nil means SHA256
	// alone.
	Hashes []crypto.Hash
	// Iterations is the iteration count of the secrets, from 4096 to 1000000. 0 means 15000, the default of
	// [NewSCRAMSecret].
	Iterations int
	// SaltSize is the length of the salts in octets, from 1 to 1024. 0 means 16, the length that NewSCRAMSecret uses.
	SaltSize int
	// Key is the key for made-up salts: some 32 random octets, the same on all servers of a domain, which never change.
	// Nil means random octets that are new in each process. An attacker can then compare the salts of two processes, and
	// learns which users exist.
	Key []byte
}

// A ClearPasswordSession is a session that knows the passwords themselves. The server advertises CRAM-MD5 for it (RFC
// 2195).
//
// Use it only for old devices that have neither SCRAM nor TLS: a thief of the database has all passwords.
type ClearPasswordSession interface {
	// ClearPassword returns the password of user. If the user does not exist, it returns [ErrCredentials] after the same
	// time. For other errors see [PasswordSession].
	ClearPassword(ctx context.Context, user string) (string, error)
}

// A TokenSession is a session that checks OAuth 2.0 bearer tokens (RFC 6750). The server advertises OAUTHBEARER and
// XOAUTH2 for it.
type TokenSession interface {
	// AuthenticateToken checks the token and returns the name of its user, which is not empty. User is the name that the
	// client gave, or "" if an OAUTHBEARER client gave none. AuthenticateToken has to check that the token belongs to
	// user.
	//
	// For an invalid token it returns [ErrCredentials], or a *[TokenError] to tell the client more. For other errors see
	// [PasswordSession].
	AuthenticateToken(ctx context.Context, user, token string) (name string, err error)
}

// A CertificateSession is a session that knows users by their TLS certificates. The server advertises EXTERNAL for it
// (RFC 4422 appendix A) to clients whose certificate it has verified.
//
// Set ClientAuth in the server's TLS configuration to tls.VerifyClientCertIfGiven or tls.RequireAndVerifyClientCert
// (RFC 8314 section 4.2). The server does not advertise EXTERNAL for a certificate that was sent and not verified.
type CertificateSession interface {
	// AuthenticateCertificate returns the name of the user to whom the certificate chain[0] belongs. The rest of the chain
	// leads to a trusted root. If the certificate belongs to no user, it returns [ErrCredentials]. For other errors see
	// [PasswordSession].
	AuthenticateCertificate(ctx context.Context, chain []*x509.Certificate) (user string, err error)
}

// An AnonymousSession is a session that lets guests in. The server advertises ANONYMOUS for it (RFC 4505).
type AnonymousSession interface {
	// AuthenticateAnonymous returns the name to record for the guest, such as "anonymous". Trace is how the guest wants to
	// be traced, such as an address. It is a claim, and may be empty. It is valid UTF-8 of at most 255 characters, without
	// control characters. For errors see [PasswordSession].
	AuthenticateAnonymous(ctx context.Context, trace string) (name string, err error)
}

// An AuthorizeSession is a session in which some users may act for others (RFC 4422 section 2): the client proves to be
// one user, and asks to be known as another, the authorization identity. If a session does not implement
// AuthorizeSession, that fails with 535.
type AuthorizeSession interface {
	// Authorize returns nil if user, who has authenticated, may act for the user as. The connection's Identity is then as.
	// Otherwise Authorize returns [ErrCredentials]. For other errors see [PasswordSession].
	Authorize(ctx context.Context, user, as string) error
}

// A FilterSession is a session that chooses among the mechanisms that it can serve.
type FilterSession interface {
	// FilterMechanisms returns those of names that the server may use, in the order in which it advertises them. It may
	// modify names. It may look at the connection: with AllowInsecureAuth, for example, it can leave out PLAIN and LOGIN
	// in plaintext. A name that the session cannot serve is an error, logged and answered with 454 when a client uses it.
	FilterMechanisms(names []string) []string
}

// A PauseSession is a session that chooses how long a client waits after a failed attempt.
type PauseSession interface {
	// AuthPause returns how long after the client's last line the server answers at the earliest. Failures counts the
	// failed attempts on the connection, this one included. 0 means no pause.
	//
	// If a session does not implement PauseSession, the pause is one second. It slows down password guessing. It also
	// hides how long the check took, as long as the check is faster than the pause.
	AuthPause(failures int) time.Duration
}

// An OutcomeSession is a session that hears how each attempt to authenticate ended, by whatever mechanism: to count the
// failures of a user, or to write a log for a program such as fail2ban.
type OutcomeSession interface {
	// AuthOutcome is called once for each attempt, as soon as it is decided, and before the client gets the reply. The
	// methods of the server's Conn, such as RemoteAddr, tell more about the client. They tell its new Identity after
	// success.
	//
	// An attempt is an AUTH command that has come as far as this package: the client had greeted the server, was in no
	// transaction, and had not authenticated before. That the server does not know the mechanism, that the connection has
	// no TLS, that the client cancels by "*", sends what is not base64 or hangs up: all these are outcomes of attempts
	// too. Only those with o.Denied set are about credentials.
	//
	// The context may have ended, if the client has hung up.
	AuthOutcome(ctx context.Context, o ext.AuthOutcome)
}

// A MechanismSession is a session with SASL mechanisms of its own. They stand first in the list that the server
// advertises, and replace those of the same name in this package.
type MechanismSession interface {
	// SASLMechanisms returns the names of the session's mechanisms, such as "GSSAPI": at most 20 letters, digits, hyphens
	// and underscores. Other names are ignored.
	SASLMechanisms() []string
	// SASL starts the server's side of a mechanism, which is one of SASLMechanisms. After success, identity returns the
	// name of the authenticated user, which must not be empty. If SASL returns an error, the server answers as described
	// at [PasswordSession].
	//
	// The first call of server.Next gets nil, unless the client sent an initial response. If the mechanism has no initial
	// response and the client sent one, Next returns sasl.ErrUnexpectedClientResponse. Any other error of Next means that
	// the client failed to authenticate: a *proto.Error with a code from 400 to 599 is sent as it is, and for other errors
	// the client gets 535.
	//
	// If server has a method User() string, that tells who the client says it is, for [ext.AuthOutcome].
	SASL(ctx context.Context, mechanism string) (server sasl.Server, identity func() string, err error)
}
