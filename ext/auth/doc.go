// Package auth is SMTP authentication (RFC 4954): the extension AUTH, what a server's session and a client need for it, and the
// SASL mechanisms.
//
// # On a client
//
// Give the client credentials, and it authenticates on each connection, once TLS is active:
//
//	opt := &client.Options{Credentials: auth.Password("alice", "secret")}
//
// [Password] uses the strongest mechanism that the server offers. [Token] is for OAuth 2.0, [External] for a client certificate and
// [Anonymous] for a guest. For any other mechanism return a go-sasl Client from a function of your own, of the type
// [ext.Credentials]. Failure is an [ext.AuthError].
//
// # On a server
//
// Give the session a method, and the server offers AUTH on connections with TLS. A session that can check a password:
//
//	func (s *session) Authenticate(ctx context.Context, user, password string) error {
//		if !s.users.Match(user, password) {
//			return auth.ErrCredentials
//		}
//		return nil
//	}
//
//	var _ auth.PasswordSession = (*session)(nil)
//
// The assertion in the last line is worth its ink: a method of the right name with another signature is no error to the
// compiler, and AUTH is not offered. The name that the client has proved is Identity of the server's Conn. To refuse mail without
// authentication, use the extensions of ehlo.Submission, or set RequireAuth in the server's options.
//
// These are the mechanisms and what the session has to be for the server to offer them, the strongest first:
//
//	mechanism                                  RFC         a session that is
//	its own                                                MechanismSession
//	EXTERNAL                                   4422        CertificateSession, if the client's certificate was verified
//	SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS       5802, 7677  SCRAMSession, under TLS
//	SCRAM-SHA-256, SCRAM-SHA-1                 5802, 7677  SCRAMSession
//	OAUTHBEARER, XOAUTH2                       7628        TokenSession
//	CRAM-MD5                                   2195        ClearPasswordSession
//	PLAIN, LOGIN                               4616        PasswordSession
//	ANONYMOUS                                  4505        AnonymousSession
//
// A session that is more than one of these offers the mechanisms of all. A [FilterSession] takes mechanisms away. An
// [AuthorizeSession] lets users act for others. A [PauseSession] decides how long a client that failed has to wait.
//
// # What it promises
//
// The server offers no mechanism in plaintext, SCRAM no more than PLAIN, unless AllowInsecureAuth is set: whoever listens to
// SCRAM can try passwords at leisure, and take over the session once it is authenticated.
//
// The server answers a failed attempt a second after the client's last line at the earliest, and always in the same words. The
// fourth failure on a connection ends it. The client learns only from [ErrCredentials] that a password is wrong: when the check
// itself fails, it is told to try again.
//
// The client sends credentials only to a server whose certificate it has verified, unless AllowInsecureAuth is set. It tries the next
// mechanism only if the server rejects one as unsuitable (504, 534). A wrong password is wrong with every mechanism.
//
// # Decisions
//
// AUTH has no switch. The server offers it if the session can authenticate clients and the connection is safe, so that it cannot be
// offered in vain.
//
// Authenticate returns an error rather than a bool since there are three outcomes: a database that is down must not tell a million
// clients that their passwords are wrong.
//
// The pause after a failure does not grow, since clients that guess use many connections. It is counted from the client's last
// line, so that it covers what the check took.
package auth
