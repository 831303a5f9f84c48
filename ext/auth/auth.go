package auth

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Auth returns the extension AUTH (RFC 4954). The lists of package ehlo have it, except ehlo.Relay.
//
// A server advertises AUTH if the session can serve a mechanism, and the connection has TLS or the server's
// AllowInsecureAuth is set. It goes on to do so after the client has authenticated, since the keyword also announces
// the AUTH parameter of the MAIL command. The mechanisms are listed strongest first:
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
// A session may also implement [FilterSession], [AuthorizeSession], [PauseSession] and [OutcomeSession].
//
// The server answers a failed attempt one second after the client's last line at the earliest, unless a PauseSession
// chooses otherwise. The reply has the same text for every wrong name and every wrong password. The fourth failure on a
// connection closes it with 421.
//
// A client authenticates if its options have Credentials, such as [Password], [Token], [External] or [Anonymous]. It
// uses the first mechanism of the credentials that the server advertises. It tries another one only if the server does
// not know the mechanism (504), or a stronger one if the mechanism is too weak (534). The client fails with an
// [ext.AuthError] if it cannot authenticate. It sends no credentials in plaintext, or to a server whose certificate it
// has not verified, unless AllowPlaintextAuth or AllowUnverifiedAuth is set.
//
// [ReadSubmitter] and [AddSubmitter] are for the AUTH parameter of the MAIL command (RFC 4954 section 5).
func Auth() ext.Extension {
	return ext.Extension{
		Keyword:       "AUTH",
		Interfaces:    slices.Clone(interfaces),
		Authenticates: authenticates,
		Verbs: []proto.Verb{{
			Name: "AUTH", In: proto.Ready, Last: true, BeforeAuth: true, More: proto.Exchange, Grow: maxResponse,
		}},
		Mail: []ext.Param{{Key: "AUTH", MaxLength: 500, Check: checkSubmitter}},
		Advertise: func(conn ext.ServerConn) (string, bool) {
			if !isSafe(conn) {
				return "", false
			}
			names := mechanisms(conn)
			return strings.Join(names, " "), len(names) > 0
		},
		Serve:     serve,
		Negotiate: negotiate,
	}
}

// identities are the interfaces of sessions that can find out who a client is, and interfaces has all.
var (
	identities = []reflect.Type{
		reflect.TypeFor[PasswordSession](), reflect.TypeFor[SCRAMSession](), reflect.TypeFor[ClearPasswordSession](),
		reflect.TypeFor[TokenSession](), reflect.TypeFor[CertificateSession](), reflect.TypeFor[AnonymousSession](),
		reflect.TypeFor[MechanismSession](),
	}
	interfaces = slices.Concat(identities, []reflect.Type{
		reflect.TypeFor[AuthorizeSession](), reflect.TypeFor[FilterSession](), reflect.TypeFor[PauseSession](),
		reflect.TypeFor[OutcomeSession](),
	})
)

// authenticates returns why clients cannot authenticate to the session of x, or nil if they can.
func authenticates(x ext.ServerConn) error {
	var names []string
	for _, t := range identities {
		if !ext.Implements(x.Session(), t) {
			names = append(names, t.String())
		}
	}
	switch {
	case len(names) == len(identities):
		return fmt.Errorf("smtp: the session has none of the interfaces by which a client authenticates: "+
			"implement one of %s", strings.Join(names, ", "))
	case !isSafe(x) && x.TLSConfig() == nil:
		return errors.New("smtp: the connection is in plaintext and there is no TLS to be started: set " +
			"Options.TLSConfig, or AllowInsecureAuth")
	}
	return nil
}
