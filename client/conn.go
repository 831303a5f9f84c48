package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A conn is a connection to a server, and the session on it. It sends commands, keeps account of the replies that are
// outstanding, and closes the connection when something goes wrong. It knows nothing of messages: a transaction sends
// one over it. One goroutine at a time uses a conn.
type conn struct {
	cfg    *config
	policy ext.Policy
	stop   *interrupter // the client's: whether Close was called meanwhile
	trace  tracer       // calls the functions of Options.Trace
	timer  *time.Timer  // stopped unless step waits

	// The transport. It stays when the session begins anew without a hand-over.

	raw       net.Conn             // the connection that was dialled, beneath TLS
	wire                           // moves the bytes: of raw, or of TLS over it
	tls       *tls.ConnectionState // nil without TLS
	verified  bool                 // the server's certificate was verified
	handovers int                  // how often the transport was replaced

	// The protocol.

	tx          *proto.Sender // the engine
	hello       string        // the argument of EHLO
	session     session       // what is forgotten when the session begins anew
	greeted     bool          // the server has greeted, and takes mail
	introducing bool          // EHLO and what follows it are under way
	altered     bool          // the session is no longer as Dial made it, which a new one would be
	dirty       bool          // chunks were sent, and are not known to be accepted (RFC 3030 section 2)
	exchange    *proto.Verb   // the command whose exchange is under way

	output        // what is sent
	intake intake // where messages come from while the conn waits

	idle time.Time // since when nothing is outstanding; zero if something is, or has been since

	// Replies.

	waiting   queue[expectation] // the replies outstanding
	heard     int                // how many replies there have been
	sent      int                // how many of waiting answer what has been sent, or is being written
	reply     proto.Reply        // the last reply to a command that is not part of a transaction
	last      lastReplies        // so that the same reply again takes no memory
	uploading expectation        // the content that is being sent after 354; it can be refused before its end
	early     retractor          // what the server accepted before a write came to its end

	// The end.

	leaving bool  // QUIT has been sent, or is about to be
	closed  error // why the connection is closed; nil while it is open
}

// A session is what the client knows of the server since EHLO. When the session begins anew, as it does once TLS has
// been started (RFC 3207 section 4.2), all of it is forgotten: it is replaced by its zero value.
type session struct {
	caps       proto.Caps // the reply to EHLO, less Options.Without
	offer      ext.Offer  // which extensions the server offers
	pipelining bool       // the server takes pipelined commands
	identity   string     // the name that the client has authenticated as
	accepted   bool       // the server has accepted a message
	inStep     int        // how many messages have ended
	resets     resetState // what the server makes of RSET

	limits  ext.ServerLimits // those that the server has stated; they are those of a session (RFC 9422)
	mails   int              // MAIL commands sent
	domains map[string]bool  // of the recipients so far, if the server limits their number
}

// newConn returns a conn over raw, on which nothing has happened yet.
func newConn(c *Client, raw net.Conn) *conn {
	n := &conn{
		cfg: c.cfg, policy: c.policy, stop: &c.stop, trace: tracer{Trace: c.cfg.trace, client: c},
		timer: time.NewTimer(time.Hour), raw: raw,
		tx: proto.NewSender(c.cfg.set.Table(), c.cfg.Limits), hello: c.cfg.helloName(raw),
	}
	n.timer.Stop()
	return n
}

// open makes the session ready to send. If there is an error, the connection is closed.
func (c *conn) open(ctx context.Context) error {
	c.trace.connected(ctx)
	transport := c.raw
	if c.policy.TLS == ext.TLSImplicit {
		secured, err := c.handshake(ctx)
		if err != nil {
			c.raw.Close()
			c.timer.Stop()
			c.closed = &ext.TLSError{Err: explainHandshake(err)}
			c.trace.closed(ctx, c.closed)
			return c.closed
		}
		transport = secured
	}
	c.start(transport)
	err := c.greet(ctx)
	if err != nil {
		c.quit(ctx)
	}
	return err
}

// check returns why the connection cannot be used, after it has dealt with what the server said meanwhile.
func (c *conn) check(ctx context.Context) error {
	if c.closed == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.poll(ctx); err != nil {
			c.fail(ctx, err)
		}
	}
	switch c.closed {
	case nil:
		return nil
	case ErrClosed:
		return ErrClosed
	}
	return &closedError{c.closed}
}

