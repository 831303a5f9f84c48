package ext

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/emersion/go-sasl"
	"smtpkit.example/smtp/proto"
)

// A TLSMode says when a client uses TLS.
type TLSMode uint8

// The modes.
const (
	// TLSRequired starts TLS with STARTTLS and sends nothing in clear beyond that; it fails if the server does not
	// offer it or if its certificate does not verify. It is the default.
	TLSRequired TLSMode = iota
	// TLSImplicit speaks TLS from the first byte, as on port 465 (RFC 8314 section 3.3).
	TLSImplicit
	// TLSOpportunistic uses TLS if it is offered, whatever the certificate, and does without if it is not. It is for
	// delivery to mail exchangers, and protects from eavesdroppers alone (RFC 7435).
	TLSOpportunistic
	// TLSInsecureNone sends everything in clear.
	TLSInsecureNone
)

// A Policy is what the user of a client has asked for.
type Policy struct {
	TLS       TLSMode
	TLSConfig *tls.Config // never nil; ServerName is set
	// Credentials returns the mechanisms to authenticate with; nil means not to authenticate. See [auth.Password].
	Credentials Credentials
	// AllowInsecureAuth permits to send credentials on a connection that is in clear or not verified.
	AllowInsecureAuth bool
}

// A Client is what the functions that send an extension's command take, such as ehlo.SendETRN. It is implemented by
// *client.Client, and may get more methods.
type Client interface {
	// Caps returns what the server offered in its last reply to EHLO.
	Caps() proto.Caps
	// Do sends a command and returns the reply, whatever its code; see ClientConn.
	Do(ctx context.Context, verb, args string) (proto.Reply, error)
	// Converse calls f with the client's connection, for a command that is more than one line and its reply. No other call
	// can use the client meanwhile. The connection must not be used after f has returned. Converse returns the error of f.
	Converse(ctx context.Context, f func(ctx context.Context, c ClientConn) error) error
}

// A ClientConn is a connection to a server between messages, in the hands of an extension. It is implemented by package
// client, and may get more methods.
type ClientConn interface {
	// Caps returns what the server offered in its last reply to EHLO.
	Caps() proto.Caps
	// Policy returns what the user of the client has asked for.
	Policy() Policy
	// TLS returns the state of the TLS connection, nil on one in plaintext.
	TLS() *tls.ConnectionState
	// Verified reports whether the server's certificate was verified.
	Verified() bool
	// Identity returns the name that the client has authenticated as, or "".
	Identity() string
	// Do sends a command and returns the reply, whatever its code. The error is not nil if there was no reply, or if the verb
	// belongs to an extension that is not on offer; then nothing was sent.
	Do(ctx context.Context, verb, args string) (proto.Reply, error)
	// Line sends a line of an exchange and returns the reply.
	Line(ctx context.Context, line string) (proto.Reply, error)
	// Handover calls take with the connection after a command whose success leads to [proto.Handover]. Take reads first what
	// was received after the last reply. The client goes on with the connection that take returns, beginning with EHLO.
	// An error of take, or nil for a connection, closes the client.
	Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error
}

// A Negotiation is the connection that an extension's Negotiate is given. Only there can an extension say that the client
// has authenticated.
type Negotiation interface {
	ClientConn
	// Secret makes the trace leave out arguments and lines sent until the reply that ends the exchange.
	Secret()
	// Authenticated records the name that the client has authenticated as.
	Authenticated(identity string)
}

// Credentials returns the SASL mechanisms that a client is to authenticate with, in order of preference. It is called
// once for each connection, when the server has offered AUTH and the connection is fit for credentials, so that a
// token can be fetched afresh; an error ends the attempt.
//
// Any sasl.Client will do. More methods are used if it has them. Identity() string is the name recorded for the
// connection, otherwise that of the mechanism. Done() bool is asked when the server reports success: a mechanism that
// has yet to verify the server, as SCRAM does, returns false and the attempt has failed. Explain(error) error is given
// the server's refusal, and returns it with what the mechanism knows of the reason.
type Credentials func(ctx context.Context, d ClientConn) ([]sasl.Client, error)
