package auth_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// users is a session that stores SCRAM secrets.
type users struct {
	server.Session
	secrets map[string]auth.SCRAMSecret
	nobody  auth.SCRAMSecret
}

var (
	_ auth.SCRAMSession    = (*users)(nil)
	_ auth.PasswordSession = (*users)(nil)
)

// SCRAM says that all secrets were made with the defaults of NewSCRAMSecret.
func (u *users) SCRAMPolicy() auth.SCRAMPolicy { return auth.SCRAMPolicy{} }

func (u *users) SCRAMSecret(_ context.Context, user string, _ crypto.Hash) (auth.SCRAMSecret, error) {
	s, ok := u.secrets[user]
	if !ok {
		return s, auth.ErrCredentials
	}
	return s, nil
}

// Authenticate is for clients that have only PLAIN or LOGIN.
func (u *users) Authenticate(_ context.Context, user, password string) error {
	s, ok := u.secrets[user]
	if !ok {
		s = u.nobody // takes as long as for a user who exists
	}
	if !s.Matches(password) || !ok {
		return auth.ErrCredentials
	}
	return nil
}

// A session that stores secrets serves SCRAM, PLAIN and LOGIN with them.
func ExampleNewSCRAMSecret() {
	secret, err := auth.NewSCRAMSecret(crypto.SHA256, "tanstaaf", 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	nobody, _ := auth.NewSCRAMSecret(crypto.SHA256, "nobody knows", 0)
	u := &users{secrets: map[string]auth.SCRAMSecret{"tim": secret}, nobody: nobody}
	fmt.Println(u.Authenticate(context.Background(), "tim", "tanstaaf"))
	fmt.Println(u.Authenticate(context.Background(), "tom", "tanstaaf"))
	// Output:
	// <nil>
	// smtp: no such user, or not that password
}

// Name the mechanisms that the server is known to have, and an attacker cannot make the client use a weaker one.
func ExamplePassword() {
	opt := &client.Options{
		Credentials: auth.Password("tim", "tanstaaf", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"),
	}
	fmt.Println(opt.TLS == ext.TLSRequired)
	// Output: true
}

// The client asks for the token when it has a connection that needs one.
func ExampleToken() {
	source := func(ctx context.Context) (string, error) {
		return "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", nil // or a new one, if that has expired
	}
	opt := &client.Options{Credentials: auth.Token("tim@example.com", source)}
	fmt.Println(opt.Credentials != nil)
	// Output: true
}

// The certificate in TLSConfig is the credential. The server derives the user from it.
func ExampleExternal() {
	var certificate tls.Certificate // from tls.LoadX509KeyPair
	opt := &client.Options{
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{certificate}},
		Credentials: auth.External(""),
	}
	fmt.Println(opt.Credentials != nil)
	// Output: true
}

// passwords is a session that looks passwords up in a database of your own.
type passwords struct {
	server.Session
	match func(user, password string) (bool, error)
}

func (p *passwords) Authenticate(_ context.Context, user, password string) error {
	switch ok, err := p.match(user, password); {
	case err != nil:
		return err // the server logs it, and the client is told to try again later
	case !ok:
		return auth.ErrCredentials
	}
	return nil
}

var _ auth.PasswordSession = (*passwords)(nil)

// The server advertises PLAIN and LOGIN for a session that checks passwords.
func ExamplePasswordSession() {
	session := &passwords{match: func(user, password string) (bool, error) {
		if user == "down" {
			return false, errors.New("no connection to the database")
		}
		return user == "tim" && password == "tanstaaf", nil
	}}
	ctx := context.Background()
	fmt.Println(session.Authenticate(ctx, "tim", "tanstaaf"))
	fmt.Println(session.Authenticate(ctx, "tim", "secret"))
	fmt.Println(session.Authenticate(ctx, "down", "secret"))
	fmt.Println(auth.Auth().Advertise(&fake.Server{Conn: fake.ServerState{Session: session, TLS: &tls.ConnectionState{}}}))
	// Output:
	// <nil>
	// smtp: no such user, or not that password
	// no connection to the database
	// PLAIN LOGIN true
}

// pins is a session with a mechanism of its own, by which a client sends a PIN.
type pins struct {
	server.Session
	users map[string]string // by PIN
}

func (p *pins) SASLMechanisms() []string { return []string{"X-PIN"} }

func (p *pins) SASL(_ context.Context, mechanism string) (sasl.Server, func() string, error) {
	s := &pinServer{users: p.users}
	return s, func() string { return s.user }, nil
}

var _ auth.MechanismSession = (*pins)(nil)

// pinServer is the server's side of X-PIN: the client sends the PIN, and that is all.
type pinServer struct {
	users map[string]string
	user  string
}

func (s *pinServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil // there was no initial response: ask with an empty challenge
	}
	user, ok := s.users[string(response)]
	if !ok {
		return nil, true, auth.ErrCredentials
	}
	s.user = user
	return nil, true, nil
}

