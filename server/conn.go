package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Conn is a connection to a client, as sessions and extensions see it. Its methods must be called from within a
// call of the session's methods, or of the extension's, and not from other goroutines.
type Conn struct {
	srv    *Server
	ctx    context.Context // of the connection
	cancel context.CancelCauseFunc
	raw    net.Conn // what was accepted
	rx     *proto.Receiver
	out    []byte // replies not written yet
	watch  watch

	mu      sync.Mutex // guards what follows, for Shutdown
	idle    bool       // the client is waited for and no transaction is open
	between bool       // the client is waited for between the commands of a transaction
	shaking bool       // the handshake of implicit TLS is under way

	// The rest belongs to the goroutine of the connection.
	nc       net.Conn  // raw, or what it was handed over to
	err      error     // why the connection is at its end; not set if the protocol ended it
	bye      error     // the 421 that did
	linger   bool      // the client may still be sending
	quit     bool      // the client said QUIT
	deadline time.Time // for the command line that is awaited; zero if none is
	until    time.Time // the end of the session; zero if there is none

	session   Session
	resetter  Resetter
	each      RecipientData
	refusal   *proto.Error // why there is no session, after the connection began anew
	hello     string
	extended  bool
	offer     ext.Offer
	identity  string
	origin    *ext.Origin // nil unless a proxy tells
	failed    int         // attempts to authenticate
	tls       *tls.ConnectionState
	shown     *tls.Certificate // to the client, in the last handshake that was not abbreviated
	open      bool             // a MAIL was accepted for which Reset has not been called
	mail      proto.Params     // of the transaction
	status    bool             // replies carry enhanced status codes
	utf8      bool             // the transaction permits UTF-8
	asked     bool             // the command in hand permits UTF-8 in the reply
	binary    bool             // the content is declared to be binary
	lines     lineCache
	exchange  exchange
	body      body
	lmtp      results
	errors    int // since a message was accepted, as are the next two
	refused   int
	junk      int
	connected bool // Trace.Connect was called

	// These are guarded by the server's mutex.
	counted bool
	host    netip.Prefix
}

func newConn(ctx context.Context, s *Server, nc net.Conn) *Conn {
	c := &Conn{srv: s, raw: nc, nc: nc}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.rx = proto.NewReceiver(s.set.Table(), proto.Limits{})
	c.watch.init(c)
	c.exchange.Conn = c
	c.body.c = c
	c.lmtp.init(c)
	if s.opt.SessionTimeout > 0 {
		c.until = time.Now().Add(s.opt.SessionTimeout)
	}
	return c
}

var _ ext.ServerConn = (*Conn)(nil)

// Session returns the session that the backend made, nil before it did.
func (c *Conn) Session() any { return c.session }

// Protocol returns SMTP or LMTP.
func (c *Conn) Protocol() proto.Protocol { return c.srv.opt.Protocol }

// Hostname returns the name of the server.
func (c *Conn) Hostname() string { return c.srv.opt.Hostname }

// Hello returns the argument of the client's EHLO, HELO or LHLO, or "" if it has not introduced itself. Nothing is
// known of its truth.
func (c *Conn) Hello() string { return c.hello }

// Extended reports whether the client has introduced itself with EHLO or LHLO.
func (c *Conn) Extended() bool { return c.extended }

// LocalAddr returns the address of the server's end, or what the client has connected to if a trusted proxy tells.
func (c *Conn) LocalAddr() net.Addr {
	if a := c.origin.Local(); a != nil {
		return a
	}
	return c.nc.LocalAddr()
}

// RemoteAddr returns the address of the client. It is what a trusted proxy tells if there is one; see PeerAddr.
func (c *Conn) RemoteAddr() net.Addr {
	if a := c.origin.Remote(); a != nil {
		return a
	}
	return c.nc.RemoteAddr()
}

// PeerAddr returns the address of whoever is at the other end of the connection itself, a proxy or the client, as the listener
// has it: one that reads the PROXY protocol has the address of the client, if the proxy tells it.
func (c *Conn) PeerAddr() net.Addr { return c.nc.RemoteAddr() }

// Origin returns what a trusted proxy tells of the client, nil if it tells nothing. It must not be modified.
func (c *Conn) Origin() *ext.Origin { return c.origin }

// TLS returns the state of the TLS connection, nil on one in clear.
func (c *Conn) TLS() *tls.ConnectionState { return c.tls }

// TLSConfig returns the configuration with which TLS can be started, or nil.
func (c *Conn) TLSConfig() *tls.Config { return c.srv.tlsConfig }

// AllowInsecureAuth reports whether Options.AllowInsecureAuth is set.
func (c *Conn) AllowInsecureAuth() bool { return c.srv.opt.AllowInsecureAuth }

// Identity returns the name that the client has authenticated as, or "".
func (c *Conn) Identity() string { return c.identity }

// MaxSize returns the size in octets above which messages are refused, 0 if there is no such limit.
func (c *Conn) MaxSize() int64 { return c.srv.opt.MaxSize }

// MaxRcpts returns the number of recipients accepted in a transaction.
func (c *Conn) MaxRcpts() int { return c.srv.opt.MaxRcpts }

