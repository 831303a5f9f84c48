package server

import (
	"context"
	"errors"
	"io"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Backend makes the sessions of a server. The server calls it concurrently for several connections.
type Backend interface {
	// NewSession returns the session that takes the mail of the client on c. It is called before the client is greeted,
	// and again when the session begins anew, as after STARTTLS.
	//
	// A *proto.Error is sent in place of the greeting, and only QUIT is accepted after it; use the code 554 to say that
	// there is no mail service here (RFC 5321 section 3.1). Any other error is logged, and the client gets 421, which
	// invites it to come back.
	NewSession(ctx context.Context, c *Conn) (Session, error)
}

// BackendFunc is a function as a Backend. [New] refuses one that is nil.
type BackendFunc func(ctx context.Context, c *Conn) (Session, error)

// NewSession calls f.
func (f BackendFunc) NewSession(ctx context.Context, c *Conn) (Session, error) { return f(ctx, c) }

// A Session takes the mail of one client. The server calls its methods one at a time.
//
// The error that a method returns becomes the reply:
//
//   - nil: success. The text is the usual one, unless the method has chosen another with [Conn.Accept] or [Conn.Reply].
//   - a *proto.Error with a code of 4yz or 5yz, wrapped or not: that reply. The code 421 ends the connection, too.
//   - any other error: 451 4.3.0. The error is logged, and its text is never sent.
//
// The context ends when the client hangs up, when a timeout ends the connection, and when the server is closed.
// [context.Cause] tells which: io.ErrUnexpectedEOF, os.ErrDeadlineExceeded or [ErrServerClosed]. A client that shuts
// down its own direction alone, as "nc -N" does, has not hung up: it waits for the reply. The context then ends if a
// method takes longer than 10 minutes.
//
// A session may have further methods. The server looks for them on the session, and on what its method Unwrap() any
// returns. Those of this package are [Resetter], [RecipientData], [ContentFilter] and [io.Closer], whose Close is
// called once when the session is over; extensions look for others. [Wrapper] helps to put a session around another.
//
// A method with another signature than the one that is looked for is never called. The server logs such a method as an
// error when it meets the first session of a type. An assertion tells as early as in the compiler:
//
//	var _ auth.PasswordSession = (*session)(nil)
type Session interface {
	// Mail begins a transaction. The address is zero for the null reverse-path <>. The parameters are well-formed and
	// belong to extensions that the server offered. Do not modify them.
	Mail(ctx context.Context, from proto.Address, p proto.Params) error
	// Rcpt adds a recipient to the transaction, unless it returns an error.
	Rcpt(ctx context.Context, to proto.Address, p proto.Params) error
	// Data takes the message: exactly the octets that the client sent, without the dots that SMTP adds for transparency;
	// [Options.NormalizeNewlines] makes all line endings CRLF. When it returns nil, the server is responsible for the
	// message (RFC 5321 section 6.1), so the message should be on disk by then.
	//
	// The reader returns io.EOF at the true end of the message, and not before. Any other error means that the message
	// must not be kept; Data may return such an error as it is. It is a *proto.Error if the message is larger than
	// allowed, or has a bare CR or LF in it. It is io.ErrUnexpectedEOF if the connection was lost, and [ErrReset] if the
	// client gave the message up between chunks. Do not use the reader after Data has returned.
	//
	// Data need not read to the end. The server reads and drops what is left before it answers; if that turns out to be
	// too large or malformed, the client is refused although Data returned nil. A session that has to know reads to the
	// end.
	Data(ctx context.Context, r io.Reader) error
}

// A Resetter is a Session that is told when a transaction is over.
type Resetter interface {
	// Reset is called once for each Mail that was accepted: after the message was accepted or refused, and when the
	// transaction is given up by RSET, by a new greeting or with the connection.
	Reset(ctx context.Context)
}

// RecipientData is a Session that tells the outcome of a message for each recipient: see [ext.RecipientData].
type RecipientData = ext.RecipientData

// ErrReset is the error of a message's reader when the client has given the message up before its end.
var ErrReset = errors.New("smtp: the client gave the message up before its end")

// MessageFunc is a function as a Backend. The server accepts every sender and recipient, and calls the function for
// each message. Its error becomes the reply, as that of [Session.Data] does; [Conn.Accept], on Message.Conn, chooses
// the text of the 250. The function is called concurrently for several connections. The message must not be used after
// it has returned. [New] refuses a MessageFunc that is nil.
type MessageFunc func(ctx context.Context, m *Message) error

// NewSession returns a session that calls f for each message.
func (f MessageFunc) NewSession(_ context.Context, c *Conn) (Session, error) {
	return &messageSession{f: f, msg: Message{Conn: c}}, nil
}

// A Message is what a [MessageFunc] is called with.
type Message struct {
	Conn   *Conn             // the connection over which it arrives
	From   proto.Address     // zero for the null reverse-path, from which notifications come
	Params proto.Params      // of the MAIL command
	To     []proto.Recipient // at least one
	Body   io.Reader         // see Session.Data
}

// A messageSession is the session of a MessageFunc.
type messageSession struct {
	f   MessageFunc
	msg Message
}

func (s *messageSession) Mail(_ context.Context, from proto.Address, p proto.Params) error {
	s.msg.From, s.msg.Params = from, p
	return nil
}

func (s *messageSession) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	s.msg.To = append(s.msg.To, proto.Recipient{Address: to, Params: p})
	return nil
}

func (s *messageSession) Data(ctx context.Context, r io.Reader) error {
	s.msg.Body = r
	return s.f(ctx, &s.msg)
}

func (s *messageSession) Reset(context.Context) { s.msg = Message{Conn: s.msg.Conn} }

// A userSession is the session that the backend made, with those of its optional interfaces that every message needs.
type userSession struct {
	Session
	resetter Resetter      // nil if the session has no Reset
	each     RecipientData // nil if the session has no DataEach
	filters  []ContentFilter
}

// makeSession calls the backend. It returns the refusal if there is no session.
func makeSession(c *Conn) (userSession, *proto.Error) {
	session, err := func() (Session, error) {
		c.background.start()
		defer c.background.stop()
		return c.srv.backend.NewSession(c.ctx, c)
	}()
	if err == nil && session == nil {
		err = errors.New("smtp: the backend returned neither a session nor an error")
	}
	if err != nil {
		e := asError(err)
		if e == nil || !isRefusal(e.Code) {
			// The client may well be welcome, so it is invited to come back.
			c.logFailure("NewSession", err)
			e = errNoSession
		}
		return userSession{}, e
	}
	c.srv.look(c, session)
	s := userSession{Session: session}
	s.resetter, _ = ext.As[Resetter](session)
	s.each, _ = ext.As[RecipientData](session)
	s.filters = filtersOf(session)
	return s, nil
}

// close closes the session, if there is one.
func (s *userSession) close(c *Conn) {
	session := s.Session
	*s = userSession{}
	if closer, ok := ext.As[io.Closer](session); ok {
		if err := closer.Close(); err != nil {
			c.logFailure("Close", err)
		}
	}
}
