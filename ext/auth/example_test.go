package auth_test

import (
	"context"
	"crypto"
	"fmt"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/server"
)

// users is a session that checks passwords without knowing them.
type users struct {
	server.Session
	secrets map[string]auth.SCRAMSecret
	nobody  auth.SCRAMSecret
}

// SCRAM has all secrets made the way NewSCRAMSecret makes them.
func (u *users) SCRAM() auth.SCRAMPolicy { return auth.SCRAMPolicy{} }

func (u *users) SCRAMSecret(_ context.Context, user string, _ crypto.Hash) (auth.SCRAMSecret, error) {
	s, ok := u.secrets[user]
	if !ok {
		return s, auth.ErrCredentials
	}
	return s, nil
}

// Authenticate is for clients that have nothing but PLAIN or LOGIN.
func (u *users) Authenticate(_ context.Context, user, password string) error {
	s, ok := u.secrets[user]
	if !ok {
		s = u.nobody // so that it takes as long
	}
	if !s.Matches(password) || !ok {
		return auth.ErrCredentials
	}
	return nil
}

// A session that keeps secrets serves SCRAM, PLAIN and LOGIN by them.
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

// A client that knows what its server can do does not let itself be talked into less.
func ExamplePassword() {
	opt := &client.Options{
		Credentials: auth.Password("tim", "tanstaaf", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"),
	}
	fmt.Println(opt.TLS == ext.TLSRequired)
	// Output: true
}

// The token is asked for when there is a connection that needs it.
func ExampleToken() {
	source := func(ctx context.Context) (string, error) {
		return "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", nil // or a new one, if that has expired
	}
	opt := &client.Options{Credentials: auth.Token("tim@example.com", source)}
	fmt.Println(opt.Credentials != nil)
	// Output: true
}
