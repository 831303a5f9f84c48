package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Conn is a connection to a client. The server makes one for each client that connects, and hands it to the backend,
// to extensions and to the [Trace].
//
// The goroutine of the connection owns it: call its methods only while the server is calling NewSession, a method of
// the session, an extension or a function of the Trace, and not from other goroutines. What other goroutines need, such
// as those that report outcomes for [RecipientData], has to be copied beforehand. Addresses, strings and the states of
// TLS stay valid for ever.
type Conn struct {
	srv    *Service
	id     uint64
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc

	// What the connection consists of. Each part is a type with a file of its own.
	link       link            // the network connection
	background backgroundRead  // notices that the client hangs up while a session works
	rx         *proto.Receiver // the engine: octets in, events out
	loan       loan            // the buffer that the engine uses
	pump       pump            // fills the engine
	replies    replies         // collects replies and writes them
	trace      tracer          // tells Options.Trace
	end        ending          // how the connection came to its end
	commands   commands        // carries out commands
	body       body            // the content of a message, as the session reads it
	recipients recipients      // the outcomes for each recipient of a message

	// What is known, by how long it lasts. Each is forgotten by replacing it with its zero value.
	session     userSession // until the session begins anew: greeting, STARTTLS, XCLIENT
	greeting    greeting    // likewise
	transaction transaction // until the message is done with, RSET or EHLO
	budget      budget      // as long as the connection
	held        holding     // memory that is counted in common.memory

	// These are guarded by Server.mu.
	counted bool         // among the connections that Options limits
	host    netip.Prefix // among the connections of which host
}

// The ends of a connection.
//
//	close421    we send a 421, which answers everything outstanding: a limit, a timeout, a shutdown, a panic
//	closeWith   we send some other reply, ahead of its time: the client sends what cannot be understood or never ends
//	disconnect  we send nothing: reading or writing failed, a handshake failed, the connection was given away
//	forceClose  as disconnect, from another goroutine: Server.Close, or the context of ServeConn
//
// They record why in ending; the goroutine of the connection then finds no further event and leaves serve. Besides, the
// protocol ends a connection by QUIT and by a 421 of the session's. Connections that are over a limit never get that
// far; see turnAway.

// An ending is how a connection came to its end. It is zero until then.
type ending struct {
	err    error // why; nil if the protocol ended it
	bye    error // the 421 by which the protocol did
	quit   bool  // the client said QUIT, or an extension was given the connection and is done with it
	linger bool  // the client may still be sending, and is to get our last reply nevertheless
}

func newConn(ctx context.Context, s *Service, nc net.Conn) *Conn {
	c := &Conn{srv: s, id: connIDs.next(), rx: proto.NewReceiver(s.set.Table(), proto.Limits{})}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.link = link{raw: nc, nc: nc}
	c.background.init(c)
	c.loan.rx = c.rx
	c.pump = pump{c: c}
	c.replies = replies{c: c}
	c.trace = tracer{c: c, t: s.opt.Trace}
	c.commands = commands{c: c}
	c.body.c = c
	c.recipients.init(c)
	c.budget = budget{c: c}
	if s.opt.Timeouts.Age > 0 {
		c.pump.old = time.Now().Add(s.opt.Timeouts.Age)
	}
	if s.opt.Timeouts.Session > 0 {
		c.pump.until = time.Now().Add(s.opt.Timeouts.Session)
	}
	return c
}

// close421 ends the connection with the reply e, a 421, which answers whatever has not been answered yet.
func (c *Conn) close421(e *proto.Error) {
	if c.end.err == nil && !c.link.awaitsTLS && c.rx.State()&(proto.Closed|proto.Handover) == 0 {
		c.replies.send(e.Reply())
		c.replies.flush()
		c.end.linger = e != errShutdown && e != errTimeout && e != errStress || c.rx.Buffered() > 0
	}
	c.end.because(e)
}

// endOfAge ends a connection that is too old.
func (c *Conn) endOfAge() {
	c.srv.stats.overAge.Add(1)
	c.close421(c.limited(errTooOld))
}

// closeWith ends the connection with the reply r. If early is not 0, the reply is not due yet, because the client is
// not done with what it sends, and r is sent that many times.
func (c *Conn) closeWith(r proto.Reply, early int) {
	if early == 0 {
		c.replies.send(r)
	}
	for range early {
		c.replies.sendEarly(r)
	}
	c.replies.flush()
	c.end.linger = true
	c.end.because(r.Err())
}

// disconnect ends the connection without a word, because of err.
func (c *Conn) disconnect(err error) {
	c.end.because(err)
	c.replies.out = c.replies.out[:0]
	c.cancel(io.ErrUnexpectedEOF)
}

// forceClose ends the connection without a word, from any goroutine.
func (c *Conn) forceClose(cause error) {
	c.cancel(cause)
	c.link.raw.Close()
}

// reason returns why the connection ended, nil after QUIT. The context is that of the connection.
func (e *ending) reason(ctx context.Context) error {
	cause := context.Cause(ctx)
	switch {
	case e.quit:
		return nil
	case errors.Is(e.err, errShutdown):
		return ErrServerClosed
	case cause != nil && cause != io.ErrUnexpectedEOF && cause != os.ErrDeadlineExceeded:
		return cause
	case e.err != nil:
		return e.err
	}
	return e.bye
}

// because records the first reason for the end.
func (e *ending) because(err error) {
	if e.err == nil {
		e.err = err
	}
}

var _ ext.ServerConn = (*Conn)(nil)

