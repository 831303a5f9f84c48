package servertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A line is what is known of one connection: its two streams of octets, as they are inside of TLS.
type line struct {
	srv    *Server
	number int // of the connection, from 1
	log    transcript
	bottom *wire
	closed chan struct{} // the server's end is closed
	once   sync.Once

	mu      sync.Mutex
	steps   []step // replies that have been decided on, and not been written yet
	verb    string // of the command in hand, as the trace tells
	args    string
	content bool   // the client has been told to send content
	inMail  bool   // the reply that comes next answers the content
	codes   []int  // of the replies to the content
	kept    []byte // the content
}

// A step is a reply on its way.
type step struct {
	verb, args string // of the command that it answers
	code       int
	content    bool // it answers the content
}

type lineKey struct{}

func lineOf(ctx context.Context) *line {
	l, _ := ctx.Value(lineKey{}).(*line)
	return l
}

func (l *line) close() { l.once.Do(func() { close(l.closed) }) }

// trace returns t with what the line has to know.
func (s *Server) trace(t *server.Trace) *server.Trace {
	var w server.Trace
	if t != nil {
		w = *t
	}
	command, reply, transaction := w.Command, w.Reply, w.Transaction
	w.Command = func(ctx context.Context, c *server.Conn, verb, args string) {
		lineOf(ctx).command(verb, args)
		if command != nil {
			command(ctx, c, verb, args)
		}
	}
	w.Reply = func(ctx context.Context, c *server.Conn, verb string, r proto.Reply) {
		lineOf(ctx).reply(verb, r.Code)
		if reply != nil {
			reply(ctx, c, verb, r)
		}
	}
	w.Transaction = func(ctx context.Context, c *server.Conn, t *server.Transaction) {
		lineOf(ctx).transaction(c, t)
		if transaction != nil {
			transaction(ctx, c, t)
		}
	}
	return &w
}

// command is called when the server begins to carry out a command, or has got a line of an exchange.
func (l *line) command(verb, args string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if verb == "" && l.verb == "AUTH" {
		return
	}
	l.verb, l.args = verb, args
	l.inMail = endsContent(verb, args)
	if l.inMail {
		l.codes = nil
	}
}

// endsContent reports whether the reply to a command answers the content. For DATA it is the second one.
func endsContent(verb, args string) bool {
	if verb != "BDAT" && verb != "BURL" {
		return false
	}
	fields := strings.Fields(args)
	return len(fields) > 1 && strings.EqualFold(fields[len(fields)-1], "LAST")
}

// reply is called when the server has decided on a reply.
func (l *line) reply(verb string, code int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := step{verb: verb, code: code, content: l.inMail && verb == l.verb}
	if verb == l.verb {
		st.args = l.args
	}
	if st.content {
		l.codes = append(l.codes, code)
	}
	if verb == "DATA" && code == 354 {
		l.inMail, l.codes = true, nil
	}
	l.steps = append(l.steps, st)
}

// transaction is called when a transaction is over, and puts its message into the Inbox.
func (l *line) transaction(c *server.Conn, t *server.Transaction) {
	l.mu.Lock()
	raw, codes := l.kept, l.codes
	l.kept, l.codes, l.inMail = nil, nil, false
	l.mu.Unlock()
	to := acceptedBy(codes, t.To, c.Protocol())
	if t.Reply.Code == 0 || len(to) == 0 {
		return
	}
	m := &Message{
		From: t.From, Params: t.Params, To: to, Raw: raw, Conn: c.ID(), RemoteAddr: c.RemoteAddr(), Hello: c.Hello(),
		With: c.With(), TLS: c.TLS(), Identity: c.Identity(), Time: time.Now(),
	}
	m.parse()
	l.srv.Inbox.add(m)
}

