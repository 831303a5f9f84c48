package auth

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
)

// A mechanism describes the server's side of a mechanism of this package.
type mechanism struct {
	name string
	// isReady reports whether the session can serve the mechanism on the connection.
	isReady func(ext.ServerConn) bool
	// start returns the server's side for one exchange. It reports the outcome to the attempt.
	start func(*attempt) sasl.Server
}

// The names of mechanisms for which go-sasl has no constant.
const (
	cramMD5 = "CRAM-MD5"
	xoauth2 = "XOAUTH2"
)

// builtin has the strongest mechanism first. CRAM-MD5 comes before PLAIN, since it hides the password from an
// eavesdropper, although the server has to keep passwords in plaintext for it.
var builtin = []mechanism{
	{sasl.External, hasCertificate, newExternalServer},
	scramMechanism(crypto.SHA256, true),
	scramMechanism(crypto.SHA1, true),
	scramMechanism(crypto.SHA256, false),
	scramMechanism(crypto.SHA1, false),
	{sasl.OAuthBearer, implements[TokenSession], newBearerServer},
	{xoauth2, implements[TokenSession], newXOAuth2Server},
	{cramMD5, implements[ClearPasswordSession], newCRAMServer},
	{sasl.Plain, implements[PasswordSession], newPlainServer},
	{sasl.Login, implements[PasswordSession], newLoginServer},
	{sasl.Anonymous, implements[AnonymousSession], newAnonymousServer},
}

// implements reports whether the session implements T.
func implements[T any](conn ext.ServerConn) bool {
	_, ok := ext.As[T](conn.Session())
	return ok
}

// mechanisms returns the names of the mechanisms that the session can serve on the connection, in upper case.
func mechanisms(conn ext.ServerConn) []string {
	var names []string
	if s, ok := ext.As[MechanismSession](conn.Session()); ok {
		names = appendNames(names, s.SASLMechanisms()...)
	}
	for i := range builtin {
		if builtin[i].isReady(conn) {
			names = appendNames(names, builtin[i].name)
		}
	}
	if s, ok := ext.As[FilterSession](conn.Session()); ok {
		names = appendNames(nil, s.FilterMechanisms(names)...)
	}
	return names
}

// appendNames appends the valid names in list that are not in names yet.
func appendNames(names []string, list ...string) []string {
	for _, name := range list {
		if name = strings.ToUpper(name); isMechanism(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// isMechanism reports whether name is a sasl-mech (RFC 4422 section 3.1).
func isMechanism(name string) bool {
	return name != "" && len(name) <= 20 && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// An attempt is one client's attempt to authenticate by a mechanism of this package. The methods that end it return nil
// for success, an error that wraps ErrCredentials for bad credentials, and otherwise the reply.
type attempt struct {
	ctx     context.Context
	conn    ext.ServerConn
	user    string // the name to record after success
	claimed claim
}

func (a *attempt) identity() string { return a.user }

// sessionError returns what an error of a session's method means for the attempt.
func (a *attempt) sessionError(err error) error {
	if err == nil || errors.Is(err, ErrCredentials) {
		return err
	}
	return checkFailed(a.ctx, err)
}

// password ends the attempt of a client that has sent a password.
func (a *attempt) password(authzid, user, password string) error {
	a.claimed = claim{user, authzid}
	s, ok := ext.As[PasswordSession](a.conn.Session())
	if !ok || !a.mayActAs(user, authzid) || !isCredential(user) || !isCredential(password) {
		return ErrCredentials
	}
	if err := s.Authenticate(a.ctx, user, password); err != nil {
		return a.sessionError(err)
	}
	return a.authorize(user, authzid)
}

// mayActAs returns false if authorize would refuse authzid without asking the session.
func (a *attempt) mayActAs(user, authzid string) bool {
	return authzid == "" || authzid == user || implements[AuthorizeSession](a.conn)
}

// authorize ends the attempt of a client that has proved to be user. The client is recorded as authzid, or as user if
// authzid is empty.
func (a *attempt) authorize(user, authzid string) error {
	a.claimed = claim{user, authzid}
	if user == "" {
		return checkFailed(a.ctx, errNoName)
	}
	if authzid == "" || authzid == user {
		a.user = user
		return nil
	}
	s, ok := ext.As[AuthorizeSession](a.conn.Session())
	if !ok || !isCredential(authzid) {
		return ErrCredentials
	}
	if err := s.Authorize(a.ctx, user, authzid); err != nil {
		return a.sessionError(err)
	}
	a.user = authzid
	return nil
}

func newPlainServer(a *attempt) sasl.Server { return sasl.NewPlainServer(a.password) }
