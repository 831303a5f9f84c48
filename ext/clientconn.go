package ext

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/emersion/go-sasl"
	"smtpkit.example/smtp/proto"
)

// A Client is what the functions that send an extension's command take, such as ehlo.SendETRN. *client.Client
// implements it, and package fake has one for tests. It may get more methods.
type Client interface {
	// Caps returns what the server advertised in its last reply to EHLO.
	Caps() proto.Caps
	// Do sends a command and returns the reply, whatever its code; see ClientConn.
	Do(ctx context.Context, verb, args string) (proto.Reply, error)
	// Converse calls f with the client's connection, for a command that is more than one line and its reply. Nobody else
	// can use the client meanwhile. The connection must not be used after f has returned. Converse returns the error of f.
	Converse(ctx context.Context, f func(ctx context.Context, c ClientConn) error) error
}

// A ClientConn is a client's connection between messages, lent to an extension. Package client implements it, and
// package fake has one for tests. It may get more methods.
type ClientConn interface {
	// Caps returns what the server advertised in its last reply to EHLO.
	Caps() proto.Caps
	// Policy returns what the user of the client has asked for.
	Policy() Policy
	// TLS returns the state of the TLS connection, or nil if the connection is in plaintext.
	TLS() *tls.ConnectionState
	// Verified reports whether the server's certificate was verified.
	Verified() bool
	// Identity returns the name that the client has authenticated as, or "".
	Identity() string
	// Do sends a command and returns the reply, whatever its code; proto.Reply.Err makes an error of a refusal. If the
	// verb belongs to an extension that the server does not advertise, Do sends nothing and returns an [UnsupportedError].
	// Any other error means that there was no reply.
	Do(ctx context.Context, verb, args string) (proto.Reply, error)
	// Line sends a line that answers an intermediate reply, such as 334, and returns the next reply.
	Line(ctx context.Context, line string) (proto.Reply, error)
	// Handover calls take with the connection, so that another protocol such as TLS can take over. It is called after a
	// command that succeeded and whose verb has [proto.Handover] as OK. The connection yields first the octets that were
	// received after the reply. The client goes on with the connection that take returns, and sends EHLO first. If take
	// fails or returns nil, the client is closed.
	Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error
}

// A Negotiation is the connection that Extension.Negotiate gets. Only there can an extension say that the client has
// authenticated.
type Negotiation interface {
	ClientConn
	// Secret hides from the trace the arguments and lines that are sent until the reply that ends the exchange. Of a
	// command that begins an exchange the mechanism is shown; see [proto.Verb.Redact].
	Secret()
	// Authenticated records identity as the name under which the client has authenticated.
	Authenticated(identity string)
}

// A Policy is what the user of a client has asked for in client.Options.
type Policy struct {
	TLS       TLSMode
	TLSConfig *tls.Config // never nil; ServerName is set
	// Credentials returns the mechanisms to authenticate with. Nil means not to authenticate. Package auth has ready ones,
	// such as auth.Password.
	Credentials Credentials
	// AllowPlaintextAuth permits credentials on a connection that has no TLS.
	AllowPlaintextAuth bool
	// AllowUnverifiedAuth permits credentials over TLS to a server whose certificate was not verified.
	AllowUnverifiedAuth bool
}

// A TLSMode says when a client uses TLS.
type TLSMode uint8

// The modes.
const (
	// TLSRequired starts TLS with STARTTLS, before it sends anything else of value. It fails if the server does not
	// advertise STARTTLS or if the server's certificate does not verify. It is the default.
	TLSRequired TLSMode = iota
	// TLSImplicit speaks TLS from the first byte, as on port 465 (RFC 8314 section 3.3).
	TLSImplicit
	// TLSOpportunistic uses TLS with any certificate if the server advertises STARTTLS, and plaintext if it does not. It
	// is for delivery to mail exchangers. It protects only against eavesdroppers, not against somebody who poses as the
	// server (RFC 7435).
	TLSOpportunistic
	// TLSInsecureNone sends everything in plaintext.
	TLSInsecureNone
	// TLSIfOffered starts TLS if the server advertises STARTTLS, and fails then if the handshake does or the certificate
	// does not verify. If the server does not advertise it, everything is sent in plaintext. Somebody in between can
	// pretend that the server has no TLS. It is for servers of one's own network, of which some have TLS.
	TLSIfOffered
)

// Credentials returns the SASL mechanisms to authenticate with, in order of preference. A client calls it once for each
// connection, when the server has advertised AUTH and the policy permits credentials on the connection. So it can fetch
// a fresh token. An error ends the attempt. Several clients may call it concurrently if they share it.
//
// Any sasl.Client will do. A mechanism may have more methods:
//
//   - Identity() string returns the name to record for the connection. The default is the name of the mechanism.
//   - Done() bool is called when the server reports success. If it returns false, the attempt has failed: a mechanism
//     such as SCRAM has not yet verified the server.
//   - Succeeded(proto.Reply) error is called after that, with the reply. If it returns an error, the attempt has
//     failed.
//   - Explain(error) error is called with the server's refusal. It returns the error with what the mechanism knows of
//     the reason.
type Credentials func(ctx context.Context, c ClientConn) ([]sasl.Client, error)
