package pool

import (
	"cmp"
	"time"

	"smtpkit.example/smtp/client"
)

// Options are the options of a [Group], or of a [Pool] made by [New]. The zero value is ready to use, and nil stands
// for it. In all fields zero means the default, and a negative value means no bound.
type Options struct {
	// MaxConns is how many connections there are at once, to all servers. Default 100.
	MaxConns int
	// MaxConnsPerHost is how many connections there are at once to one server. Default 4. Many servers allow a client ten
	// or fewer.
	MaxConnsPerHost int
	// MaxMessages is how many messages are sent over a connection. Default 1000, after which Exim closes one
	// (smtp_accept_max_per_connection). A server that has another bound says 421; what it refuses so is sent over another
	// connection.
	MaxMessages int
	// MaxAge is for how long a connection gets messages. Default 10 minutes. The credentials are asked for again with each
	// new connection.
	MaxAge time.Duration
	// IdleTimeout is after what time without a message a connection is closed. Default 30 seconds. Servers have to wait
	// for 5 minutes (RFC 5321 section 4.5.3.2.7), and many do not.
	IdleTimeout time.Duration
	// Pause is for how long no more connections than there are made to a server that has refused one. Default 30 seconds.
	// A negative value means no pause.
	Pause time.Duration
	// Trace has functions that are called when something happens in the pool. That which happens on a connection is told
	// by the Trace of client.Options.
	Trace *Trace
}

// A Trace has functions that are called when something happens in a pool. Each may be nil. They are called by several
// goroutines at once, and must not use the pool.
type Trace struct {
	// Opened is called when a connection to addr was made, or could not be made. C is nil then.
	Opened func(addr string, c *client.Client, err error)
	// Closed is called when a connection gets no more messages and has been closed. Err is nil if the pool has closed it:
	// it had nothing to do, had sent its messages, or was old.
	Closed func(addr string, err error)
	// Replaced is called when m is sent over another connection, because that of the first attempt turned out to be dead.
	Replaced func(addr string, m *client.Message, err error)
	// Limited is called when the server has refused a connection or a message with 421, so that the pool keeps to conns
	// connections for a while.
	Limited func(addr string, conns int, err error)
}

func (o *Options) withDefaults() Options {
	var with Options
	if o != nil {
		with = *o
	}
	with.MaxConns = cmp.Or(with.MaxConns, 100)
	with.MaxConnsPerHost = cmp.Or(with.MaxConnsPerHost, 4)
	with.MaxMessages = cmp.Or(with.MaxMessages, 1000)
	with.MaxAge = cmp.Or(with.MaxAge, 10*time.Minute)
	with.IdleTimeout = cmp.Or(with.IdleTimeout, 30*time.Second)
	with.Pause = cmp.Or(with.Pause, 30*time.Second)
	if with.Trace == nil {
		with.Trace = &Trace{}
	}
	return with
}

func (t *Trace) opened(addr string, c *client.Client, err error) {
	if t.Opened != nil {
		t.Opened(addr, c, err)
	}
}

func (t *Trace) closed(addr string, err error) {
	if t.Closed != nil {
		t.Closed(addr, err)
	}
}

func (t *Trace) replaced(addr string, m *client.Message, err error) {
	if t.Replaced != nil {
		t.Replaced(addr, m, err)
	}
}

func (t *Trace) limited(addr string, conns int, err error) {
	if t.Limited != nil && err != nil {
		t.Limited(addr, conns, err)
	}
}
