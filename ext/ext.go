package ext

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"time"

	"smtpkit.example/smtp/proto"
)

// An Extension is an SMTP service extension, as RFC 5321 section 2.2.2 says one has to be described. It is a value:
// a server or a client uses those in its options, and there is no registry. All fields but Keyword may be zero. The
// functions are shared by all sessions and must be safe for concurrent use.
type Extension struct {
	// Keyword is the EHLO keyword, in upper case. Without one the extension is never on offer. It is there for verbs
	// that cannot succeed, which a server answers otherwise than those it does not know (see [Obsolete]), or for what
	// Guard, CheckMail and CheckRcpt refuse (see [SubmissionPolicy]).
	Keyword string
	// Invalid is why the extension cannot be used, if what its constructor was given makes no sense. It is the error of
	// whoever is asked to use it.
	Invalid error
	// Verbs are the commands it adds.
	Verbs []proto.Verb
	// Mail and Rcpt are the parameters it adds to the MAIL and RCPT commands.
	Mail, Rcpt []Param

	// Status says that replies carry enhanced status codes once it is offered (RFC 2034).
	StatusCodes bool
	// Groups says that a client may send groups of commands once it is offered (RFC 2920).
	Pipelining bool
	// Meets is what an envelope can need that the extension provides for once it is offered. A client refuses a
	// message with a need that nothing offered meets, before it sends a byte of it.
	Provides Feature
	// Missing is the status code to report to the sender of a message that no server took because the extension was not on
	// offer; see [UnsupportedError]. Zero stands for 5.3.3.
	Missing proto.Status
	// Role says what the extension has to do with message submission. A server refuses to use it out of place.
	Role Role
	// Requires are the keywords of extensions that this one builds on. It is an error to use it without them, and it
	// is not on offer when one of them is not.
	Requires []string
	// Chunk is the verb of Verbs that carries content in counted chunks: its arguments are the number of octets,
	// and for the final chunk the word LAST (RFC 3030 section 2). A client that is offered the extension uses it
	// in place of DATA.
	Chunk string

	// Fetch returns the content of a chunk that does not follow its command but comes from elsewhere. It is called
	// in place of Serve for those of Verbs that may be sent in proto.Chunks and have no Payload (RFC 4468); an error
	// is the reply. The content is read to its end, or until the message is refused, and closed. An error of the
	// reader refuses the message.
	Fetch func(ctx context.Context, x ServerConn, args string) (io.ReadCloser, error)

	// Advertise returns the arguments of the keyword in the reply to EHLO; ok is false if the extension is not on
	// offer to this session now. It is asked anew at each EHLO. Nil means the bare keyword, always.
	Advertise func(ServerConn) (args string, ok bool)
	// Guard may refuse any command, its own or another's, before it is carried out: its error is the reply.
	Guard func(ctx context.Context, x ServerConn, v *proto.Verb, args string) error
	// CheckMail and CheckRcpt may refuse a MAIL or RCPT command whose parameters are well-formed, before the session
	// sees it. They are called whether or not one of the extension's own parameters is present.
	CheckMail func(ctx context.Context, x ServerConn, from proto.Address, p proto.Params) error
	CheckRcpt func(ctx context.Context, x ServerConn, to proto.Address, p proto.Params) error
	// Serve carries out one of Verbs on a server and returns the reply: the zero Reply is 250, any other has a code of 2yz. An
	// error refuses the command: a *proto.Error is the reply, and any other error is logged and answered with 451. Serve is
	// called whether or not the keyword is on offer, so that it can say why it is not.
	Serve func(ctx context.Context, x Command) (proto.Reply, error)

	// Patience is how long a client waits at least for the replies to Verbs, should its timeout for commands be shorter.
	MinTimeout time.Duration
	// Connect is called on a client after each EHLO whose reply offers the extension, in the order of the list. It
	// may carry on a dialogue, say for TLS or authentication. If it takes the wire over, EHLO is sent again and
	// the round begins anew.
	Negotiate func(ctx context.Context, c Negotiation) error
	// Bound is called on a client after each EHLO whose reply offers the extension. It returns what the server says it
	// takes, and the client keeps to that: it sends a message in several transactions, or over several connections.
	Limits func(c ClientConn) ServerLimits
	// Prepare is called on a client for each message when the extension is on offer. It may add parameters to the
	// envelope, or refuse the message before a byte of it is sent.
	Prepare func(c proto.Caps, e *Envelope) error
}

