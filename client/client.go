package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Send connects to the server at addr, sends a message, and says QUIT. The error is nil if all recipients were accepted.
// It is a *SendError if a session came about; then its Result tells about each recipient. Addr and opt are those of
// [Dial]. To send more than one message, or to see the reply to it, use a [Client].
func Send(ctx context.Context, addr string, opt *Options, m *Message) error {
	c, err := Dial(ctx, addr, opt)
	if err != nil {
		return err
	}
	defer c.quit(ctx)
	_, err = c.Send(ctx, m)
	return err
}

// A Client is a session with a server, ready to send messages. It does one thing at a time: a method called while another
// runs returns [ErrBusy], except Close.
type Client struct {
	cfg    *config
	set    *ext.Set
	policy ext.Policy
	timer  *time.Timer
	redial func(context.Context) (net.Conn, error) // nil: the connection was not made here

	mail, rcpt, data, rset *proto.Verb

	busy atomic.Bool
	cut  atomic.Bool // Close was called while another call was running

	mu        sync.Mutex
	interrupt func() // ends what the call that is running waits for

	session
}

// A session is what a client has with a server over one connection.
type session struct {
	raw net.Conn // the connection that was dialled, beneath TLS
	wire
	tx *proto.Sender

	hello    string
	caps     proto.Caps
	offer    ext.Offer
	groups   bool
	tls      *tls.ConnectionState
	verified bool
	identity string
	takeover int  // how often the wire was handed over
	greeting bool // Dial has not come to its end, or the session began anew
	altered  bool // it is no longer as Dial made it
	secret   bool // what is sent must not be traced

	bounds  ext.ServerLimits // what the server takes
	mails   int              // MAIL commands sent
	domains map[string]bool  // of recipients, if there is a bound

	leaving bool  // QUIT has been sent, or is about to be
	broken  error // why the connection is closed

	out     []byte // appended and not being written
	spare   []byte // being written, or free
	text    []byte // a chunk being encoded
	waiting queue
	flown   int         // how many of waiting have been sent
	reply   proto.Reply // the last one that belongs to no delivery
	sending *delivery   // whose content is being sent after 354
	claim   *delivery   // that was accepted before the end of a write; it had better end
	dirty   bool        // chunks have been sent, and not known to be accepted (RFC 3030 section 2)
}

// Dial connects to the server at addr and makes the session ready to send: it waits for the greeting, introduces the client,
// starts TLS and authenticates as opt says.
//
// Addr is "host:port", or "unix:" and a path. The host is also the name that the server's certificate has to be for. The
// context bounds Dial and has no effect on the client afterwards. An error is a *LostError, a *ProtocolError, an
// *ext.TLSError or *ext.AuthError, or the *proto.Error by which the server refused; others are mistakes in addr or opt.
//
// To submit a user's mail where the port is not known, there is [DialSubmission].
func Dial(ctx context.Context, addr string, opt *Options) (*Client, error) {
	cfg, err := newConfig(opt)
	if err != nil {
		return nil, err
	}
	network, addr, host, err := target(addr)
	if err != nil {
		return nil, err
	}
	connect := cfg.connector(network, addr)
	conn, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	return newClient(ctx, conn, host, cfg, connect)
}

// connector returns a function that makes connections to addr.
func (cfg *config) connector(network, addr string) func(context.Context) (net.Conn, error) {
	dial := cfg.Dialer
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := withTimeout(ctx, cfg.Timeouts.Connect)
		defer cancel()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &LostError{Doing: "connecting to " + addr, Err: err}
		}
		return conn, nil
	}
}

// NewClient is Dial with a connection that exists already; host is the name that the server's certificate has to be for.
// The connection belongs to the client, and is closed if there is an error. The client cannot make another one when the
// server takes no more messages over this one; see [LimitError].
func NewClient(ctx context.Context, conn net.Conn, host string, opt *Options) (*Client, error) {
	cfg, err := newConfig(opt)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return newClient(ctx, conn, host, cfg, nil)
}

