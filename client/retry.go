package client

import "context"

// A Sender sends messages. It is a [Client], a pool of them, or whatever a [SenderFunc] does.
type Sender interface {
	// Send sends m. The result tells the outcome for each recipient, in the order of m.To. The error is nil if all
	// recipients were accepted, and otherwise a *SendError with the same result.
	Send(ctx context.Context, m *Message) (*Result, error)
}

// A SenderFunc is a function as a [Sender].
type SenderFunc func(ctx context.Context, m *Message) (*Result, error)

// Send calls f.
func (f SenderFunc) Send(ctx context.Context, m *Message) (*Result, error) { return f(ctx, m) }

// DialSender returns a [Sender] that makes a connection for each message, as the function [Send] does. Addr and opt are
// those of [Dial]. If no session came about, each recipient has the error of Dial. Several goroutines may use the
// Sender at once: each call has a connection of its own.
func DialSender(addr string, opt *Options) Sender {
	return SenderFunc(func(ctx context.Context, m *Message) (*Result, error) {
		if m == nil {
			m = &Message{} // which has no recipients
		}
		c, err := Dial(ctx, addr, opt)
		if err != nil {
			return unsent(m, err)
		}
		defer func() { c.conn.quit(ctx) }() // the connection that the client has then: renew replaces it
		return c.Send(ctx, m)
	})
}
