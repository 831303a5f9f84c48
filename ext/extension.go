package ext

import (
	"context"
	"io"
	"reflect"
	"time"

	"smtpkit.example/smtp/proto"
)

// An Extension is an SMTP service extension: the list by which RFC 5321 section 2.2.2 defines one, as a struct. Add it
// to the Extensions of a server's or a client's options.
//
// All fields but Keyword may be zero. All connections share the functions, so each function must be safe for concurrent
// use. For one connection only one of them is called at a time.
type Extension struct {
	// Keyword is the EHLO keyword, in upper case. If empty, the extension is never advertised: it only refuses verbs (see
	// ehlo.Obsolete) or commands (see ehlo.SubmissionPolicy).
	Keyword string
	// Invalid is the error that server.New, client.Dial and NewSet return for this extension. A constructor sets it if its
	// arguments make no sense.
	Invalid error
	// Interfaces are those that the extension looks for in sessions by [As], such as reflect.TypeFor[Locator](). A server
	// looks for sessions that have a method of such an interface with another signature, and logs an error: without that,
	// the method would silently never be called.
	Interfaces []reflect.Type
	// Verbs are the commands that the extension adds.
	Verbs []proto.Verb
	// Mail and Rcpt are the parameters that the extension adds to the MAIL and RCPT commands.
	Mail, Rcpt []Param

	// StatusCodes says that replies carry enhanced status codes once the extension is advertised (RFC 2034).
	StatusCodes bool
	// Pipelining says that a client may send groups of commands once the extension is advertised (RFC 2920).
	Pipelining bool
	// Provides has the features that a message can need and that the extension provides once it is advertised. A client
	// refuses a message, before it sends a byte of it, if no advertised extension provides a feature that the message
	// needs.
	Provides Feature
	// Missing is the status code for a message that was not sent because the server does not advertise the extension; see
	// [UnsupportedError]. Zero stands for 5.3.3.
	Missing proto.Status
	// Role says how the extension relates to message submission. The default is AnyServer.
	Role Role
	// Requires are the keywords of extensions that this one builds on. NewSet returns an error if one of them is not in
	// the list. The extension counts as not advertised while one of them is not advertised.
	Requires []string
	// Chunk names the verb of Verbs that carries content in counted chunks. The arguments of that verb are the number of
	// octets and, for the final chunk, the word LAST (RFC 3030 section 2). A client uses it in place of DATA if the server
	// advertises the extension.
	Chunk string

	// Advertise returns the arguments of the keyword in the reply to EHLO. If ok is false, the extension is not advertised
	// in this session now. It is called at each EHLO, and for some commands between them. Nil means the bare keyword,
	// always.
	Advertise func(ServerConn) (args string, ok bool)
	// Guard may refuse any command, also one of another extension, before the server carries it out: its error is the
	// reply.
	Guard func(ctx context.Context, x ServerConn, v *proto.Verb, args string) error
	// CheckMail and CheckRcpt may refuse a MAIL or RCPT command with well-formed parameters before the session sees it.
	// They are called for every such command, whether or not it has a parameter of the extension.
	CheckMail func(ctx context.Context, x ServerConn, from proto.Address, p proto.Params) error
	CheckRcpt func(ctx context.Context, x ServerConn, to proto.Address, p proto.Params) error
	// RequiresAuth says that Guard refuses mail until the client has authenticated, whoever it is.
	RequiresAuth bool
	// Authenticates is for an extension whose Serve can authenticate clients. It returns nil if a client can authenticate
	// to the session of x, now or after STARTTLS, and otherwise an error that says what is missing. A server that requires
	// authentication needs an extension that returns nil; it logs the error for the first session of each type.
	Authenticates func(x ServerConn) error
	// Serve carries out one of Verbs on a server and returns the reply. The zero Reply stands for 250; any other has a
	// code of 2yz. An error refuses the command: a *proto.Error is the reply, and the server logs any other error and
	// answers 451.
	//
	// Serve is called whether or not the keyword is advertised, so that it can say why it is not.
	Serve func(ctx context.Context, x Command) (proto.Reply, error)
	// Fetch returns the content of a chunk that comes from elsewhere instead of following its command (RFC 4468). The
	// server calls it in place of Serve for those of Verbs that may be sent in proto.Chunks and have no Payload. An error
	// is the reply. The server reads the content to its end, or until the message is refused, and closes it. An error of
	// the reader refuses the message.
	Fetch func(ctx context.Context, x ServerConn, args string) (io.ReadCloser, error)

	// MinTimeout is the shortest time that a client waits for a reply to one of Verbs, even if its timeout for commands is
	// shorter.
	MinTimeout time.Duration
	// Negotiate does what has to be done before the first message, such as STARTTLS or AUTH. A client calls it after each
	// EHLO whose reply advertises the extension, in the order of the list. If it takes the connection over, the client
	// sends EHLO again and starts the round from the beginning. An error closes the connection, and client.Dial returns
	// it. Where the policy requires TLS, the client calls no Negotiate before TLS is in use but those of extensions with a
	// verb that leads to proto.Handover.
	Negotiate func(ctx context.Context, c Negotiation) error
	// Limits returns the limits that the server states. A client calls it after each EHLO whose reply advertises the
	// extension. The client keeps to the limits: it divides a message among several transactions, or several connections.
	Limits func(c ClientConn) ServerLimits
	// Prepare is called on a client for each message if the server advertises the extension. It may add parameters to the
	// envelope, or refuse the message by an error before a byte of it is sent. The client returns the error, in a
	// client.MessageError unless it has a status code of its own.
	Prepare func(c proto.Caps, e *Envelope) error
}

// As returns session as a T if it is one. Otherwise it looks at what session's method Unwrap() any returns, if there is
// one, and so on. Extensions use it to find the interface by which a session takes part.
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

// Implements reports whether As would find the interface t: whether session, or what it wraps, implements it.
func Implements(session any, t reflect.Type) bool {
	for session != nil {
		if reflect.TypeOf(session).Implements(t) {
			return true
		}
		u, ok := session.(interface{ Unwrap() any })
		if !ok {
			break
		}
		session = u.Unwrap()
	}
	return false
}
