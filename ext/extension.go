package ext

import (
	"context"
	"io"
	"time"

	"smtpkit.example/smtp/proto"
)

// An Extension is an SMTP service extension, as RFC 5321 section 2.2.2 says one has to be described. It is a value:
// a server or a client uses those in its options, and there is no registry. All fields but Keyword may be zero. The
// functions are shared by all sessions and must be safe for concurrent use.
type Extension struct {
	// Keyword is the EHLO keyword, in upper case. Without one the extension is never on offer. It is there for verbs
	// that cannot succeed, which a server answers otherwise than those it does not know (see [ehlo.Obsolete]), or for what
	// Guard, CheckMail and CheckRcpt refuse (see [ehlo.SubmissionPolicy]).
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
