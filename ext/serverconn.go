package ext

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"

	"smtpkit.example/smtp/proto"
)

// ServerConn is what an extension can learn of a session on a server. It is implemented by *server.Conn.
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
	// LocalAddr and RemoteAddr return the addresses of the server's end and of the client. They are what a proxy has
	// told by Restart if it has.
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	// PeerAddr returns the address of whoever is at the other end of the connection itself, a proxy or the client, as the
	// listener has it: one that reads the PROXY protocol has the address of the client, if the proxy tells it.
	PeerAddr() net.Addr
	// Origin returns what the last Restart was given, nil if there was none. What the client said in a session that is over is
	// no longer part of it. It must not be modified.
	Origin() *Origin
	// TLS returns the state of the TLS connection, nil on one in clear.
	TLS() *tls.ConnectionState
	// OwnCertificates returns the certificates of the server one of which the client has been shown: one as a rule, more
	// or none if the session of TLS was resumed, none on a connection in clear.
	OwnCertificates() []*x509.Certificate
	// TLSConfig returns the configuration with which TLS can be started, or nil.
	TLSConfig() *tls.Config
	// AllowInsecureAuth reports whether the operator permits passwords on connections in clear.
	AllowInsecureAuth() bool
	// Identity returns the name that the client has authenticated as, or "".
	Identity() string
	// MaxSize returns the size in octets above which messages are refused, 0 if there is no such limit.
	MaxSize() int64
	// MaxRcpts returns the number of recipients accepted in a transaction.
	MaxRcpts() int
	// State returns where the session stands.
	State() proto.State
	// MailParams returns the parameters of the open transaction's MAIL command.
	MailParams() proto.Params
}

// A Command is a command that an extension serves, and what it can do to answer it.
type Command interface {
	ServerConn
	// Verb returns the row of the command.
	Verb() *proto.Verb
	// Args returns what followed the verb and a space.
	Args() string
	// Challenge sends an intermediate reply and returns the line with which the client answers it. It is for verbs
	// whose More is [proto.Exchange]. The line may be longer than a command; one that is too long is
	// answered by the server, and Challenge returns the error to be returned from Serve.
	Challenge(ctx context.Context, r proto.Reply) (line string, err error)
	// Handover sends r, whose verb must lead to [proto.Handover], and calls take with the connection, which reads
	// first what was received after the command. If take returns a connection, the session begins anew on it, in the
	// state after a greeting, with a new session from the backend. If it returns nil, the server closes
	// the connection without a word.
	Handover(ctx context.Context, r proto.Reply, take func(context.Context, net.Conn) (net.Conn, error)) error
	// Restart makes the session begin anew as one with another client, the one that o describes: all that was said is
	// forgotten, and the backend makes a new session, on the same connection. The reply is the greeting, and the error is the
	// backend's refusal; both are to be returned from Serve. The verb's success must lead to [proto.Hello].
	Restart(ctx context.Context, o *Origin) (proto.Reply, error)
	// Surrender sends r, whose verb must lead to [proto.Handover], and calls serve with the connection, which reads
	// first what was received after the command. Serve may take as long as it likes: no timeout but that of the whole
	// session applies, and while the server is shutting down it is waited for. Its context ends when the server is
	// closed. When it returns, the connection is closed without a word, and its error is logged.
	Surrender(ctx context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error
	// Authenticated records the name that the client has proved to be entitled to.
	Authenticated(identity string)
	// AuthFailed counts an attempt to authenticate that has failed and returns how many have on this connection, over
	// hand-overs too.
	AuthFailed() int
	// PermitUTF8 lets the reply to this command carry UTF-8, which the client has asked for (RFC 6531
	// section 3.7.4.2).
	PermitUTF8()
	// Table returns the commands that the server knows.
	Table() *proto.Table
	// Serves reports whether v is a command of the protocol itself, or of an extension that is on offer to the session now,
	// or would be if the client asked.
	Serves(v *proto.Verb) bool
}
