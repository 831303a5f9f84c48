package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Trace has functions that the server calls for what happens on its connections, for logs, metrics and spans. Any of
// them may be nil. The goroutine of the connection calls them and waits for them; replies that [RecipientData] reports
// may come from another goroutine, but never two at a time. For several connections they are called concurrently.
//
// The context is that of the connection. Its values are those of the context that ServeConn was given.
//
// Neither passwords nor messages pass through a Trace; "***" stands for them. Of a command that begins an exchange,
// such as AUTH, only the mechanism is shown: "PLAIN ***". Hidden are each line of the exchange, the text of each reply
// that carries it on, and what follows a verb that is Secret. A line that names no command is hidden as a whole: it may
// be a password which missed its exchange.
type Trace struct {
	// Refused is called for a connection that is over a limit, with the 421 that the client gets. Nothing else is called
	// for it.
	Refused func(ctx context.Context, c *Conn, e *proto.Error)
	// Limited is called when a client of an open connection is refused something by a limit that it shares with others,
	// such as Limits.MessagesPerMinute, with the refusal; and when Limits.Mails, Timeouts.Age, or a failed attempt to
	// authenticate that is over Limits.AuthFailuresPerHour ends the connection, with a 421.
	Limited func(ctx context.Context, c *Conn, e *proto.Error)
	// Connected is called when a connection has been accepted, before a TLS handshake and the greeting.
	Connected func(ctx context.Context, c *Conn)
	// Secured is called after each TLS handshake that succeeded.
	Secured func(ctx context.Context, c *Conn, state tls.ConnectionState)
	// Authenticated is called when an attempt to authenticate has ended, in success or not, before the reply to it.
	Authenticated func(ctx context.Context, c *Conn, o ext.AuthOutcome)
	// Command is called for each command line, and for each line of an exchange. The verb is in upper case, or "" if the
	// line is one of an exchange or names no command.
	Command func(ctx context.Context, c *Conn, verb, args string)
	// Reply is called for each reply. The verb is that of the command which the reply answers; it is "" for the greeting,
	// for the reply to a line that names no command, and for a 421 that answers nothing.
	Reply func(ctx context.Context, c *Conn, verb string, r proto.Reply)
	// Content is called for each message that was received to its end, whether accepted or not, with its size in octets
	// and the first reply to it.
	Content func(ctx context.Context, c *Conn, octets int64, r proto.Reply)
	// Transaction is called when a transaction is over, before Reset of the session.
	Transaction func(ctx context.Context, c *Conn, t *Transaction)
	// Verdict is called for what a check has found out about the client or the message; see [Conn.Record].
	Verdict func(ctx context.Context, c *Conn, v Verdict)
	// Closed is called when a connection has ended for which Connected was called. The error is that of
	// [Server.ServeConn]: nil if the client said QUIT.
	Closed func(ctx context.Context, c *Conn, err error)
}

// A Transaction is what the Trace is told of a transaction that is over.
type Transaction struct {
	From         proto.Address     // zero for the null reverse-path
	Params       proto.Params      // of MAIL
	To           []proto.Recipient // those accepted
	RcptsRefused int               // how many RCPT commands were refused
	Octets       int64             // of the content, if it arrived to its end
	Reply        proto.Reply       // the first one to the content; zero if none arrived to its end
	Began        time.Time         // when MAIL was accepted
	Verdicts     []Verdict         // those of [Conn.Verdicts]
}

// redacted stands for what may be secret.
const redacted = "***"

// A tracer calls the functions of a Trace for one connection.
type tracer struct {
	c         *Conn
	t         *Trace
	connected bool   // Connected was called, and Closed is due
	verb      string // of the command that is being answered; "" if none is
}

func (t *tracer) refused(e *proto.Error) {
	if t.t.Refused != nil {
		t.t.Refused(t.c.ctx, t.c, e)
	}
}

func (t *tracer) limited(e *proto.Error) {
	if t.t.Limited != nil {
		t.t.Limited(t.c.ctx, t.c, e)
	}
}

func (t *tracer) accepted() {
	t.connected = true
	t.c.srv.stats.conns.Add(1)
	t.c.log(slog.LevelDebug, "smtp: connected")
	if t.t.Connected != nil {
		t.t.Connected(t.c.ctx, t.c)
	}
}

func (t *tracer) secured() {
	if t.t.Secured != nil && t.c.link.tls != nil {
		t.t.Secured(t.c.ctx, t.c, *t.c.link.tls)
	}
}

func (t *tracer) authenticated(o ext.AuthOutcome) {
	if t.t.Authenticated != nil {
		t.t.Authenticated(t.c.ctx, t.c, o)
	}
}

// command is called for a command, for which answered has to be called when it has been answered.
func (t *tracer) command(ev *proto.Event) {
	t.verb = ""
	if ev.Verb != nil {
		t.verb = ev.Verb.Name
	}
	if t.t.Command == nil {
		return
	}
	args := redacted
	if ev.Verb != nil {
		args = ev.Verb.Redact(ev.Args)
	}
	t.t.Command(t.c.ctx, t.c, t.verb, args)
}

// line is called for a line of an exchange.
func (t *tracer) line() {
	if t.t.Command != nil {
		t.t.Command(t.c.ctx, t.c, "", redacted)
	}
}

func (t *tracer) reply(r proto.Reply) {
	if t.t.Reply == nil {
		return
	}
	if r.Code/100 == 3 && t.c.rx.State() == proto.Exchange {
		r.Text = redacted
	}
	t.t.Reply(t.c.ctx, t.c, t.verb, r)
}

func (t *tracer) answered() { t.verb = "" }

// begin returns what transaction fills in, nil if nobody wants it.
func (t *tracer) begin(from proto.Address, params proto.Params) *Transaction {
	if t.t.Transaction == nil && !t.c.srv.opt.Logger.Enabled(t.c.ctx, slog.LevelDebug) {
		return nil
	}
	return &Transaction{From: from, Params: params, Began: time.Now()}
}

// transaction tells of a transaction that is over.
func (t *tracer) transaction(a *Transaction) {
	t.c.log(slog.LevelDebug, "smtp: transaction", "from", a.From.String(), "rcpts", len(a.To), "refused", a.RcptsRefused,
		"octets", a.Octets, "code", a.Reply.Code, "text", a.Reply.Text, "took", time.Since(a.Began))
	if t.t.Transaction != nil {
		t.t.Transaction(t.c.ctx, t.c, a)
	}
}

func (t *tracer) content(octets int64, r proto.Reply) {
	if a := t.c.transaction.traced; a != nil {
		a.Octets, a.Reply = octets, r
	}
	if t.t.Content != nil {
		t.t.Content(t.c.ctx, t.c, octets, r)
	}
}

func (t *tracer) verdict(v Verdict) {
	if t.t.Verdict != nil {
		t.t.Verdict(t.c.ctx, t.c, v)
	}
}

func (t *tracer) closed(err error) {
	if t.connected {
		t.c.log(slog.LevelDebug, "smtp: closed", "err", err)
	}
	if t.connected && t.t.Closed != nil {
		t.t.Closed(t.c.ctx, t.c, err)
	}
}
