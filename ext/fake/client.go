package fake

import (
	"context"
	"crypto/tls"
	"net"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

var (
	_ ext.Client      = (*Client)(nil)
	_ ext.Negotiation = (*Client)(nil)
)

// A ClientState is what an extension can learn of a connection to a server from the client's end. Each field is the
// result of the method of [ext.ClientConn] that has the field's name.
type ClientState struct {
	// Caps is what the server advertised; see the function [Caps]. It is nothing by default.
	Caps proto.Caps
	// Policy is what the user of the client asked for. If its TLSConfig is nil, the method returns one with the ServerName
	// "mail.example".
	Policy ext.Policy
	// TLS is nil by default, for a connection in plaintext.
	TLS *tls.ConnectionState
	// Verified is false by default.
	Verified bool
	// Identity is "" by default. Authenticated sets it.
	Identity string
}

// A Client is the client's end of a connection to a scripted server that exists only in a test. It is an [ext.Client],
// an [ext.ClientConn] and an [ext.Negotiation]. Its methods record what the extension did.
type Client struct {
	// Conn is the state of the connection.
	Conn ClientState
	// Replies are the server's, in order, whatever the extension sends. Do and Line take the first.
	Replies []proto.Reply
	// NetConn is the connection that Handover passes on.
	NetConn net.Conn

	// Sent has the lines that the extension sent, without CRLF.
	Sent []string
	// Redacted is true after Secret.
	Redacted bool
	// Next is the connection on which the client goes on after Handover. It is nil if Handover's function closed it.
	Next net.Conn
}

// Caps returns Conn.Caps.
func (c *Client) Caps() proto.Caps { return c.Conn.Caps }

// Policy returns Conn.Policy.
func (c *Client) Policy() ext.Policy {
	p := c.Conn.Policy
	if p.TLSConfig == nil {
		p.TLSConfig = &tls.Config{ServerName: "mail.example"}
	}
	return p
}

// TLS returns Conn.TLS.
func (c *Client) TLS() *tls.ConnectionState { return c.Conn.TLS }

// Verified returns Conn.Verified.
func (c *Client) Verified() bool { return c.Conn.Verified }

// Identity returns Conn.Identity.
func (c *Client) Identity() string { return c.Conn.Identity }

// Secret sets Redacted.
func (c *Client) Secret() { c.Redacted = true }

// Authenticated sets Conn.Identity.
func (c *Client) Authenticated(identity string) { c.Conn.Identity = identity }

// Do appends the command to Sent and returns the first of Replies, which it removes. It returns [ErrHungUp] if there is
// none.
func (c *Client) Do(ctx context.Context, verb, args string) (proto.Reply, error) {
	if args != "" {
		verb += " " + args
	}
	return c.Line(ctx, verb)
}

// Line appends line to Sent and returns the first of Replies, which it removes. It returns [ErrHungUp] if there is
// none.
func (c *Client) Line(_ context.Context, line string) (proto.Reply, error) {
	c.Sent = append(c.Sent, line)
	if len(c.Replies) == 0 {
		return proto.Reply{}, ErrHungUp
	}
	r := c.Replies[0]
	c.Replies = c.Replies[1:]
	return r, nil
}

// Converse calls f with c.
func (c *Client) Converse(ctx context.Context, f func(context.Context, ext.ClientConn) error) error {
	return f(ctx, c)
}

// Handover calls take with NetConn. It sets Next to the connection that take returns.
func (c *Client) Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	var err error
	c.Next, err = take(ctx, c.NetConn)
	return err
}