// ID returns a name for the connection, of at most 20 letters, digits and hyphens. No other connection of this process
// has it, and hardly one of another process. It is "conn" in each record of the log.
func (c *Conn) ID() string { return connIDs.name(c.id) }

// Session returns the session that the backend made, nil before it did.
func (c *Conn) Session() any { return c.session.Session }

// Protocol returns SMTP or LMTP.
func (c *Conn) Protocol() proto.Protocol { return c.srv.opt.Protocol }

// Hostname returns the name of the server, [Options.Hostname] or its default.
func (c *Conn) Hostname() string { return c.srv.opt.Hostname }

// Hello returns the argument of the client's EHLO, HELO or LHLO, or "" if the client has not introduced itself. The
// client may have made it up.
func (c *Conn) Hello() string { return c.greeting.hello }

// Extended reports whether the client has introduced itself with EHLO or LHLO.
func (c *Conn) Extended() bool { return c.greeting.extended }

// LocalAddr returns the address of the server's end. If a trusted proxy has told what the client connected to, it
// returns that.
func (c *Conn) LocalAddr() net.Addr {
	if a := c.greeting.origin.Local(); a != nil {
		return a
	}
	return c.link.nc.LocalAddr()
}

// RemoteAddr returns the address of the client. If a trusted proxy has told it, that is not the address of the proxy;
// see PeerAddr.
func (c *Conn) RemoteAddr() net.Addr {
	if a := c.greeting.origin.Remote(); a != nil {
		return a
	}
	return c.link.nc.RemoteAddr()
}

// PeerAddr returns the remote address that the listener reports: that of the client, or of a proxy that speaks for it
// by XCLIENT. A listener that reads the PROXY protocol reports the address of the client, if the proxy tells it.
func (c *Conn) PeerAddr() net.Addr { return c.link.nc.RemoteAddr() }

// Origin returns what a trusted proxy has told about the client, nil if it has told nothing. Do not modify it.
func (c *Conn) Origin() *ext.Origin { return c.greeting.origin }

// TLS returns the state of the TLS connection, nil if the connection is in plaintext.
func (c *Conn) TLS() *tls.ConnectionState { return c.link.tls }

// TLSConfig returns the configuration with which TLS can be started, nil if there is none.
func (c *Conn) TLSConfig() *tls.Config { return c.srv.tlsConfig }

// OwnCertificates returns the server's certificates that the client may have been shown.
//
// As a rule that is the one certificate presented in the handshake. If the TLS session was resumed, or if the listener
// made the handshake, nobody knows which one it was: then the result is all certificates of Options.TLSConfig, or none
// if that has GetCertificate or GetConfigForClient. In plaintext there is none.
func (c *Conn) OwnCertificates() []*x509.Certificate {
	return c.link.ownCertificates(c.srv.opt.TLSConfig)
}

// AllowInsecureAuth reports whether Options.AllowInsecureAuth is set.
func (c *Conn) AllowInsecureAuth() bool { return c.srv.opt.AllowInsecureAuth }

// Identity returns the name that the client has authenticated as, "" if it has not.
func (c *Conn) Identity() string { return c.greeting.identity }

// MaxSize returns the size in octets above which messages are refused, 0 if there is no such limit.
func (c *Conn) MaxSize() int64 { return c.srv.opt.Limits.MessageSize }

// MaxRcpts returns how many recipients a transaction may have.
func (c *Conn) MaxRcpts() int { return c.srv.opt.Limits.Rcpts }

// MaxMails returns how many MAIL commands a client may send in a session, 0 if there is no such limit.
func (c *Conn) MaxMails() int { return c.srv.opt.Limits.Mails }

// State returns the state of the protocol, such as proto.Rcpt after a recipient was accepted.
func (c *Conn) State() proto.State { return c.rx.State() }

// MailParams returns the parameters of the open transaction's MAIL command. Do not modify them.
func (c *Conn) MailParams() proto.Params { return c.transaction.params }

// Accept chooses the text of the positive reply to the method of the session that is being called, such as "queued as
// 4XyZ17" in Data. The method then has to return nil. See Reply.
func (c *Conn) Accept(text string) { c.Reply(proto.Reply{Code: 250, Text: text}) }

// Reply chooses the positive reply to the method of the session that is being called: Mail, Rcpt, Data or DataEach. The
// method then has to return nil; if it returns an error, that is the reply. The code is one of 2yz, such as 250, or 251
// in Rcpt. A status or a text that is missing is replaced by the default. The choice holds for this one call; in
// DataEach it is the reply for the recipients without an outcome of their own. Elsewhere it has no effect.
//
// To choose a reply whose code is not 2yz is a mistake of the session's. It is logged, and the client is told 451.
func (c *Conn) Reply(r proto.Reply) { c.commands.choice = r }

// With returns how the message of the open transaction arrives, in the words of the WITH clause of a Received field:
// such as "ESMTPSA" or "LMTP" (RFC 3848), or "UTF8SMTPS" if MAIL had SMTPUTF8 (RFC 6531 section 4.3).
func (c *Conn) With() string {
	if !c.greeting.extended {
		return "SMTP"
	}
	with := "E"
	switch {
	case c.transaction.utf8:
		with = "UTF8"
	case c.Protocol() == proto.LMTP:
		with = ""
	}
	with += c.Protocol().String()
	if c.link.tls != nil {
		with += "S"
	}
	if c.greeting.identity != "" {
		with += "A"
	}
	return with
}
