// Package auth is SMTP authentication (RFC 4954), for both sides: credentials for a client, interfaces for a server's
// session, the SASL mechanisms, and the extension AUTH, which is among the default extensions.
//
// # Authenticate a client
//
// Give the client credentials. It authenticates on each connection, once TLS is active:
//
//	opt := &client.Options{Credentials: auth.Password("alice", "secret")}
//
// There are credentials of four kinds: [Password], [Token] for OAuth 2.0, [External] for a client certificate, and
// [Anonymous] for a guest. Each uses the strongest of its mechanisms that the server advertises. Name mechanisms to
// allow only those:
//
//	auth.Password("alice", "secret", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
//
// If authentication fails, so does connecting, with an [ext.AuthError]. The method Identity of the client then tells
// who it is logged in as.
//
// # Use Gmail or Microsoft 365
//
// Both want OAuth 2.0: a [Token], whose source returns the access token. With golang.org/x/oauth2 a TokenSource gets a
// new one when the old one has expired:
//
//	source := func(context.Context) (string, error) {
//		t, err := tokens.Token() // tokens is an oauth2.TokenSource
//		if err != nil {
//			return "", err
//		}
//		return t.AccessToken, nil
//	}
//	opt := &client.Options{Credentials: auth.Token("alice@example.com", source)}
//
// The user is the email address of the account. Ask the provider for the scope https://mail.google.com/ for Gmail, and
// https://outlook.office.com/SMTP.Send for Microsoft 365. If the provider refuses the token, the error wraps a
// [TokenError]. A Gmail account with an app password can use [Password] too.
//
// # Check passwords on a server
//
// Give the session a method Authenticate, and the server advertises PLAIN and LOGIN on connections with TLS:
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
// Keep the last line. Without it, a method with a wrong signature compiles, and the server does not advertise AUTH. It
// then logs an error for the first session, which has both signatures.
//
// Any password hash will do. A [SCRAMSecret] is one that this package brings, and its method Matches checks a password.
//
// # Offer SCRAM
//
// A session that stores SCRAMSecrets can implement [SCRAMSession]. The password then never leaves the client. Make the
// secrets with [NewSCRAMSecret], and implement [PasswordSession] too, for clients that have only PLAIN or LOGIN. The
// example of NewSCRAMSecret has both.
//
// # Which mechanisms a server advertises
//
// The session decides by the interfaces that it implements. These are the mechanisms, strongest first:
//
//	mechanism                                  RFC         the session implements
//	its own                                                MechanismSession
//	EXTERNAL                                   4422        CertificateSession, and the client's certificate was verified
//	SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS       5802, 7677  SCRAMSession, under TLS
//	SCRAM-SHA-256, SCRAM-SHA-1                 5802, 7677  SCRAMSession
//	OAUTHBEARER, XOAUTH2                       7628        TokenSession
//	CRAM-MD5                                   2195        ClearPasswordSession
//	PLAIN, LOGIN                               4616        PasswordSession
//	ANONYMOUS                                  4505        AnonymousSession
//
// A session that implements several of these offers all their mechanisms. A [FilterSession] removes some.
//
// # Why is AUTH not advertised?
//
//   - The connection has no TLS, and the server's option AllowInsecureAuth is not set.
//   - The session implements none of the interfaces above. A compile-time assertion tells, as above, and so does the
//     server's log if a signature is wrong. A session that wraps another one needs a method Unwrap, by which [ext.As]
//     finds the inner session.
//   - The server's extensions lack [Auth], as ehlo.Relay does.
//   - A FilterSession removed all mechanisms.
//
// # Require authentication
//
// Set the server's option RequireAuth, or use the extensions of ehlo.Submission. Until the client has authenticated,
// its mail is then refused with 530. If nobody can authenticate, server.New returns an error, or the server logs one
// for the first session.
//
// # Who is logged in
//
// The method Identity of the server's Conn returns the name, or "" before authentication. In a function given to
// server.MessageFunc, it is m.Conn.Identity(). Which addresses the user may send from is another question: see
// ehlo.SubmissionSession.
//
// # Hear of every attempt
//
// The server logs each attempt to authenticate, with the mechanism, the user and the reason if it failed. It also calls
// the function Authenticated of its Trace. A session that is an [OutcomeSession] hears of them too, as one that writes
// a log for fail2ban:
//
//	func (s *session) AuthOutcome(ctx context.Context, o ext.AuthOutcome) {
//		if o.Denied {
//			s.log.Warn("login failed", "user", o.User, "client", s.conn.RemoteAddr())
//		}
//	}
//
// No outcome has a password in it. The name of a user whose attempt failed is what the client claims.
//
// # After a failure
//
// The server answers a failed attempt one second after the client's last line at the earliest; a [PauseSession] changes
// that. The reply is 535, with the same text for every wrong name and every wrong password. The fourth failure on a
// connection closes it with 421.
//
// If the session returns an error other than [ErrCredentials], the check itself failed. The server logs it as an error
// and answers 454, try again later. Such a failure does not count. A session that returns a *proto.Error chooses the
// reply.
//
// A client does not try again: a server counts failures, and two for one attempt lock users out. If the server answers
// AUTH with 504, it does not know the mechanism, and the client tries the next one. If the mechanism is too weak (534,
// or 504 with the status 5.7.9), the client tries a stronger one, if the credentials have one and the server advertises
// it. It does not take what it does not know for stronger. So after "534 5.7.9 Application-specific password required"
// to PLAIN, the same password is not sent by LOGIN.
//
// # Plaintext connections
//
// Without TLS, a server advertises no mechanism, and a client sends no credentials. A client also sends none to a
// server whose certificate it has not verified. AllowInsecureAuth of the server, and AllowPlaintextAuth and
// AllowUnverifiedAuth of the client, change that. They do so for every mechanism: an eavesdropper on SCRAM can try
// passwords offline, and take over the session once it is authenticated.
//
// # Authorization identity
//
// SASL lets a client authenticate as one user and act for another, the authorization identity. On a server that works
// if the session is an [AuthorizeSession]; otherwise it fails with 535. A client sends one with [PasswordAs] or
// [External]:
//
//	opt.Credentials = auth.PasswordAs("shared", "alice", "secret")
//
// # Add a mechanism
//
// On a client, write a function of the type [ext.Credentials] that returns any sasl.Client of
// github.com/emersion/go-sasl. An Auth of net/smtp becomes credentials by netsmtp.Credentials. If the server's
// challenges are not base64, as with some NTLM servers, wrap the function in [LaxChallenges]. On a server, implement
// [MechanismSession], which returns a sasl.Server.
//
// # Decisions
//
// There is no option that switches AUTH on. The server advertises it if the session can authenticate clients and the
// connection is safe, so it is never advertised in vain.
//
// Authenticate returns an error, not a bool, since there are three outcomes. A database that is down must not tell a
// million clients that their passwords are wrong.
//
// The pause after a failure does not grow, since attackers who guess use many connections. It counts from the client's
// last line, so that it hides how long the check took.
package auth