// State returns where the session stands.
func (c *Conn) State() proto.State { return c.rx.State() }

// MailParams returns the parameters of the open transaction's MAIL command. They must not be modified.
func (c *Conn) MailParams() proto.Params { return c.mail }

// With returns how the message of the open transaction is being received, as the WITH clause of its Received field names
// it: such as ESMTPSA or LMTP (RFC 3848), or UTF8SMTPS if the client announced UTF-8 (RFC 6531 section 4.3).
func (c *Conn) With() string {
	if !c.extended {
		return "SMTP"
	}
	with := "E"
	switch {
	case c.utf8:
		with = "UTF8"
	case c.Protocol() == proto.LMTP:
		with = ""
	}
	with += c.Protocol().String()
	if c.tls != nil {
		with += "S"
	}
	if c.identity != "" {
		with += "A"
	}
	return with
}

// use goes on with the connection nc.
func (c *Conn) use(nc net.Conn) {
	c.mu.Lock()
	c.nc = nc
	c.mu.Unlock()
	c.tls = nil
	if t, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := t.ConnectionState()
		c.tls = &state
	}
}

// setStatus sets whether replies carry enhanced status codes.
func (c *Conn) setStatus(on bool) {
	c.status = on
	c.rx.SetStatus(on)
}

// wake has a connection that idles notice that the server is shutting down.
func (c *Conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.shaking:
		c.raw.Close()
	case c.idle:
		_ = c.nc.SetReadDeadline(past)
	case c.between:
		_ = c.nc.SetReadDeadline(c.srv.lastCommand)
	}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// force closes the connection without a word, from any goroutine.
func (c *Conn) force(cause error) {
	c.cancel(cause)
	c.raw.Close()
}

// newSession has the backend make a session. It returns the refusal if it does not.
func (c *Conn) newSession() *proto.Error {
	session, err := c.callNewSession()
	if err == nil && session == nil {
		err = errors.New("smtp: the backend returned neither a session nor an error")
	}
	if err != nil {
		e := asError(err)
		if e == nil || !isRefusal(e.Code) {
			// Nothing says that the client is not wanted, so it should come again.
			c.logError("NewSession", err)
			e = errNoSession
		}
		return e
	}
	c.session = session
	c.resetter, _ = ext.As[Resetter](session)
	c.each, _ = ext.As[RecipientData](session)
	return nil
}

// endTransaction tells the session that the transaction is over, if one is open.
func (c *Conn) endTransaction() {
	if !c.open {
		return
	}
	c.open, c.mail, c.utf8, c.binary = false, nil, false, false
	if c.resetter != nil {
		c.watch.arm()
		c.resetter.Reset(c.ctx)
		c.watch.disarm()
	}
}

// endSession closes the session.
func (c *Conn) endSession() {
	session := c.session
	c.session, c.resetter, c.each = nil, nil, nil
	if closer, ok := ext.As[io.Closer](session); ok {
		if err := closer.Close(); err != nil {
			c.logError("Close", err)
		}
	}
}

// forgetClient forgets all that the client has said of itself, as it has to be after TLS was started (RFC 3207
// section 4.2).
func (c *Conn) forgetClient() {
	c.hello, c.extended, c.offer, c.identity = "", false, ext.Offer{}, ""
	c.refusal = nil
	c.lines = lineCache{}
}

// A lineCache remembers what the last MAIL and RCPT commands were taken apart into, so that one that is repeated in
// the next transaction costs no memory.
type lineCache struct {
	lines [cachedLines]line
	next  int
}

const (
	cachedLines = 8
	cachedLine  = 1 << 10 // longer ones are not remembered
)

// A line is a MAIL or RCPT command.
type line struct {
	rcpt   bool
	ascii  bool
	key    []byte // the arguments as received
	addr   proto.Address
	params proto.Params
}

func (l *lineCache) find(args []byte, rcpt bool) *line {
	for i := range l.lines {
		if e := &l.lines[i]; e.rcpt == rcpt && len(e.key) > 0 && bytes.Equal(e.key, args) {
			return e
		}
	}
	return nil
}

// parse takes the arguments of MAIL or RCPT apart.
func (c *Conn) parse(args []byte, rcpt bool) (*line, *proto.Error) {
	if e := c.lines.find(args, rcpt); e != nil {
		return e, nil
	}
	parse := proto.ParseMailArgs
	if rcpt {
		parse = proto.ParseRcptArgs
	}
	addr, params, err := parse(args, c.srv.opt.Lax)
	if err != nil {
		return nil, err
	}
	e := &c.lines.lines[c.lines.next]
	c.lines.next = (c.lines.next + 1) % cachedLines
	*e = line{rcpt: rcpt, ascii: isASCII(args), key: e.key[:0], addr: addr, params: params}
	if len(args) <= cachedLine {
		e.key = append(e.key, args...)
	}
	return e, nil
}

func isASCII[T string | []byte](p T) bool {
	for i := range len(p) {
		if p[i] >= 0x80 {
			return false
		}
	}
	return true
}
