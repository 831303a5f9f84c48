package client

import (
	"crypto/tls"
	"net"

	"smtpkit.example/smtp/proto"
)

// A Trace has functions that are told what happens on a connection, for logs and metrics. Any of them may be nil. They are
// called by the goroutine that uses the client, which waits for them. Neither what is secret nor the octets of a message
// pass through a Trace.
type Trace struct {
	// Connected is called when a connection has been made. The addresses can be nil.
	Connected func(local, remote net.Addr)
	// TLS is called after each handshake. Verified reports whether the certificate was verified.
	TLS func(state tls.ConnectionState, verified bool)
	// Sent is called for each command line, without its CRLF, when it is about to be sent. What follows the verb of a
	// command that begins an exchange, such as authentication, is replaced by "***", and so is each line of it, and what
	// follows a verb that is Secret.
	Sent func(line string)
	// Content is called when content has been sent, or a chunk of it, with the number of octets.
	Content func(octets int64)
	// Received is called for each reply. The text of one that carries on an exchange is replaced by "***".
	Received func(r proto.Reply)
	// Closed is called when the connection ends. The error is nil after Close.
	Closed func(err error)
}

const redacted = "***"

func (c *Client) traceCommand(v *proto.Verb, args []byte) {
	if c.cfg.trace.Sent == nil {
		return
	}
	line := v.Name
	switch {
	case len(args) == 0:
	case c.secret || v.Secret || v.More == proto.Exchange:
		line += " " + redacted
	default:
		line += " " + string(args)
	}
	c.cfg.trace.Sent(line)
}

func (c *Client) traceLine() {
	if c.cfg.trace.Sent != nil {
		c.cfg.trace.Sent(redacted)
	}
}

func (c *Client) traceReply(raw proto.RawReply) {
	if c.cfg.trace.Received == nil {
		return
	}
	r := raw.Reply()
	if c.tx.State() == proto.Exchange {
		r.Text = redacted
	}
	c.cfg.trace.Received(r)
}

func (c *Client) traceContent(octets int64) {
	if c.cfg.trace.Content != nil {
		c.cfg.trace.Content(octets)
	}
}
