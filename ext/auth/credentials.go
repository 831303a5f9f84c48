package auth

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"

	"github.com/emersion/go-sasl"
	"smtpkit.example/smtp/ext/internal/grammar"
)

// Password returns the credentials of a user with a password. A name or a password that is empty, is not UTF-8 or has
// control characters in it is an error when they are to be used.
//
// The strongest mechanism that the server offers is used, in this order: SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS,
// SCRAM-SHA-256, SCRAM-SHA-1 (RFC 5802, RFC 7677), CRAM-MD5 (RFC 2195), PLAIN (RFC 4616), LOGIN. By SCRAM the server
// learns nothing that would let it, or whoever poses as it, log in elsewhere, and has to prove that it knows the user;
// the forms with PLUS prove besides that nobody is in between. Which of them are on offer is for the server to say,
// and with AllowInsecureAuth for anybody in between.
//
// Mechanisms, if there are any, are the only ones that may be used: those that begin with SCRAM for a user whose
// server is known to have them.
func Password(user, password string, mechanisms ...string) ext.Credentials {
	return func(_ context.Context, d ext.ClientConn) ([]sasl.Client, error) {
		if !isSecret(user) || !isSecret(password) {
			return nil, errors.New("smtp: a user name and a password cannot be empty and have to be UTF-8 " +
				"without control characters")
		}
		if err := known(mechanisms, passwordMechanisms...); err != nil {
			return nil, err
		}
		list := scramClients(d, user, password, mechanisms)
		if allowed(mechanisms, cramMD5) {
			list = append(list, &cramClient{user: user, password: password})
		}
		if allowed(mechanisms, sasl.Plain) {
			list = append(list, named{sasl.NewPlainClient("", user, password), user})
		}
		if allowed(mechanisms, sasl.Login) {
			list = append(list, &loginClient{user: user, password: password})
		}
		return list, nil
	}
}

var passwordMechanisms = []string{
	scramName(crypto.SHA256, true), scramName(crypto.SHA1, true), scramName(crypto.SHA256, false),
	scramName(crypto.SHA1, false), cramMD5, sasl.Plain, sasl.Login,
}

// known says which of the mechanisms is not one of list, if any.
func known(mechanisms []string, list ...string) error {
	for _, m := range mechanisms {
		if !allowed(list, m) {
			return fmt.Errorf("smtp: the mechanism %q is none of %s", m, strings.Join(list, ", "))
		}
	}
	return nil
}

// allowed reports whether the list, unless there is none, has the mechanism.
func allowed(list []string, name string) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(m string) bool { return grammar.EqualFold(m, name) })
}

// named is a mechanism that knows the name of the user.
type named struct {
	sasl.Client
	user string
}

func (n named) Identity() string { return n.user }

// isSecret reports whether s can be a name or a password: RFC 4616 section 2 allows anything but NUL. Control
// characters are refused beyond that, since the names go into logs, files and queries of all sorts.
func isSecret(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

// strict64 is base64 as RFC 4954 section 4 wants it, but for the CR and LF that the package passes over.
var strict64 = base64.StdEncoding.Strict()

// decode64 decodes base64, of which anything unusual is refused.
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
