package auth

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/proto"
)

// Auth returns the extension AUTH (RFC 4954).
//
// A server offers it if there is something that the session can authenticate clients by, and only on connections that are
// protected by TLS unless its options allow otherwise. It goes on to do so once the client has authenticated, because the
// parameter AUTH of the MAIL command belongs to the keyword. The list has the strongest mechanism first:
//
//	mechanism                                  RFC         a session that is
//	its own                                                Mechanisms
//	EXTERNAL                                   4422        Certificates, if the client's has been verified
//	SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS       5802, 7677  SCRAMSession, under TLS
//	SCRAM-SHA-256, SCRAM-SHA-1                 5802, 7677  SCRAMSession
//	OAUTHBEARER, XOAUTH2                       7628        Tokens
//	CRAM-MD5                                   2195        ClearPasswordSession
//	PLAIN, LOGIN                               4616        Passwords
//	ANONYMOUS                                  4505        Guests
//
// A [FilterSession] takes mechanisms from it. An [AuthorizeSession] lets users act for others. An attempt that fails is
// answered a second after it was made at the earliest, unless the session is an [PauseSession], and always in the same
// words. The fourth to fail on a connection ends it.
//
// A client authenticates if its policy has credentials: a [Password], a [Token], [External] or [Anonymous]. It sends
// none on a connection that is in clear or whose peer is not verified, unless the policy allows it. Of the mechanisms
// in the credentials it uses the first that the server offers, and goes on to the next only if the server says that
// this one will not do; what is wrong with one password is wrong with it by any mechanism. Failure is an [ext.AuthError].
//
// [ReadSubmitter] reads the parameter AUTH of the MAIL command (RFC 4954 section 5), and [AddSubmitter] adds it.
func Auth() ext.Extension {
	return ext.Extension{
		Keyword: "AUTH",
		Verbs: []proto.Verb{{
			Name: "AUTH", In: proto.Ready, Last: true, BeforeAuth: true, More: proto.Exchange, Grow: maxResponse,
		}},
		Mail: []ext.Param{{Key: "AUTH", MaxLength: 500, Check: checkSubmitter}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			if !safe(x) {
				return "", false
			}
			names := mechanisms(x)
			return strings.Join(names, " "), len(names) > 0
		},
		Serve:     serveAuth,
		Negotiate: connectAuth,
	}
}

// A PasswordSession is a session whose users have names and passwords. It is all that PLAIN and LOGIN need.
type PasswordSession interface {
	// Authenticate returns nil if password is that of user. Neither is empty; both are UTF-8 without control
	// characters. For a name that does not exist as for a password that is wrong it returns [ErrCredentials], having
	// taken the same time, and the client is answered with 535. A *proto.Error of 4yz or 5yz is the reply, such as
	// 454 4.7.0 for a user who has to wait. With any other error the check itself has failed: it is logged, and the
	// client is told with 454 to try again.
	Authenticate(ctx context.Context, user, password string) error
}

// ErrCredentials means that there is no such user or that the password is another. Which of the two it was, nobody is
// to learn.
var ErrCredentials = errors.New("smtp: no such user, or not that password")

// SCRAMSession is a session that keeps for each user not a password but a [SCRAMSecret], which is what SCRAM needs
// (RFC 5802, RFC 7677): the password does not leave the client, and who steals what the server keeps cannot log in
// with it. The session can be a [PasswordSession] as well, by means of [SCRAMSecret.Matches].
type SCRAMSession interface {
	// SCRAM says how secrets are made here.
	SCRAM() SCRAMPolicy
	// SCRAMSecret returns that of user with that hash function. The name has been prepared with SASLprep (RFC 4013).
	// For a name that does not exist, or has no secret with that function, it returns [ErrCredentials] or the zero value, having
	// taken the same time; the client then gets a salt that does not change, and fails in the end. Other errors are treated as those of [PasswordSession].
	SCRAMSecret(ctx context.Context, user string, hash crypto.Hash) (SCRAMSecret, error)
}

// SCRAMPolicy is how the secrets of a session are made. Names that do not exist are treated as if theirs had been made
// like that too, so that nobody can tell them from those that do.
type SCRAMPolicy struct {
	// Hashes are the hash functions there are secrets for, of crypto.SHA256 and crypto.SHA1. Nil means the former.
	Hashes []crypto.Hash
	// Iterations is that of the secrets, from 4096 to 1000000. 0 means the one that [NewSCRAMSecret] uses for 0.
	Iterations int
	// SaltSize is the length of their salts in octets, from 1 to 1024. 0 means 16, as NewSCRAMSecret makes them.
	SaltSize int
	// Key is what the salts of names that do not exist are made from: 32 random octets or so that are the same for
	// all servers of a domain and never change. Nil means octets that are random for each process; whoever compares
	// the salts of two processes then knows which names exist.
	Key []byte
}

// ClearPasswordSession is a session that knows the passwords of its users in clear, which CRAM-MD5 needs (RFC 2195). That
// is a risk to all of them, for the sake of old devices that can do neither SCRAM nor TLS.
type ClearPasswordSession interface {
	// ClearPassword returns the password of user. For a name that does not exist it returns [ErrCredentials], having
	// taken the same time. Other errors are treated as those of [PasswordSession].
	ClearPassword(ctx context.Context, user string) (string, error)
}

