package auth

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"

	"github.com/emersion/go-sasl"
)

// A mechanism is one that this package has the server side of.
type mechanism struct {
	name string
	// ready reports whether the session can serve it on the connection.
	ready func(ext.ServerConn) bool
	// start returns the server side for one exchange, which calls the methods of the login.
	start func(*login) sasl.Server
}

// The names of mechanisms that go-sasl has none for.
const (
	cramMD5 = "CRAM-MD5"
	xoauth2 = "XOAUTH2"
)

// builtin has the strongest mechanism first. CRAM-MD5 is ahead of PLAIN for what it keeps from whoever listens; it
// makes the server keep the passwords in clear.
var builtin = []mechanism{
	{sasl.External, hasCertificate, newExternalServer},
	scramMechanism(crypto.SHA256, true),
	scramMechanism(crypto.SHA1, true),
	scramMechanism(crypto.SHA256, false),
	scramMechanism(crypto.SHA1, false),
	{sasl.OAuthBearer, is[TokenSession], newBearerServer},
	{xoauth2, is[TokenSession], newXOAuth2Server},
	{cramMD5, is[ClearPasswordSession], newCRAMServer},
	{sasl.Plain, is[PasswordSession], newPlainServer},
	{sasl.Login, is[PasswordSession], newLoginServer},
	{sasl.Anonymous, is[AnonymousSession], newAnonymousServer},
}

// is reports whether the session is a T.
func is[T any](x ext.ServerConn) bool {
	_, ok := ext.As[T](x.Session())
	return ok
}

// mechanisms returns the names of the mechanisms that the session has on the connection, in upper case.
func mechanisms(x ext.ServerConn) []string {
	var names []string
	if m, ok := ext.As[MechanismSession](x.Session()); ok {
		names = appendNames(names, m.SASLMechanisms()...)
	}
	for i := range builtin {
		if builtin[i].ready(x) {
			names = appendNames(names, builtin[i].name)
		}
	}
	if f, ok := ext.As[FilterSession](x.Session()); ok {
		names = appendNames(nil, f.FilterMechanisms(names)...)
	}
	return names
}

// appendNames appends those of list that are names of mechanisms and not there yet.
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

// A login is an attempt to authenticate by one of the built-in mechanisms. Its methods return nil for success,
// ErrCredentials in the error for a client that is not who it says, and a refusal for anything else.
type login struct {
	ctx context.Context
	x   ext.ServerConn
	who string
}

func (l *login) identity() string { return l.who }

// verdict is what an error of the session means.
func (l *login) verdict(err error) error {
	if err == nil || errors.Is(err, ErrCredentials) {
		return err
	}
	return failedCheck(l.ctx, err)
}

// password ends the login of a client that has shown a password.
func (l *login) password(authzid, user, password string) error {
	p, ok := ext.As[PasswordSession](l.x.Session())
	if !ok || !l.mayAsk(user, authzid) || !isSecret(user) || !isSecret(password) {
		return ErrCredentials
	}
	if err := p.Authenticate(l.ctx, user, password); err != nil {
		return l.verdict(err)
	}
	return l.as(user, authzid)
}

// mayAsk reports whether to be known as authzid is not out of the question for user.
func (l *login) mayAsk(user, authzid string) bool {
	return authzid == "" || authzid == user || is[AuthorizeSession](l.x)
}

// as ends the login of a client that has proved to be user and asks to be known as authzid, or as user if that is
// empty.
func (l *login) as(user, authzid string) error {
	if user == "" {
		return failedCheck(l.ctx, errors.New("smtp: the session has authenticated a client without a name"))
	}
	if authzid == "" || authzid == user {
		l.who = user
		return nil
	}
	a, ok := ext.As[AuthorizeSession](l.x.Session())
	if !ok || !isSecret(authzid) {
		return ErrCredentials
	}
	if err := a.Authorize(l.ctx, user, authzid); err != nil {
		return l.verdict(err)
	}
	l.who = authzid
	return nil
}

func newPlainServer(l *login) sasl.Server { return sasl.NewPlainServer(l.password) }