// The session's own mechanisms come first in the list.
func ExampleMechanismSession() {
	session := &pins{users: map[string]string{"2718": "tim"}}
	conn := &fake.Server{Conn: fake.ServerState{Session: session, TLS: &tls.ConnectionState{}, Args: "X-PIN MjcxOA=="}}
	fmt.Println(fake.Reply(auth.Auth().Serve(context.Background(), conn)))
	fmt.Println(conn.Identity())
	// Output:
	// 235 2.7.0 Authenticated
	// tim
}

// noLogin is a session that does not want the mechanism LOGIN, which has no standard.
type noLogin struct{ *users }

func (noLogin) FilterMechanisms(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == "LOGIN" })
}

var _ auth.FilterSession = noLogin{}

// A filter removes mechanisms, or changes their order.
func ExampleFilterSession() {
	session := noLogin{&users{}}
	conn := &fake.Server{Conn: fake.ServerState{Session: session, TLS: &tls.ConnectionState{}}}
	fmt.Println(auth.Auth().Advertise(conn))
	// Output: SCRAM-SHA-256 PLAIN true
}

// A user sends in the name of a shared mailbox: its name is the authorization identity.
func ExamplePasswordAs() {
	server := &fake.Client{
		Conn: fake.ClientState{
			Caps: fake.Caps("AUTH PLAIN LOGIN"), TLS: &tls.ConnectionState{}, Verified: true,
			Policy: ext.Policy{Credentials: auth.PasswordAs("shared", "tim", "tanstaaf")}, // that of client.Options
		},
		Replies: []proto.Reply{{Code: 235, Text: "Welcome"}},
	}
	fmt.Println(auth.Auth().Negotiate(context.Background(), server))
	fmt.Println(server.Sent)
	// Output:
	// <nil>
	// [AUTH PLAIN c2hhcmVkAHRpbQB0YW5zdGFhZg==]
}

// Some servers answer AUTH NTLM with words in place of a challenge. The mechanism is one that you bring.
func ExampleLaxChallenges() {
	ntlm := func(context.Context, ext.ClientConn) ([]sasl.Client, error) {
		return []sasl.Client{handshake{}}, nil
	}
	server := &fake.Client{
		Conn: fake.ClientState{
			Caps: fake.Caps("AUTH NTLM"), TLS: &tls.ConnectionState{}, Verified: true,
			Policy: ext.Policy{Credentials: auth.LaxChallenges(ntlm)}, // that of client.Options
		},
		Replies: []proto.Reply{{Code: 334, Text: "ntlm supported"}, {Code: 235, Text: "Welcome"}},
	}
	fmt.Println(auth.Auth().Negotiate(context.Background(), server))
	fmt.Println(server.Sent)
	// Output:
	// <nil>
	// [AUTH NTLM TlRMTVNTUA==]
}

// A handshake is the beginning of NTLM.
type handshake struct{}

func (handshake) Start() (string, []byte, error) { return "NTLM", nil, nil }

func (handshake) Next(challenge []byte) ([]byte, error) { return []byte("NTLMSSP"), nil }