// target takes addr apart.
func target(addr string) (network, dial, host string, err error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "unix", path, "", nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" {
		return "", "", "", fmt.Errorf("smtp: %q is not the address of a server: use host:port, or unix: and a path", addr)
	}
	return hostTarget(host, port)
}

// hostTarget is target for a host and a port.
func hostTarget(host, port string) (network, dial, name string, err error) {
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '[' || r == ']' }) {
		return "", "", "", fmt.Errorf("smtp: %q is not the name of a host", host)
	}
	if !has8bit([]byte(host)) {
		return "tcp", net.JoinHostPort(host, port), host, nil
	}
	d, err := proto.ParseDomain(host)
	if err != nil {
		return "", "", "", fmt.Errorf("smtp: %q is not the name of a host: %w", host, err)
	}
	return "tcp", net.JoinHostPort(d.ASCII(), port), d.ASCII(), nil
}

func newClient(ctx context.Context, conn net.Conn, host string, cfg *config,
	redial func(context.Context) (net.Conn, error)) (*Client, error) {
	c := &Client{cfg: cfg, set: cfg.set, redial: redial}
	c.policy = ext.Policy{
		TLS: cfg.TLS, TLSConfig: cfg.tlsConfig(host),
		Credentials: cfg.Credentials, AllowInsecureAuth: cfg.AllowInsecureAuth,
	}
	table := c.set.Table()
	c.mail, c.rcpt = table.Lookup("MAIL"), table.Lookup("RCPT")
	c.data, c.rset = table.Lookup("DATA"), table.Lookup("RSET")
	c.timer = time.NewTimer(time.Hour)
	c.timer.Stop()
	if err := c.begun(ctx, conn); err != nil {
		return nil, err
	}
	return c, nil
}

// begun begins a session on conn, which is closed if there is an error.
func (c *Client) begun(ctx context.Context, conn net.Conn) error {
	c.session = session{raw: conn, tx: proto.NewSender(c.set.Table(), c.cfg.Limits), hello: c.cfg.helloName(conn)}
	c.interruptible(func() { conn.Close() })
	if c.cfg.trace.Connected != nil {
		c.cfg.trace.Connected(conn.LocalAddr(), conn.RemoteAddr())
	}
	if c.cfg.TLS == ext.TLSImplicit {
		secured, err := c.handshake(ctx, conn)
		if err != nil {
			conn.Close()
			c.broken = &ext.TLSError{Err: err}
			if c.cfg.trace.Closed != nil {
				c.cfg.trace.Closed(c.broken)
			}
			return c.broken
		}
		conn = secured
	}
	c.open(conn)
	err := c.start(ctx)
	if err != nil {
		c.quit(ctx)
	}
	return err
}

// handshake starts TLS on a connection on which nothing else has been said.
func (c *Client) handshake(ctx context.Context, conn net.Conn) (net.Conn, error) {
	ctx, cancel := withTimeout(ctx, c.cfg.Timeouts.Command)
	defer cancel()
	secured := tls.Client(conn, c.policy.TLSConfig)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	c.secured(secured)
	return secured, nil
}

// secured records what conn, on which the session goes on, knows about TLS.
func (c *Client) secured(conn net.Conn) {
	s, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return
	}
	state := s.ConnectionState()
	c.tls = &state
	// A configuration that verifies by functions of its own, and does nothing else, leaves no chains. Where it is the mode that
	// puts up with any certificate, functions are there for something else.
	config := c.policy.TLSConfig
	own := config.InsecureSkipVerify && (config.VerifyConnection != nil || config.VerifyPeerCertificate != nil)
	c.verified = len(state.VerifiedChains) > 0 || own
	if c.cfg.trace.TLS != nil {
		c.cfg.trace.TLS(state, c.verified)
	}
}