// command appends a command, whose reply goes to a. If the command must not follow one that is outstanding, command
// first waits for that.
func (c *conn) command(ctx context.Context, v *proto.Verb, args []byte, a answerer) error {
	for {
		out, err := c.tx.AppendCommand(c.out, v, args)
		if err == nil {
			c.out = out
			if v == c.cfg.verbs.mail {
				c.session.mails++
			}
			c.waiting.push(expectation{answerer: a, verb: v, name: v.Name})
			c.trace.command(ctx, v, args)
			return nil
		}
		if !errors.Is(err, proto.ErrMustWait) || c.waiting.len() == 0 {
			return err
		}
		if err := c.drain(ctx); err != nil {
			return err
		}
	}
}

// roundTrip sends a command and returns the reply.
func (c *conn) roundTrip(ctx context.Context, v *proto.Verb, args []byte) (proto.Reply, error) {
	if err := c.command(ctx, v, args, plainReply{c}); err != nil {
		return proto.Reply{}, err
	}
	if err := c.drain(ctx); err != nil {
		return proto.Reply{}, err
	}
	return c.reply, nil
}

// line sends a line of an exchange, and returns the reply.
func (c *conn) line(ctx context.Context, line string) (proto.Reply, error) {
	out, err := c.tx.AppendLine(c.out, []byte(line))
	if err != nil {
		return proto.Reply{}, err
	}
	c.out = out
	c.waiting.push(expectation{answerer: plainReply{c}, verb: c.exchange, name: "a line of the exchange"})
	c.trace.line(ctx)
	if err := c.drain(ctx); err != nil {
		return proto.Reply{}, err
	}
	return c.reply, nil
}

// flushed waits until nothing is being written.
func (c *conn) flushed(ctx context.Context) error {
	for c.writing || c.writeErr != nil {
		if err := c.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// flush begins to write what has been appended, once the write before has come to its end.
func (c *conn) flush(ctx context.Context) error {
	if err := c.flushed(ctx); err != nil {
		return err
	}
	if err := c.poll(ctx); err != nil {
		return c.fail(ctx, err)
	}
	if len(c.out) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil && !c.leaving {
		// It ended while the body was being read. What has not been sent is known to have no effect.
		return c.fail(ctx, c.lost(err))
	}
	for ; c.sent < c.waiting.len(); c.sent++ {
		c.waiting.at(c.sent).sent()
	}
	c.write(c.out)
	c.out, c.free = c.free[:0], c.out
	return nil
}

// drain sends what has been appended, and waits for all replies.
func (c *conn) drain(ctx context.Context) error {
	if err := c.flush(ctx); err != nil {
		return err
	}
	for c.writing || c.waiting.len() > 0 || c.writeErr != nil {
		if err := c.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// quit says QUIT if the connection is open, waits for the reply, and closes the connection.
func (c *conn) quit(ctx context.Context) {
	if c.closed != nil {
		return
	}
	c.leaving = true
	err := c.command(ctx, c.cfg.verbs.quit, nil, quitReply{plainReply{c}})
	if err == nil && c.drain(ctx) != nil {
		return
	}
	c.conn.Close() // which ends TLS with close_notify, before shut closes what is beneath
	c.shut(ctx, ErrClosed)
}

// fail closes the connection because of err, and returns the reason that later calls are told.
func (c *conn) fail(ctx context.Context, err error) error {
	if c.closed != nil {
		return c.closed
	}
	if c.leaving || c.stop.isClosed() {
		err = ErrClosed
	}
	c.shut(ctx, err)
	return err
}

// shut closes the connection without QUIT, and records the reason.
func (c *conn) shut(ctx context.Context, err error) {
	c.closed = err
	c.raw.Close()
	if c.conn != c.raw {
		c.conn.Close()
	}
	// A write that had come to its end before the connection was closed has succeeded, whether or not that was noticed.
	if failed := c.finish(); c.early != nil && failed != nil {
		c.early.retract()
	}
	c.timer.Stop()
	c.waiting, c.sent, c.output = queue[expectation]{}, 0, output{}
	c.trace.closed(ctx, err)
}

// leave is called at the end of each call. It lets go of buffers that only large messages need, so that idle
// connections are small.
func (c *conn) leave(ctx context.Context) {
	if c.closed == nil && (c.writing || c.waiting.len() > 0 || len(c.out) > 0) {
		c.fail(ctx, ErrClosed) // a function of the user's panicked in the middle of the call
	}
	c.idle = time.Now()
	if c.writing {
		return
	}
	c.output.shrink()
	c.waiting.shrink()
}
