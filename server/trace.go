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

func (c *Conn) traceCommand(ev *proto.Event) {
	if c.srv.opt.Trace.Command == nil {
		return
	}
	verb, args := "", ""
	if ev.Verb != nil {
		verb = ev.Verb.Name
		if ev.Verb.More != proto.Exchange && !ev.Verb.Secret {
			args = string(ev.Args)
		}
	}
	c.srv.opt.Trace.Command(c, verb, args)
}

func (c *Conn) traceReply(r proto.Reply) {
	if c.srv.opt.Trace.Reply != nil && c.rx.State() != proto.Exchange {
		c.srv.opt.Trace.Reply(c, r)
	}
}
