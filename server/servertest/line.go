package servertest

import (
	"bytes"
	"context"
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
	session string // the type of the session, as its author wrote it
	content bool   // the client has been told to send content
	inMail  bool   // the reply that comes next answers the content
	codes   []int  // of the replies to the content
	kept    []byte // the content

	greeted  bool   // the greeting has been written
	envelope string // the arguments of MAIL and RCPT
	armed    bool   // fatal has been chosen for the content that arrives
	fatal    *Fault // a DropContent
	dice     dice

	dropped, lingers atomic.Bool
}

// A step is a reply on its way.
type step struct {
	verb, args string // of the command that it answers
	code       int
	content    bool // it answers the content
	greeting   bool // it is the first of all
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
	l.srv.faults.saw(verb)
	l.mu.Lock()
	defer l.mu.Unlock()
	if verb == "" && l.verb == "AUTH" {
		return
	}
	l.verb, l.args = verb, args
	switch verb {
	case "MAIL":
		l.envelope = args
	case "RCPT":
		if len(l.envelope) < maxEnvelope {
			l.envelope += "\n" + args
		}
	}
	l.inMail = endsContent(verb, args)
	if l.inMail {
		l.codes = nil
	}
}

// maxEnvelope is how much is kept of the arguments of MAIL and RCPT.
const maxEnvelope = 1 << 20

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
		st.args = l.envelope
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

// send writes replies of the server's, and does what faults demand of each.
func (l *line) send(w *wire, p []byte) (int, error) {
	var out []byte
	flush := func() error {
		if len(out) == 0 {
			return nil
		}
		_, err := w.Conn.Write(out)
		out = nil
		return err
	}
	for rest := p; len(rest) > 0; {
		reply := rest[:replyLength(rest)]
		rest = rest[len(reply):]
		st := l.nextStep()
		pause, f := l.faultsOf(st, len(reply))
		if pause > 0 {
			if err := flush(); err != nil {
				return 0, err
			}
			if !l.wait(pause) {
				return 0, net.ErrClosed
			}
			_ = w.Conn.SetWriteDeadline(time.Now().Add(writeTime)) // the server's may have passed
		}
		text, ends := l.alter(reply, f)
		if len(text) > 0 {
			l.log.server(text)
		}
		l.begins(st)
		out = append(out, text...)
		if f != nil && f.kind == stopReading {
			w.stopped.Store(true)
		}
		if !ends {
			continue
		}
		if err := flush(); err != nil {
			return 0, err
		}
		if f.kind == stall {
			w.stall()
		}
		l.drop()
		return 0, errDropped
	}
	if err := flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeTime is how long a write may take behind a delay: the default of server.Timeouts.Write.
const writeTime = 5 * time.Minute

// faultsOf returns what faults do to a reply of so many octets.
func (l *line) faultsOf(st step, length int) (pause time.Duration, f *Fault) {
	o := st.occasion()
	if d := l.srv.faults.pick(delays, o); d != nil {
		pause = d.delay
	}
	if f = l.srv.faults.pick(onReplies, o); f != nil || pause > 0 {
		return pause, f
	}
	f = l.randomFault(length)
	if f != nil && f.kind == delay {
		return f.delay, nil
	}
	return 0, f
}

// alter returns what is sent in place of a reply, and whether it is the last.
func (l *line) alter(reply []byte, f *Fault) (text []byte, ends bool) {
	if f == nil {
		return reply, false
	}
	switch f.kind {
	case drop, stall:
		return nil, true
	case truncate:
		return reply[:min(int64(len(reply)), f.octet)], true
	case dropAfter:
		return reply, true
	case garble:
		return f.edit(bytes.Clone(reply)), false
	}
	return reply, false
}

// occasion returns the names of a reply.
func (st step) occasion() occasion {
	switch {
	case st.greeting:
		return occasion{names: []string{Greeting}}
	case st.content && st.verb == "DATA":
		return occasion{names: []string{Content}, args: st.args}
	case st.content:
		return occasion{names: []string{Content, st.verb}, args: st.args}
	}
	return occasion{names: []string{st.verb}, args: st.args}
}

// nextStep returns the step of the reply that is written now.
func (l *line) nextStep() step {
	l.mu.Lock()
	defer l.mu.Unlock()
	var st step
	if len(l.steps) > 0 { // a connection that is one too many gets a reply of which no trace tells
		st = l.steps[0]
		l.steps = l.steps[1:]
	}
	st.greeting = !l.greeted
	l.greeted = true
	return st
}

// begins notes that content follows the reply, if it does.
func (l *line) begins(st step) {
	if st.verb == "DATA" && st.code == 354 {
		l.log.beginContent()
		l.mu.Lock()
		l.content = true
		l.mu.Unlock()
	}
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

// room returns how many of n octets may be read, so that DropContent can act in time. It returns an error when it has
// acted.
func (l *line) room(n int) (int, error) {
	shortest, any := l.srv.faults.shortestContent()
	total, chunks := l.log.content()
	l.mu.Lock()
	active := l.content || chunks
	decide := active && !l.armed
	l.armed = active
	envelope := l.envelope
	l.mu.Unlock()
	if decide {
		f := l.srv.faults.pick(onContent, occasion{names: []string{Content}, args: envelope})
		l.mu.Lock()
		l.fatal = f
		l.mu.Unlock()
	}
	l.mu.Lock()
	f := l.fatal
	l.mu.Unlock()
	switch {
	case active && f != nil && total >= f.octet:
		l.drop()
		return 0, errDropped
	case active && f != nil:
		return int(min(int64(n), f.octet-total)), nil
	case !active && any:
		return int(min(int64(n), max(1, shortest))), nil
	}
	return n, nil
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

// guard is an extension that refuses commands.
func guard() ext.Extension {
	return ext.Extension{Guard: func(ctx context.Context, _ ext.ServerConn, v *proto.Verb, args string) error {
		if v == nil {
			return nil
		}
		return lineOf(ctx).refusal(occasion{names: []string{v.Name}, args: args})
	}}
}

// refusal returns the refusal of a fault, or nil.
func (l *line) refusal(o occasion) error {
	f := l.srv.faults.pick(refusals, o)
	if f == nil {
		f = l.randomRefusal()
	}
	if f == nil {
		return nil
	}
	return f.refusal()
}

// hideable returns x, which is not advertised while it is hidden.
func (s *Server) hideable(x ext.Extension) ext.Extension {
	if x.Keyword == "" {
		return x
	}
	advertise := x.Advertise
	x.Advertise = func(c ext.ServerConn) (string, bool) {
		if s.faults.isHidden(x.Keyword) {
			return "", false
		}
		if advertise == nil {
			return "", true
		}
		return advertise(c)
	}
	return x
}