// Close says QUIT and closes the connection. If another call is running, the connection is closed at once, and that call
// fails with [ErrClosed]. What the server makes of QUIT is of no interest, so the error is always nil.
func (c *Client) Close() error {
	if !c.busy.CompareAndSwap(false, true) {
		c.cut.Store(true)
		c.mu.Lock()
		stop := c.interrupt
		c.mu.Unlock()
		stop()
		return nil
	}
	defer c.busy.Store(false)
	c.quit(context.Background())
	return nil
}

// interruptible makes stop what Close calls if it is called while another call is running.
func (c *Client) interruptible(stop func()) {
	c.mu.Lock()
	c.interrupt = stop
	c.mu.Unlock()
	if c.cut.Load() {
		stop()
	}
}

// quit says QUIT if there is anybody to hear it, and closes the connection.
func (c *Client) quit(ctx context.Context) {
	if c.broken != nil {
		return
	}
	c.leaving = true
	v := c.set.Table().Lookup("QUIT")
	err := c.command(ctx, v, nil, expectation{role: quit, verb: v})
	if err == nil && c.drain(ctx) != nil {
		return
	}
	c.conn.Close() // which ends TLS properly, as shut does not take the time to do
	c.shut(ErrClosed)
}

// begin is called at the beginning of what a client is called for, and end at the end of it.
func (c *Client) begin(ctx context.Context) error {
	if !c.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	err := c.check(ctx)
	if err != nil {
		c.busy.Store(false)
	}
	return err
}

func (c *Client) check(ctx context.Context) error {
	if c.broken == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.poll(); err != nil {
			c.fail(err)
		}
	}
	switch c.broken {
	case nil:
		return nil
	case ErrClosed:
		return ErrClosed
	}
	return &closedError{c.broken}
}

func (c *Client) end() {
	if c.broken == nil && (c.writing || c.waiting.len() > 0 || len(c.out) > 0) {
		c.fail(ErrClosed) // a function of the user's panicked in the middle of it
	}
	c.trim()
	c.busy.Store(false)
}

// Caps returns what the server offers, less Options.Without.
func (c *Client) Caps() proto.Caps { return c.caps }

// Policy returns what the client was asked for.
func (c *Client) Policy() ext.Policy { return c.policy }

// TLS returns the state of the TLS connection, nil on one in clear.
func (c *Client) TLS() *tls.ConnectionState { return c.tls }

// Verified reports whether the server's certificate was verified: by package crypto/tls or, if Options.TLSConfig has
// InsecureSkipVerify set, by the functions in it.
func (c *Client) Verified() bool { return c.verified }

// CertificateError returns what is wrong with the certificate of a server that was not verified, as with TLSOpportunistic:
// that it is for another name, say. It is nil if nothing is, if the certificate was verified, and in clear. It is meant for
// logs and reports: a mode that goes on whatever the certificate is like protects from nobody who is in between.
func (c *Client) CertificateError() error {
	if c.tls == nil || c.verified || len(c.tls.PeerCertificates) == 0 {
		return nil
	}
	config := c.policy.TLSConfig
	opt := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool(), DNSName: config.ServerName}
	if config.Time != nil {
		opt.CurrentTime = config.Time()
	}
	for _, cert := range c.tls.PeerCertificates[1:] {
		opt.Intermediates.AddCert(cert)
	}
	if _, err := c.tls.PeerCertificates[0].Verify(opt); err != nil {
		return fmt.Errorf("smtp: the server's certificate: %w", err)
	}
	return nil
}

// Identity returns the name that the client has authenticated as, or "".
func (c *Client) Identity() string { return c.identity }

// Authenticated records the name that the client has authenticated as. It is for extensions.
func (c *Client) Authenticated(identity string) {
	c.identity = identity
	c.altered = c.altered || !c.greeting
}

// Secret makes the trace leave out what is sent until the exchange is over. It is for extensions.
func (c *Client) Secret() { c.secret = true }

var _ ext.Client = (*Client)(nil)
