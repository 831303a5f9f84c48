package client

import (
	"context"
	"errors"
	"net"

	"smtpkit.example/smtp/ext"
)

// Why the client cannot make another connection.
var (
	errNoDialer = errors.New("the connection was made elsewhere: make another one, and a new client")
	errAltered  = errors.New("the session is not as Dial has made it, and a new one would be: dial again")
)

// connect makes a connection to an address of the server and the session on it ready to send. If the server does not
// greet, it goes on to the next address.
func (c *Client) connect(ctx context.Context, a *approach) error {
	for {
		raw, err := c.reach(ctx, a)
		if err != nil {
			return err
		}
		if err = c.open(ctx, raw); err == nil || c.conn.greeted {
			return err
		}
		if again, err := a.after(ctx, err); !again {
			return err
		}
	}
}

// reach makes a connection. Close ends it.
func (c *Client) reach(ctx context.Context, a *approach) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.stop.set(cancel)
	return a.connect(ctx)
}

// open makes raw the connection of the client, and the session on it ready to send. If there is an error, raw is
// closed.
func (c *Client) open(ctx context.Context, raw net.Conn) error {
	c.conn = newConn(c, raw)
	c.stop.set(func() { raw.Close() })
	return c.conn.open(ctx)
}

// renewable returns why there cannot be another connection, or nil.
func (c *Client) renewable() error {
	switch {
	case c.route == nil:
		return errNoDialer
	case c.conn.altered:
		return errAltered
	}
	return nil
}

// renew replaces the connection by a new one, because the server takes no more over this one.
func (c *Client) renew(ctx context.Context) error {
	if err := c.renewable(); err != nil {
		return err
	}
	old := c.conn
	old.quit(ctx)
	err := c.connect(ctx, &approach{route: c.route})
	if err == nil && (old.tls != nil && c.conn.tls == nil || old.verified && !c.conn.verified) {
		err = &ext.TLSError{Err: errWeaker}
		c.conn.quit(ctx)
	}
	switch {
	case err == nil:
		return nil
	case c.stop.isClosed():
		err = ErrClosed
	}
	c.conn.closed = err
	return err
}
