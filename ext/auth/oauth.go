package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
)

// Token returns credentials for a user with an OAuth 2.0 bearer token, as Gmail and Microsoft 365 want them. The client
// uses OAUTHBEARER (RFC 7628), or XOAUTH2 if the server does not advertise that. To allow only one of them, name it in
// mechanisms.
//
// User is the name of the account, usually its email address. It must be valid UTF-8 without control characters. If it
// is empty, the server derives the user from the token, and XOAUTH2 is not used.
//
// Source returns the access token. It is called once for each connection, after the server has advertised AUTH on a
// connection that is safe for credentials, so that it can renew an expired token. It must be safe for concurrent use if
// clients share the credentials. An error of source ends the attempt.
//
// Connecting fails with an [ext.AuthError] that wraps a *[TokenError] if the server explains why it refuses the token.
func Token(user string, source func(ctx context.Context) (string, error), mechanisms ...string) ext.Credentials {
	return func(ctx context.Context, _ ext.ClientConn) ([]sasl.Client, error) {
		if user != "" && !isCredential(user) {
			return nil, errors.New("smtp: a user name has to be UTF-8 without control characters")
		}
		if err := checkNames(mechanisms, sasl.OAuthBearer, xoauth2); err != nil {
			return nil, err
		}
		token, err := source(ctx)
		if err != nil {
			return nil, err
		}
		if !isToken(token) {
			return nil, errors.New("smtp: a token cannot be empty and has to be printable ASCII without spaces")
		}
		var list []sasl.Client
		if isAllowed(mechanisms, sasl.OAuthBearer) {
			list = append(list, &tokenClient{name: sasl.OAuthBearer, user: user, token: token})
		}
		if user != "" && isAllowed(mechanisms, xoauth2) {
			list = append(list, &tokenClient{name: xoauth2, user: user, token: token})
		}
		return list, nil
	}
}

// isToken reports whether s can be sent as a token. It accepts more than the b64token of RFC 6750 section 2.1, since
// real servers do, but no character that would end the field or the line.
func isToken(s string) bool { return s != "" && grammar.Printable(s) && !strings.Contains(s, " ") }

// A TokenError says why a server refused a token (RFC 7628 section 3.2.2).
//
// A client finds it with errors.As in the [ext.AuthError]. A [TokenSession] returns one to tell the client more than
// [ErrCredentials] does. Any field may be empty. On a client, the strings are untrusted input from the server.
type TokenError struct {
	// Status is an error code such as "invalid_token" (RFC 6750 section 3.1). Some servers send an HTTP status code.
	Status string
	// Schemes are the authentication schemes that the server accepts, such as "bearer".
	Schemes string
	// Scope is the scope that the token has to have.
	Scope string
	// Config is the URL of the OpenID provider's configuration.
	Config string
	// Text is the server's explanation as it came, usually JSON. A server does not use it.
	Text string
	// Err is the reply that ended the attempt, a *proto.Error. A server does not use it.
	Err error
}

// Error implements the error interface.

func (e *TokenError) Error() string {
	s := "smtp: the token was refused"
	if e.Status != "" {
		s += " with the status " + strconv.Quote(e.Status)
	} else if e.Text != "" {
		s += " with " + strconv.Quote(e.Text)
	}
	if e.Scope != "" {
		s += "; it needs the scope " + strconv.Quote(e.Scope)
	}
	if e.Err != nil {
		s += ": " + grammar.Cause(e.Err)
	}
	return s
}

// Unwrap returns e.Err.
func (e *TokenError) Unwrap() error { return e.Err }

// A tokenFailure is a TokenError on the wire (RFC 7628 section 3.2.2).
type tokenFailure struct {
	Status  string `json:"status"`
	Schemes string `json:"schemes,omitempty"`
	Scope   string `json:"scope,omitempty"`
	Config  string `json:"openid-configuration,omitempty"`
}

