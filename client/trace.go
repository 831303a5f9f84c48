package client

import (
	"context"
	"crypto/tls"
	"errors"

	"smtpkit.example/smtp/proto"
)

// A Trace has functions that are called when something happens on a connection, for logs, metrics and tracing. Each may
// be nil.
//
// The goroutine that uses the client calls them and waits for them. A Trace that several clients share is called by
// several goroutines at once. Ctx is the context of the call in hand, such as that of Send, and c is the client: a
// function may call its accessors ([Client.Caps], [Client.TLS], [Client.Verified], [Client.Identity],
// [Client.LocalAddr], [Client.RemoteAddr]), and no other method of it.
//
// A Trace gets neither secrets nor the content of messages; "***" stands for them. Of a command that begins an
// exchange, such as AUTH, only the mechanism is shown: "PLAIN ***". Hidden are the lines of the exchange, the text of
// the replies that carry it on, and what follows a verb that is Secret.
//
// [DebugTrace] prints the dialogue, [LogTrace] hands it to a slog.Logger, and [JoinTraces] makes one Trace of several.
type Trace struct {
	// Connected is called when a connection was made, before anything is sent or received. A client may make several, one
	// after the other; see [Client.Send].
	Connected func(ctx context.Context, c *Client)
	// Secured is called after each TLS handshake that succeeded. Verified tells whether the certificate was verified.
	Secured func(ctx context.Context, c *Client, state tls.ConnectionState)
	// Command is called for each command that is about to be sent, with what follows the verb. For a line of an exchange
	// verb is "" and args is "***".
	Command func(ctx context.Context, c *Client, verb, args string)
	// Reply is called for each reply. Verb names the command that r answers: DATA, or the verb that carries chunks, where
	// r answers content; "" for the greeting and for a reply that answers nothing.
	Reply func(ctx context.Context, c *Client, verb string, r proto.Reply)
	// Content is called when the server has answered a message that was sent to its end: with the octets of the content as
	// they were transmitted, and the first reply to it.
	Content func(ctx context.Context, c *Client, octets int64, r proto.Reply)
	// Message is called when the client begins to send a message, with the context of the call; for a [Delivery] m is the
	// copy that is sent, and the context is that of NewDelivery. Message returns a function, or nil. That is called with
	// the outcome, once it is known, which can be after Closed. Outcomes come in the order of the messages. It must not
	// modify m or the result.
	Message func(ctx context.Context, c *Client, m *Message) func(*Result, error)
	// Closed is called when a connection has ended. The error is nil if the client ended it.
	Closed func(ctx context.Context, c *Client, err error)
}

const redacted = "***"

// A tracer calls the functions of a Trace for one connection.
type tracer struct {
	Trace
	client *Client
	secret bool // what is sent must not be traced until the exchange is over
}

func (t *tracer) connected(ctx context.Context) {
	if t.Connected != nil {
		t.Connected(ctx, t.client)
	}
}

func (t *tracer) secured(ctx context.Context, state tls.ConnectionState) {
	if t.Secured != nil {
		t.Secured(ctx, t.client, state)
	}
}

func (t *tracer) command(ctx context.Context, v *proto.Verb, args []byte) {
	if t.Command == nil {
		return
	}
	text := v.Redact(args)
	if text != "" && t.secret && v.More != proto.Exchange {
		text = redacted
	}
	t.Command(ctx, t.client, v.Name, text)
}

func (t *tracer) line(ctx context.Context) {
	if t.Command != nil {
		t.Command(ctx, t.client, "", redacted)
	}
}

// reply is called with the state that the reply has led to.
func (t *tracer) reply(ctx context.Context, v *proto.Verb, raw proto.RawReply, state proto.State) {
	if state != proto.Exchange {
		t.secret = false
	}
	if t.Reply == nil {
		return
	}
	verb := ""
	if v != nil {
		verb = v.Name
	}
	r := raw.Reply()
	if state == proto.Exchange {
		r.Text = redacted
	}
	t.Reply(ctx, t.client, verb, r)
}

// answer is reply for what e is about.
func (t *tracer) answer(ctx context.Context, e *expectation, raw proto.RawReply, state proto.State) {
	if of, ok := e.answerer.(interface {
		in(context.Context) context.Context
	}); ok && t.Reply != nil {
		ctx = of.in(ctx)
	}
	t.reply(ctx, e.verb, raw, state)
}

func (t *tracer) content(ctx context.Context, of *transaction, r proto.Reply) {
	if t.Content != nil {
		t.Content(of.in(ctx), t.client, of.octets, r)
	}
}

// message returns what is to be called with the outcome, or nil.
func (t *tracer) message(ctx context.Context, m *Message) func(*Result, error) {
	if t.Message == nil {
		return nil
	}
	if m.delivery != nil {
		ctx = m.delivery.ctx
	}
	return t.Message(ctx, t.client, m)
}

func (t *tracer) closed(ctx context.Context, err error) {
	if t.Closed == nil {
		return
	}
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	t.Closed(ctx, t.client, err)
}
