package server

import (
	"context"
	"errors"
	"io"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Backend makes the sessions of a server.
type Backend interface {
	// NewSession returns the session that takes the mail which arrives over c. It is called before the client is
	// greeted, and again when the connection begins anew, as when TLS was started. A *proto.Error refuses the client: it is
	// the greeting (554 to say that there is no mail service here, RFC 5321 section 3.1), after which only QUIT is
	// accepted. Any other error is logged, and the client is told 421 to come again later.
	NewSession(ctx context.Context, c *Conn) (Session, error)
}

// BackendFunc is a function as a Backend.
type BackendFunc func(ctx context.Context, c *Conn) (Session, error)

// NewSession calls f.
func (f BackendFunc) NewSession(ctx context.Context, c *Conn) (Session, error) { return f(ctx, c) }

// A Session takes mail from one client. The server never calls its methods concurrently.
//
// The error that a method returns is the reply. Nil accepts. A *proto.Error, wrapped or not, is sent as it is: one
// with a code of 4yz or 5yz refuses, one with 2yz accepts with a text of the session's choice; see [Accepted]. Any
// other error is logged, and the client is told 451 4.3.0 without the error's text. A reply of 421 ends the
// connection.
//
// The context ends when the client hangs up, be it in its own direction alone, when time is up, and when the server is
// closed; [context.Cause] tells which: io.ErrUnexpectedEOF, os.ErrDeadlineExceeded or [ErrServerClosed].
//
// A session can have more methods, which are found on it or on what its Unwrap() any returns: see [Resetter],
// [RecipientData], [io.Closer], which is called once at the end, and what the extensions look for.
type Session interface {
	// Mail begins a transaction. The address is zero for the null reverse-path. The parameters are well-formed and
	// belong to extensions that were on offer; they must not be modified.
	Mail(ctx context.Context, from proto.Address, p proto.Params) error
	// Rcpt adds a recipient to the transaction, unless it returns an error.
	Rcpt(ctx context.Context, to proto.Address, p proto.Params) error
	// Data takes the message: exactly the octets that the client sent, without transparency dots. When it returns
	// nil, the message is the server's responsibility (RFC 5321 section 6.1), so that it should be on disk by then.
	//
	// The reader returns io.EOF at the true end of the message and no sooner. Its other errors mean that the message
	// must not be kept: a *proto.Error if it is larger than allowed or has a bare CR or LF in it, io.ErrUnexpectedEOF
	// if the connection was lost, [ErrReset] if the client gave the message up between chunks. To return such an
	// error is always right. The reader must not be used after Data has returned. Data need not read to the end: what
	// is left is read and dropped before the client is answered, and if that turns out to be too large or malformed,
	// the client is refused although Data returned nil. A session that must know does read to the end.
	Data(ctx context.Context, r io.Reader) error
}

// A Resetter is a Session that wants to know when a transaction is over.
type Resetter interface {
	// Reset is called once for each Mail that was accepted: after the message was accepted or refused, and when the
	// transaction is abandoned, be it by RSET, by a new greeting or because the connection ends.
	Reset(ctx context.Context)
}

// RecipientData is a Session that tells the outcome of a message for each recipient: see [ext.RecipientData].
type RecipientData = ext.RecipientData

// ErrReset is returned by the reader of a message that the client gave up before it was complete.
var ErrReset = errors.New("smtp: the client gave the message up before its end")

// Accepted returns what a session returns to accept with a text of its own, such as "queued as 4XyZ17".
func Accepted(text string) error { return &proto.Error{Code: 250, Text: text} }

// A Message is what the function given to [Handler] gets.
type Message struct {
	Conn   *Conn             // the connection it arrives over
	From   proto.Address     // zero for the null reverse-path
	Params proto.Params      // of the MAIL command
	To     []proto.Recipient // at least one
	Body   io.Reader         // see Session.Data
}

// Handler returns a Backend that accepts every sender and recipient and calls f for each message. The error of f is
// the reply, as that of [Session.Data]. It may be called concurrently for several connections. The message must not
// be used after f has returned. With nil for f it returns nil, which New refuses.
func Handler(f func(ctx context.Context, m *Message) error) Backend {
	if f == nil {
		return nil
	}
	return BackendFunc(func(_ context.Context, c *Conn) (Session, error) {
		return &handled{handle: f, msg: Message{Conn: c}}, nil
	})
}

// handled is the session of a Handler.
type handled struct {
	handle func(context.Context, *Message) error
	msg    Message
}

func (h *handled) Mail(_ context.Context, from proto.Address, p proto.Params) error {
	h.msg.From, h.msg.Params = from, p
	return nil
}

func (h *handled) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	h.msg.To = append(h.msg.To, proto.Recipient{Address: to, Params: p})
	return nil
}

func (h *handled) Data(ctx context.Context, r io.Reader) error {
	h.msg.Body = r
	return h.handle(ctx, &h.msg)
}

func (h *handled) Reset(context.Context) { h.msg = Message{Conn: h.msg.Conn} }
