package auth

import (
	"context"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
)

// LaxChallenges returns the credentials c for a server whose challenges are not all base64, as RFC 4954 section 4
// demands. Exchange and others answer AUTH NTLM with "334 ntlm supported". The mechanism then gets an empty challenge
// in place of such a text.
//
// Use it for a server that is known to do so. Without it, the client cancels the attempt with "*", and the error is an
// [ext.AuthError]. What the mechanism demands of a challenge stays as it is: SCRAM fails if one is empty. Several
// clients may use the result concurrently if they may use c so.
func LaxChallenges(c ext.Credentials) ext.Credentials {
	return func(ctx context.Context, conn ext.ClientConn) ([]sasl.Client, error) {
		list, err := c(ctx, conn)
		lax := make([]sasl.Client, len(list))
		for i, m := range list {
			lax[i] = laxMechanism{m}
		}
		return lax, err
	}
}

// A laxMechanism marks a mechanism that gets an empty challenge for one that is not base64. The client takes the
// mechanism itself out, so that its optional methods are found.
type laxMechanism struct{ sasl.Client }

// unwrap returns the mechanism itself, and whether it gets an empty challenge for one that is not base64.
func unwrap(m sasl.Client) (_ sasl.Client, lax bool) {
	for {
		w, ok := m.(laxMechanism)
		if !ok {
			return m, lax
		}
		m, lax = w.Client, true
	}
}