// A TokenSession is a session whose clients have bearer tokens of OAuth 2.0 (RFC 6750) for the mechanisms OAUTHBEARER and
// XOAUTH2.
type TokenSession interface {
	// AuthenticateToken returns the name under which a client with that token is known from now on. User is the name
	// that the client gave; the token must entitle to be that user. It is empty if the client gave none, which
	// OAUTHBEARER allows. For a token that is no good it returns [ErrCredentials], or a [TokenError] that tells the
	// client more. Other errors are treated as those of [PasswordSession].
	AuthenticateToken(ctx context.Context, user, token string) (name string, err error)
}

// A CertificateSession is a session that knows clients by their certificates, for the mechanism EXTERNAL (RFC 4422
// appendix A). It is offered to clients whose certificate was verified, for which ClientAuth of the TLS configuration
// has to be tls.VerifyClientCertIfGiven or tls.RequireAndVerifyClientCert (RFC 8314 section 4.2).
type CertificateSession interface {
	// AuthenticateCertificate returns the name of the user to whom the certificate belongs, chain[0]; those that
	// vouch for it follow. For one that belongs to nobody it returns [ErrCredentials]. Other errors are treated as
	// those of [PasswordSession].
	AuthenticateCertificate(ctx context.Context, chain []*x509.Certificate) (user string, err error)
}

// A AnonymousSession is a session that lets anybody in by the mechanism ANONYMOUS (RFC 4505).
type AnonymousSession interface {
	// AuthenticateGuest returns the name under which guests are known, such as "anonymous". Trace is what the client
	// wants to be traced by, such as an address; it is a claim, and may be empty. It is UTF-8 of 255 characters at
	// most, none of them a control character. Errors are treated as those of [PasswordSession].
	AuthenticateGuest(ctx context.Context, trace string) (name string, err error)
}

// AuthorizeSession is a session in which some users may act for others, as RFC 4422 section 2 has it: a client proves to be
// one user and asks to be taken for another. Without it, that fails.
type AuthorizeSession interface {
	// Authorize returns nil if user, who has authenticated, may act as the user named by as, by which the client is
	// then known. Otherwise it returns [ErrCredentials]. Other errors are treated as those of [PasswordSession].
	Authorize(ctx context.Context, user, as string) error
}

// FilterSession is a session that does not want all the mechanisms that it could serve.
type FilterSession interface {
	// FilterMechanisms returns which of names are on offer, in the order it likes. It may modify the list, and may
	// decide by the state of the connection: one whose server has AllowInsecureAuth set, but which wants no passwords
	// in clear, leaves out PLAIN and LOGIN where there is no TLS.
	FilterMechanisms(names []string) []string
}

// PauseSession is a session that decides how long clients that fail to authenticate have to wait.
type PauseSession interface {
	// AuthPause returns how long after the client's last line the answer is sent at the earliest. Failures counts
	// those on the connection, with this one. Without it, it is a second: that slows down those who guess, and hides
	// whether it took long to find out that there is no such user, if finding out takes no longer. 0 is no pause.
	AuthPause(failures int) time.Duration
}

// A MechanismSession is a session that brings SASL mechanisms of its own. They come first in the list, and before those of the
// same name that this package has.
type MechanismSession interface {
	// SASLMechanisms returns the names of the mechanisms on offer, such as "GSSAPI".
	SASLMechanisms() []string
	// SASL returns the server side of the mechanism, one in the list, and a function that returns the name of the
	// authenticated user once it is done, which cannot be empty.
	//
	// The first call to Next has nil for a response, unless the client has sent one with the command. A mechanism in
	// which the server begins returns sasl.ErrUnexpectedClientResponse for one that is not nil. Another error of Next
	// means that the client failed to authenticate, and is answered with 535; a *proto.Error of 4yz or 5yz in it
	// is the reply instead. An error of SASL itself is logged and answered with 454.
	SASL(ctx context.Context, mechanism string) (server sasl.Server, identity func() string, err error)
}

// Submitter returns the parameter AUTH of a MAIL command: who submitted the message to begin with, or the null
// address if that is unknown. It is a claim; unless the session trusts the client to make it, it has to proceed as if
// it were the null address (RFC 4954 section 5).
func ReadSubmitter(p proto.Params) (a proto.Address, ok bool) {
	value, ok := p.Get("AUTH")
	if !ok {
		return proto.Address{}, false
	}
	a, err := parseSubmitter(value)
	return a, err == nil
}

func checkSubmitter(value string) error {
	_, err := parseSubmitter(value)
	return err
}

func parseSubmitter(value string) (proto.Address, error) {
	text, err := proto.DecodeXtext(value)
	if err == nil && text == "<>" {
		return proto.Address{}, nil
	}
	var a proto.Address
	if err == nil {
		a, err = proto.ParseAddress(text)
	}
	if err != nil {
		return proto.Address{}, errors.New("AUTH has to be a mailbox in xtext, or <>")
	}
	return a, nil
}

// AddSubmitter adds the parameter AUTH to those of a MAIL command: a is who submitted the message to begin with. A
// relay passes on what it was told by clients that it trusts, and for others the null address, which says that it is
// unknown (RFC 4954 section 5). The server has to offer AUTH; if it does not, the message is refused with a [ext.UnsupportedError]
// before a byte of it is sent.
func AddSubmitter(p proto.Params, a proto.Address) proto.Params {
	text := "<>"
	if !a.IsNull() {
		text = a.String()
	}
	return p.Set("AUTH", string(proto.AppendXtext(nil, text)))
}