// acceptedBy returns the recipients whom the replies to the content accept. There is one reply for each in LMTP, and in
// SMTP behind a 353 (PRDR).
func acceptedBy(codes []int, to []proto.Recipient, p proto.Protocol) []proto.Recipient {
	split := p == proto.LMTP
	if len(codes) > 0 && codes[0] == 353 {
		codes, split = codes[1:], true
	}
	var accepted []proto.Recipient
	for i, r := range to {
		j := 0
		if split {
			j = i
		}
		if j < len(codes) && codes[j]/100 == 2 {
			accepted = append(accepted, r)
		}
	}
	return accepted
}

// A wire is the server's end of a connection, inside of TLS. It watches what passes, and does what faults demand.
type wire struct {
	net.Conn
	line  *line
	below atomic.Bool // TLS has begun on it, and another wire is above
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if !w.below.Load() {
		w.line.received(p[:n])
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if w.below.Load() {
		return w.Conn.Write(p)
	}
	return w.line.send(w, p)
}

func (w *wire) Close() error {
	w.line.close()
	return w.Conn.Close()
}

// CloseWrite closes the connection in the direction of the client.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection below.
func (w *wire) NetConn() net.Conn { return w.Conn }

// A secureWire is a wire above TLS.
type secureWire struct {
	*wire
	tls *tls.Conn
}

// secure returns a wire above c, which is above below.
func secure(below *wire, c *tls.Conn) *secureWire {
	below.below.Store(true)
	return &secureWire{&wire{Conn: c, line: below.line}, c}
}

func (w *secureWire) ConnectionState() tls.ConnectionState { return w.tls.ConnectionState() }

func (w *secureWire) HandshakeContext(ctx context.Context) error {
	err := w.tls.HandshakeContext(ctx)
	w.line.handshake(err)
	return err
}

// handshake notes the outcome of a handshake.
func (l *line) handshake(err error) {
	if err != nil {
		l.log.add("-- the TLS handshake failed: " + err.Error())
		return
	}
	l.log.add("-- TLS")
}

// startTLS returns x with a Serve that puts a wire above TLS.
func startTLS(x ext.Extension) ext.Extension {
	serve := x.Serve
	x.Serve = func(ctx context.Context, x ext.Command) (proto.Reply, error) {
		return serve(ctx, handoverCommand{x, lineOf(ctx)})
	}
	return x
}

type handoverCommand struct {
	ext.Command
	line *line
}

func (x handoverCommand) Handover(ctx context.Context, r proto.Reply,
	take func(context.Context, net.Conn) (net.Conn, error)) error {
	return x.Command.Handover(ctx, r, func(ctx context.Context, nc net.Conn) (net.Conn, error) {
		x.line.bottom.below.Store(true)
		next, err := take(ctx, nc)
		x.line.handshake(err)
		c, ok := next.(*tls.Conn)
		if err != nil || !ok {
			return next, err
		}
		return secure(x.line.bottom, c), nil
	})
}

// send writes replies of the server's.
func (l *line) send(w *wire, p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		reply := rest[:replyLength(rest)]
		rest = rest[len(reply):]
		st := l.nextStep()
		l.mu.Lock()
		l.content = l.content || st.verb == "DATA" && st.code == 354
		l.mu.Unlock()
		l.log.server(reply)
	}
	return w.Conn.Write(p)
}

// nextStep returns the step of the reply that is written now.
func (l *line) nextStep() step {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.steps) == 0 {
		return step{} // a connection that is one too many gets a reply of which no trace tells
	}
	st := l.steps[0]
	l.steps = l.steps[1:]
	return st
}

// replyLength returns how many octets of p are the first reply.
func replyLength(p []byte) int {
	for n := 0; ; {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			return len(p)
		}
		line := p[n : n+i]
		if n += i + 1; len(line) < 4 || line[3] != '-' {
			return n
		}
	}
}

// received watches what the client sends.
func (l *line) received(p []byte) {
	l.mu.Lock()
	content := l.content
	l.mu.Unlock()
	if l.log.client(p, content) {
		l.mu.Lock()
		l.content = false
		l.mu.Unlock()
	}
}
