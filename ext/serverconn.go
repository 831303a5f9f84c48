package ext

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"

	"smtpkit.example/smtp/proto"
)

// ServerConn is what an extension can learn of a connection to a server. *server.Conn implements it, and package fake
// has one for tests. It may get more methods. Its methods must not be called after the function that got it has
// returned.
type ServerConn interface {
	// Session returns the session that the backend made; see [As].
	Session() any
	// Protocol returns SMTP or LMTP.
	Protocol() proto.Protocol
	// Hostname returns the name of the server.
	Hostname() string
	// Hello returns the argument of the client's EHLO, HELO or LHLO, or "".
	Hello() string
	// Extended reports whether the client has introduced itself with EHLO or LHLO.
	Extended() bool
	// LocalAddr and RemoteAddr return the addresses of the server's end and of the client. If Restart was given addresses,
	// they return those.
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	// PeerAddr returns the remote address of the connection itself: that of a proxy if there is one. A listener that reads
	// the PROXY protocol puts the client's address there, if the proxy sends it.
	PeerAddr() net.Addr
	// Origin returns what the last Restart was given, or nil. After a hand-over, Protocol, Hello and Login are empty in
	// it. It must not be modified.
	Origin() *Origin
	// TLS returns the state of the TLS connection, or nil if the connection is in plaintext.
	TLS() *tls.ConnectionState
	// OwnCertificates returns the server's certificates of which the client has seen one. Normally there is one. If a TLS
	// session was resumed there may be several, or none. In plaintext there is none.
	OwnCertificates() []*x509.Certificate
	// TLSConfig returns the configuration to start TLS with, or nil if the server has none.
	TLSConfig() *tls.Config
	// AllowInsecureAuth reports whether the operator permits passwords on plaintext connections.
	AllowInsecureAuth() bool
	// Identity returns the name that the client has authenticated as, or "".
	Identity() string
	// MaxSize returns the maximum size of a message in octets, or 0 if there is none.
	MaxSize() int64
	// MaxRcpts returns the maximum number of recipients in a transaction.
	MaxRcpts() int
	// MaxMails returns the maximum number of MAIL commands in a session, or 0 if there is none.
	MaxMails() int
	// State returns the state of the session.
	State() proto.State
	// MailParams returns the parameters of the MAIL command that began the transaction, or nil outside of one. They must
	// not be modified.
	MailParams() proto.Params
}

// A Command is a command that an extension's Serve carries out, with the ways to answer it other than by one reply.
// Package server implements it, and package fake has one for tests. It may get more methods. Its methods must not be
// called after Serve has returned.
type Command interface {
	ServerConn
	// Verb returns the row of the command's verb.
	Verb() *proto.Verb
	// Args returns the arguments: the text after the verb and a space.
	Args() string
	// Challenge sends the intermediate reply r and returns the line by which the client answers. It is for verbs whose
	// More is [proto.Exchange], and may be called several times. The line may be longer than a command. If there is no
	// line, Challenge returns an error, which Serve must return.
	Challenge(ctx context.Context, r proto.Reply) (line string, err error)
	// Handover sends r and calls take with the connection, so that another protocol such as TLS can take over. The verb's
	// OK must be [proto.Handover]. The connection yields first the octets that were received after the command.
	//
	// Take returns the connection on which SMTP goes on, such as a *tls.Conn. The client then has to send EHLO, and the
	// backend makes a new session; nothing from before is kept. If take fails or returns nil, the server closes the
	// connection without another reply. Serve returns the error of Handover, with a zero Reply.
	Handover(ctx context.Context, r proto.Reply, take func(context.Context, net.Conn) (net.Conn, error)) error
	// Restart begins a new session on the same connection, with the client that o describes: the server forgets everything
	// from before, and the backend makes a new session. It is for a proxy that names the client behind it (XCLIENT). The
	// verb's OK must be [proto.Hello]. Restart returns the greeting, or the backend's refusal as an error. Serve returns
	// both.
	Restart(ctx context.Context, o *Origin) (proto.Reply, error)
	// Surrender sends r and gives the connection away for good, as ATRN does. The verb's OK must be [proto.Handover]. The
	// connection yields first the octets that were received after the command.
	//
	// Surrender calls serve, and no timeout but that of the whole session applies. Server.Shutdown waits for serve; ctx
	// ends when the server is closed. After serve has returned, the server closes the connection without another reply,
	// and logs the error.
	Surrender(ctx context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error
	// AuthOutcome records how an attempt to authenticate ended: every attempt, and once, as soon as it is decided. If
	// o.Err is nil, the client has the name o.Identity from now on, which must not be empty.
	//
	// It returns how many attempts of this connection were denied, including those before a hand-over. If last is true,
	// they are too many, here or from the network of the client: then Serve has to return an error with the code 421.
	AuthOutcome(o AuthOutcome) (denied int, last bool)
	// PermitUTF8 lets the reply to this command carry UTF-8. It is for commands by which the client can ask for that (RFC
	// 6531 section 3.7.4.2).
	PermitUTF8()
	// Table returns the commands that the server knows.
	Table() *proto.Table
	// Serves reports whether v is a command of the protocol itself, or of an extension that an EHLO now would advertise.
	Serves(v *proto.Verb) bool
}
