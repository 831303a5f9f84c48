package ext

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-sasl"
)

// Credentials returns the SASL mechanisms that a client is to authenticate with, in order of preference. It is called
// once for each connection, when the server has offered AUTH and the connection is fit for credentials, so that a
// token can be fetched afresh; an error ends the attempt.
//
// Any sasl.Client will do. Two more methods are used if it has them. Identity() string is the name recorded for the
// connection, otherwise that of the mechanism. Done() bool is asked when the server reports success: a mechanism that
// has yet to verify the server, as SCRAM does, returns false and the attempt has failed.
type Credentials func(ctx context.Context, d Dialogue) ([]sasl.Client, error)

// Password returns the credentials of a user with a password. They are sent by the mechanism PLAIN (RFC 4616), or by
// LOGIN to servers that do not offer PLAIN. A name or a password that is empty, is not UTF-8 or has control
// characters in it is an error when they are to be used.
func Password(user, password string) Credentials {
	return func(context.Context, Dialogue) ([]sasl.Client, error) {
		if !isSecret(user) || !isSecret(password) {
			return nil, errors.New("smtp: a user name and a password cannot be empty and have to be UTF-8 " +
				"without control characters")
		}
		return []sasl.Client{
			named{sasl.NewPlainClient("", user, password), user},
			named{&loginClient{user: user, password: password}, user},
		}, nil
	}
}

// named is a mechanism that knows the name of the user.
type named struct {
	sasl.Client
	user string
}

func (n named) Identity() string { return n.user }

// loginClient is the mechanism LOGIN, which is not standardised. The first question is for the name and the second
// for the password; servers word them differently, so the words are not looked at. No initial response is used, since
// some servers take none.
type loginClient struct {
	user, password string
	asked          int
}

func (l *loginClient) Start() (string, []byte, error) { return sasl.Login, nil, nil }

func (l *loginClient) Next([]byte) ([]byte, error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte(l.user), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, sasl.ErrUnexpectedServerChallenge
}

// loginServer is the mechanism LOGIN. The server begins, but clients that send the name at once are so common that an
// initial response is taken.
type loginServer struct {
	check func(user, password string) error
	user  string
	asked int
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response != nil {
		l.asked = max(l.asked, 1)
	}
	switch l.asked {
	case 0:
		l.asked = 1
		return []byte("Username:"), false, nil
	case 1:
		l.asked = 2
		l.user = string(response)
		return []byte("Password:"), false, nil
	case 2:
		l.asked = 3
		return nil, true, l.check(l.user, string(response))
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}

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
