package auth

import (
	"cmp"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
)

// Password returns credentials for a user with a password.
//
// The client uses the strongest mechanism that the server advertises, in this order: SCRAM-SHA-256-PLUS,
// SCRAM-SHA-1-PLUS, SCRAM-SHA-256, SCRAM-SHA-1 (RFC 5802, RFC 7677), CRAM-MD5 (RFC 2195), PLAIN (RFC 4616), LOGIN. To
// allow only some of them, name them in mechanisms; case does not matter.
//
// With SCRAM the server does not learn the password, and has to prove that it knows the user. The mechanisms with PLUS
// also detect a man in the middle of the TLS connection. The server chooses what it advertises, and with
// AllowUnverifiedAuth so can an attacker. For a server that is known to have SCRAM, name the SCRAM mechanisms, so that
// nobody can force PLAIN.
//
// The user and the password must not be empty, and must be valid UTF-8 without control characters. Otherwise, or if
// mechanisms has an unknown name, connecting fails with an [ext.AuthError].
//
// To act for another user, use [PasswordAs].
func Password(user, password string, mechanisms ...string) ext.Credentials {
	return func(_ context.Context, conn ext.ClientConn) ([]sasl.Client, error) {
		if err := checkPassword(user, password); err != nil {
			return nil, err
		}
		if err := checkNames(mechanisms, append(actingMechanisms, cramMD5, sasl.Login)...); err != nil {
			return nil, err
		}
		list := scramClients(conn, "", user, password, mechanisms)
		if isAllowed(mechanisms, cramMD5) {
			list = append(list, &cramClient{user: user, password: password})
		}
		if isAllowed(mechanisms, sasl.Plain) {
			list = append(list, identified{sasl.NewPlainClient("", user, password), user})
		}
		if isAllowed(mechanisms, sasl.Login) {
			list = append(list, &loginClient{user: user, password: password})
		}
		return list, nil
	}
}

// PasswordAs returns credentials for a user with a password who acts for another one: identity is the authorization
// identity (RFC 4422 section 3.4.1), such as the name of a shared mailbox. The server decides whether user may do that.
// If identity is empty, the server derives it from user, as with [Password].
//
// The mechanisms are the SCRAM ones and PLAIN, in the order of [Password]: the others cannot tell for whom the user
// acts. The rules for identity are those for user.
func PasswordAs(identity, user, password string, mechanisms ...string) ext.Credentials {
	return func(_ context.Context, conn ext.ClientConn) ([]sasl.Client, error) {
		if err := checkPassword(user, password); err != nil {
			return nil, err
		}
		if identity != "" && !isCredential(identity) {
			return nil, errors.New("smtp: an authorization identity has to be UTF-8 without control characters")
		}
		if err := checkNames(mechanisms, actingMechanisms...); err != nil {
			return nil, err
		}
		list := scramClients(conn, identity, user, password, mechanisms)
		if isAllowed(mechanisms, sasl.Plain) {
			list = append(list, identified{sasl.NewPlainClient(identity, user, password), cmp.Or(identity, user)})
		}
		return list, nil
	}
}

func checkPassword(user, password string) error {
	if !isCredential(user) || !isCredential(password) {
		return errors.New("smtp: a user name and a password cannot be empty and have to be UTF-8 without control characters")
	}
	return nil
}

// actingMechanisms are those with a password in which a user can act for another one.
var actingMechanisms = []string{
	scramName(crypto.SHA256, true), scramName(crypto.SHA1, true), scramName(crypto.SHA256, false),
	scramName(crypto.SHA1, false), sasl.Plain,
}

// checkNames returns an error if one of the mechanisms is not in known.
func checkNames(mechanisms []string, known ...string) error {
	for _, m := range mechanisms {
		if !isAllowed(known, m) {
			return fmt.Errorf("smtp: the mechanism %q is none of %s", m, strings.Join(known, ", "))
		}
	}
	return nil
}

// isAllowed reports whether list has the mechanism. An empty list has all.
func isAllowed(list []string, name string) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(m string) bool { return grammar.EqualFold(m, name) })
}

// identified adds the name of the user to a mechanism of go-sasl.
type identified struct {
	sasl.Client
	user string
}

func (c identified) Identity() string { return c.user }

// isCredential reports whether s can be a user name or a password. RFC 4616 section 2 forbids only NUL. We refuse all
// control characters, since names end up in logs, files and database queries.
func isCredential(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

// strict64 is base64 as RFC 4954 section 4 demands it, except that encoding/base64 ignores CR and LF.
var strict64 = base64.StdEncoding.Strict()

// decode64 decodes canonical base64, without CR and LF.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(strings.IndexAny(s, "\r\n"))
	}
	b, err := strict64.DecodeString(s)
	if err != nil {
		return nil, err
	}
	return b, nil
}
