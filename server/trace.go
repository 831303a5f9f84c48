package server

import "smtpkit.example/smtp/proto"

// A Trace has functions that are told what happens on connections, for logs and metrics. Any of them may be nil. They
// are called by the goroutine of the connection, which waits for them, and concurrently for several connections. The
// lines of exchanges such as authentication never pass through a Trace, nor do messages.
type Trace struct {
	// Connect is called when a connection was accepted and, with implicit TLS, the handshake is done.
	Connect func(c *Conn)
	// Command is called for each command line. For a verb that begins an exchange or is Secret args is left out, and for a
	// line that names no verb both are: it may be a password that missed its exchange.
	Command func(c *Conn, verb, args string)
	// Reply is called for each reply, except those that carry on an exchange.
	Reply func(c *Conn, r proto.Reply)
	// Message is called for each message that was received to its end, with its size and the first reply to it.
	Message func(c *Conn, octets int64, r proto.Reply)
	// Disconnect is called when a connection ends for which Connect was called. The error is nil if the client said
	// QUIT.
	Disconnect func(c *Conn, err error)
}

// A tracer tells the Trace of the options what happens on a connection.
type tracer struct {
	c         *Conn
	t         *Trace
	connected bool // Connect was called
}

func (t *tracer) connect() {
	t.connected = true
	if t.t.Connect != nil {
		t.t.Connect(t.c)
	}
}

func (t *tracer) command(ev *proto.Event) {
	if t.t.Command == nil {
		return
	}
	verb, args := "", ""
	if ev.Verb != nil {
		verb = ev.Verb.Name
		if ev.Verb.More != proto.Exchange && !ev.Verb.Secret {
			args = string(ev.Args)
		}
	}
	t.t.Command(t.c, verb, args)
}

func (t *tracer) reply(r proto.Reply) {
	if t.t.Reply != nil && t.c.rx.State() != proto.Exchange {
		t.t.Reply(t.c, r)
	}
}

func (t *tracer) message(octets int64, r proto.Reply) {
	if t.t.Message != nil {
		t.t.Message(t.c, octets, r)
	}
}

func (t *tracer) disconnect(err error) {
	if t.connected && t.t.Disconnect != nil {
		t.t.Disconnect(t.c, err)
	}
}
