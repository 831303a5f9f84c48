package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"smtpkit.example/smtp/ext"

	"smtpkit.example/smtp/ext/internal/grammar"

	"github.com/emersion/go-sasl"
)

// Token returns the credentials of a user with a bearer token of OAuth 2.0, for the mechanisms OAUTHBEARER (RFC 7628)
// and, on servers that do not offer it, XOAUTH2. Source returns the token; it is called once for each connection, so
// that it can renew one that has expired. An empty user leaves it to the server to tell by the token; XOAUTH2 is not
// used then. A token that the server refuses leads to a [TokenError].
//
// Mechanisms, if there are any, are the only ones that may be used.
func Token(user string, source func(ctx context.Context) (string, error), mechanisms ...string) ext.Credentials {
	return func(ctx context.Context, d ext.ClientConn) ([]sasl.Client, error) {
		if user != "" && !isSecret(user) {
			return nil, errors.New("smtp: a user name has to be UTF-8 without control characters")
		}
		if err := known(mechanisms, sasl.OAuthBearer, xoauth2); err != nil {
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
		if allowed(mechanisms, sasl.OAuthBearer) {
			list = append(list, &tokenClient{name: sasl.OAuthBearer, user: user, token: token})
		}
		if user != "" && allowed(mechanisms, xoauth2) {
			list = append(list, &tokenClient{name: xoauth2, user: user, token: token})
		}
		return list, nil
	}
}

// isToken reports whether s can stand in the place of a b64token (RFC 6750 section 2.1). Servers differ in what else
// they put there; what would end the field or the line is refused.
func isToken(s string) bool { return s != "" && grammar.Printable(s) && !strings.Contains(s, " ") }

// A TokenError is what a server has to say of a token that it refuses. On a client it is wrapped in an [ext.AuthError],
// and a session that is a [TokenSession] can return one. All fields may be empty, and so far as they come from a server,
// anything may be in them.
type TokenError struct {
	Status  string // such as "invalid_token" (RFC 6750 section 3.1); some servers give a number
	Schemes string // the schemes that would do, such as "bearer"
	Scope   string // the scope a token has to have
	Config  string // URL of the OpenID provider's configuration
	// Text is the server's answer as it came, in JSON. It is not used on a server.
	Text string
	// Err is the reply that followed.
	Err error
}

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

// Unwrap returns Err.
func (e *TokenError) Unwrap() error { return e.Err }

// tokenFailure is a TokenError on the wire (RFC 7628 section 3.2.2).
type tokenFailure struct {
	Status  string `json:"status"`
	Schemes string `json:"schemes,omitempty"`
	Scope   string `json:"scope,omitempty"`
	Config  string `json:"openid-configuration,omitempty"`
}

// parseTokenError makes of the text what can be made of it.
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

// tokenClient is the mechanism OAUTHBEARER or XOAUTH2. The only challenge that a server can have is why it refuses.
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
	// The keys host and port are for tokens that are signed for a request, which bearer tokens are not (RFC 7628
	// section 3.1).
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

// Explain adds to the server's reply what it said before.
func (c *tokenClient) Explain(reply error) error {
	if c.refusal == nil {
		return reply
	}
	c.refusal.Err = reply
	return c.refusal
}

// Done is false after a refusal, which no reply of success can follow.
func (c *tokenClient) Done() bool { return c.refusal == nil }

func (c *tokenClient) Identity() string { return c.user }

// tokenServer is the mechanism OAUTHBEARER or XOAUTH2.
type tokenServer struct {
	login   *login
	parse   func(message []byte) (user, token string, err error)
	refusal error // why the client has failed, which it has been told
}

func newBearerServer(l *login) sasl.Server { return &tokenServer{login: l, parse: parseBearer} }

func newXOAuth2Server(l *login) sasl.Server { return &tokenServer{login: l, parse: parseXOAuth2} }

func (s *tokenServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil
	}
	err = s.check(response)
	e, told := grammar.AsType[*TokenError](err)
	if err == nil || chosen(err) != nil || !told && !errors.Is(err, ErrCredentials) {
		return nil, true, err // for a reply of the session's own there is no saying more
	}
	f := tokenFailure{Status: "invalid_token", Schemes: "bearer"}
	if told {
		f = tokenFailure{Status: e.Status, Schemes: e.Schemes, Scope: e.Scope, Config: e.Config}
	}
	s.refusal = err
	challenge, err = json.Marshal(f)
	return challenge, false, err
}

// Refusal returns why the client has failed, if the last challenge told it so.
func (s *tokenServer) Refusal() error { return s.refusal }

func (s *tokenServer) check(message []byte) error {
	user, token, err := s.parse(message)
	t, ok := ext.As[TokenSession](s.login.x.Session())
	if err != nil || !ok || user != "" && !isSecret(user) || !isToken(token) {
		return fmt.Errorf("%w: %w", ErrCredentials, errMessage)
	}
	name, err := t.AuthenticateToken(s.login.ctx, user, token)
	if _, told := grammar.AsType[*TokenError](err); told {
		return err
	}
	if err != nil {
		return s.login.verdict(err)
	}
	s.login.who = name
	return nil
}

var errMessage = errors.New("smtp: malformed message of the mechanism")

// parseBearer takes apart the message of OAUTHBEARER (RFC 7628 section 3.1). Keys other than auth are ignored.
func parseBearer(message []byte) (user, token string, err error) {
	header, rest, ok := bytes.Cut(message, []byte{1})
	flag, authzid, ok2 := strings.Cut(string(header), ",")
	authzid, ok3 := strings.CutSuffix(authzid, ",")
	pairs, ok4 := strings.CutSuffix(string(rest), "\x01\x01")
	if !ok || !ok2 || !ok3 || !ok4 || flag != "n" && flag != "y" {
		return "", "", errMessage
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if user, err = unquoteName(name); !ok || err != nil || user == "" {
			return "", "", errMessage
		}
	}
	for pair := range strings.SplitSeq(pairs, "\x01") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "auth" && token != "" {
			return "", "", errMessage
		}
		if key == "auth" {
			if token, err = bearer(value); err != nil {
				return "", "", err
			}
		}
	}
	return user, token, nil
}

// parseXOAuth2 takes apart the message of XOAUTH2, which Google has described and others have taken over.
func parseXOAuth2(message []byte) (user, token string, err error) {
	text, ok := strings.CutSuffix(string(message), "\x01\x01")
	name, value, ok2 := strings.Cut(text, "\x01")
	user, ok3 := strings.CutPrefix(name, "user=")
	value, ok4 := strings.CutPrefix(value, "auth=")
	if !ok || !ok2 || !ok3 || !ok4 || user == "" {
		return "", "", errMessage
	}
	token, err = bearer(value)
	return user, token, err
}

// bearer returns the token in an authorization of HTTP (RFC 6750 section 2.1). The name of the scheme is compared
// without regard to case.
func bearer(value string) (string, error) {
	scheme, token, ok := strings.Cut(value, " ")
	if !ok || !grammar.EqualFold(scheme, "Bearer") {
		return "", errMessage
	}
	return strings.TrimLeft(token, " "), nil
}