// A Role says what an extension has to do with message submission (RFC 6409). It matters to servers alone: which
// extensions a server of either kind must not offer is known before it has a client; see [Set.CheckServer].
type Role uint8

// The roles.
const (
	AnyServer       Role = iota // it is for submission and for relay
	MakesSubmission             // it makes a server one of submission: a [SubmissionPolicy]
	SubmissionOnly              // no other server may offer it, nor this one on port 25
	NeverSubmission             // a submission server must not offer it
)

// A Param describes a parameter of MAIL or RCPT (RFC 5321 section 4.1.2). Two extensions may describe the same Key if
// both have Values; the parameter then takes the values of both.
type Param struct {
	Key string // in upper case
	// Length is the number of octets the parameter may add to the command line, the space before it included.
	MaxLength int
	// Flag says that the parameter takes no value; without it, one is required unless Optional is set.
	Flag, Optional bool
	// Instead is the Key of a parameter, described before, that this one can stand in place of. Both together are
	// answered with 501 5.5.4, and the command line has room for the longer one.
	ConflictsWith string
	// Values are the values it can have, in upper case; they are compared without regard to case. Nil means that
	// Check decides.
	Values []string
	// Check returns an error if value is malformed; it is answered with 501 5.5.4 and its text. If it is a *proto.Error
	// with a Status of class 5, that is used in place of 5.5.4. Nil accepts all. It need not refuse what no parameter can
	// have for a value, such as "" or "a=b" (RFC 5321 section 4.1.2): a command with that is refused whatever Check says.
	Check func(value string) error
	// UTF8 says that the parameter permits UTF-8 in the addresses of the transaction and in replies to it
	// (RFC 6531 section 3.4).
	UTF8 bool
	// Split says that a parameter of MAIL asks for an outcome for each recipient: the server may answer the content with
	// 353, one reply for each, and one for all.
	PerRecipient bool
	// Binary is the value that declares content to be binary: CR and LF are octets like any other, and only chunks
	// can carry it (RFC 3030 section 3).
	Binary string
}

// A Feature is something that a message needs of the way it is sent. Features are bits and can be combined.
type Feature uint8

// The needs of a message.
const (
	EightBit Feature = 1 << iota // the content has octets above 127 (RFC 6152)
	Binary                       // the content is not lines of text (RFC 3030 section 3)
	UTF8                         // an address or a header field has UTF-8 in it (RFC 6531 section 3)
)

// An Envelope is a message as a client is about to send it.
type Envelope struct {
	From  proto.Address
	Mail  proto.Params // parameters of the MAIL command
	To    []proto.Recipient
	Size  int64 // of the content as it will be transmitted, without dot-stuffing; -1 if unknown (RFC 1870 section 6)
	Needs Feature
	// Verified says that the connection has TLS and that the server's certificate was verified.
	Verified bool
}

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
	// Credentials returns the mechanisms to authenticate with; nil means not to authenticate. See [Password].
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

// As finds a T in session: session itself, or what it Unwraps to. Extensions use it to find the interface by which a
// session takes part.
func As[T any](session any) (T, bool) {
	for session != nil {
		if t, ok := session.(T); ok {
			return t, true
		}
		u, ok := session.(interface{ Unwrap() any })
		if !ok {
			break
		}
		session = u.Unwrap()
	}
	var zero T
	return zero, false
}