// parseTokenError parses the text as far as possible.
func parseTokenError(text []byte) *TokenError {
	e := &TokenError{Text: string(text)}
	var fields map[string]any
	if json.Unmarshal(text, &fields) != nil {
		return e
	}
	for key, field := range map[string]*string{
		"status": &e.Status, "schemes": &e.Schemes, "scope": &e.Scope, "openid-configuration": &e.Config,
	} {
		switch v := fields[key].(type) {
		case string:
			*field = v
		case float64:
			*field = strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return e
}

// A tokenClient is the client's side of OAUTHBEARER or XOAUTH2. The server's only challenge says why it refuses the
// token.
type tokenClient struct {
	name, user, token string
	refusal           *TokenError
}

func (c *tokenClient) Start() (string, []byte, error) {
	if c.name == xoauth2 {
		return c.name, []byte("user=" + c.user + "\x01auth=Bearer " + c.token + "\x01\x01"), nil
	}
	authzid := ""
	if c.user != "" {
		authzid = "a=" + quoteName(c.user)
	}
	// The keys host and port are for signed requests. Bearer tokens are not signed (RFC 7628 section 3.1).
	return c.name, []byte("n," + authzid + ",\x01auth=Bearer " + c.token + "\x01\x01"), nil
}

func (c *tokenClient) Next(challenge []byte) ([]byte, error) {
	if c.refusal != nil {
		return nil, sasl.ErrUnexpectedServerChallenge
	}
	c.refusal = parseTokenError(challenge)
	if c.name == xoauth2 {
		return []byte{}, nil
	}
	return []byte{1}, nil // RFC 7628 section 3.2.3
}

// Explain adds the server's explanation to its final reply.
func (c *tokenClient) Explain(reply error) error {
	if c.refusal == nil {
		return reply
	}
	c.refusal.Err = reply
	return c.refusal
}

// Done returns false after a refusal: then the server must not report success.
func (c *tokenClient) Done() bool { return c.refusal == nil }

func (c *tokenClient) Identity() string { return c.user }

// A tokenServer is the server's side of OAUTHBEARER or XOAUTH2.
type tokenServer struct {
	attempt *attempt
	parse   func(message []byte) (user, token string, err error)
	refusal error // why the client failed, once a challenge has told it
}

func newBearerServer(a *attempt) sasl.Server { return &tokenServer{attempt: a, parse: parseBearer} }

func newXOAuth2Server(a *attempt) sasl.Server { return &tokenServer{attempt: a, parse: parseXOAuth2} }

func (s *tokenServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil
	}
	err = s.check(response)
	e, explained := grammar.AsType[*TokenError](err)
	if err == nil || replyIn(err) != nil || !explained && !errors.Is(err, ErrCredentials) {
		return nil, true, err // a reply of the session's own is sent without an explanation
	}
	f := tokenFailure{Status: "invalid_token", Schemes: "bearer"}
	if explained {
		f = tokenFailure{Status: e.Status, Schemes: e.Schemes, Scope: e.Scope, Config: e.Config}
	}
	s.refusal = err
	challenge, err = json.Marshal(f)
	return challenge, false, err
}

// Refusal returns why the client failed, if the last challenge told it.
func (s *tokenServer) Refusal() error { return s.refusal }

func (s *tokenServer) check(message []byte) error {
	user, token, err := s.parse(message)
	s.attempt.claimed.user = user
	t, ok := ext.As[TokenSession](s.attempt.conn.Session())
	if err != nil || !ok || user != "" && !isCredential(user) || !isToken(token) {
		return fmt.Errorf("%w: %w", ErrCredentials, errMalformed)
	}
	name, err := t.AuthenticateToken(s.attempt.ctx, user, token)
	if _, ok := grammar.AsType[*TokenError](err); ok {
		return err
	}
	if err != nil {
		return s.attempt.sessionError(err)
	}
	s.attempt.user = name
	return nil
}

var errMalformed = errors.New("smtp: malformed message of the mechanism")

// parseBearer parses the message of OAUTHBEARER (RFC 7628 section 3.1). Keys other than auth are ignored.
func parseBearer(message []byte) (user, token string, err error) {
	header, rest, ok := bytes.Cut(message, []byte{1})
	flag, authzid, ok2 := strings.Cut(string(header), ",")
	authzid, ok3 := strings.CutSuffix(authzid, ",")
	pairs, ok4 := strings.CutSuffix(string(rest), "\x01\x01")
	if !ok || !ok2 || !ok3 || !ok4 || flag != "n" && flag != "y" {
		return "", "", errMalformed
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if user, err = unquoteName(name); !ok || err != nil || user == "" {
			return "", "", errMalformed
		}
	}
	for pair := range strings.SplitSeq(pairs, "\x01") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "auth" && token != "" {
			return "", "", errMalformed
		}
		if key == "auth" {
			if token, err = bearer(value); err != nil {
				return user, "", err
			}
		}
	}
	return user, token, nil
}

// parseXOAuth2 parses the message of XOAUTH2, which Google has described and others have adopted.
func parseXOAuth2(message []byte) (user, token string, err error) {
	text, ok := strings.CutSuffix(string(message), "\x01\x01")
	name, value, ok2 := strings.Cut(text, "\x01")
	user, ok3 := strings.CutPrefix(name, "user=")
	value, ok4 := strings.CutPrefix(value, "auth=")
	if !ok || !ok2 || !ok3 || !ok4 || user == "" {
		return "", "", errMalformed
	}
	token, err = bearer(value)
	return user, token, err
}

// bearer returns the token in the value of an HTTP Authorization header (RFC 6750 section 2.1). The case of the scheme
// does not matter.
func bearer(value string) (string, error) {
	scheme, token, ok := strings.Cut(value, " ")
	if !ok || !grammar.EqualFold(scheme, "Bearer") {
		return "", errMalformed
	}
	return strings.TrimLeft(token, " "), nil
}
