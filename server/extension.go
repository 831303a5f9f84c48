package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// extension has an extension serve one of its verbs.
func (m *commands) extension(ev proto.Event, e *ext.Extension) {
	c := m.c
	if e.Serve == nil {
		m.answer(ev.Verb, errNotServed.Reply())
		return
	}
	x := &m.command
	*x = extCommand{Conn: c, verb: ev.Verb, args: string(ev.Args)}
	if ev.Payload >= 0 && !m.skipPayload(ev.Payload, errNotServed) {
		return // there is no way to get at the payload other than as a chunk
	}
	c.background.start()
	r, err := e.Serve(c.ctx, x)
	c.background.stop()
	switch {
	case c.end.err != nil:
	case x.handedOver:
		c.finishTransaction()
		c.closeSession()
		c.makeSession()
	default:
		if err == nil {
			r = c.replies.chosen(e.Keyword, r, okPlain)
		} else {
			r = c.replies.refused(e.Keyword, err)
		}
		c.rx.SetStatus(c.replies.status && !x.greets) // RFC 2034 section 4: not in a greeting
		m.answer(x.verb, r)
		c.rx.SetStatus(c.replies.status)
		c.replies.utf8 = false
	}
}

// An extCommand is a command that an extension serves. A connection has one, since it carries out one command at a time.
type extCommand struct {
	*Conn
	verb       *proto.Verb
	args       string
	handedOver bool // the connection was handed over, and the session begins anew
	startsTLS  bool // the extension has asked for the configuration of TLS
	greets     bool // the reply is a greeting
}

var _ ext.Command = (*extCommand)(nil)

func (x *extCommand) Verb() *proto.Verb { return x.verb }

func (x *extCommand) Args() string { return x.args }

func (x *extCommand) Authenticated(identity string) { x.greeting.identity = identity }

func (x *extCommand) AuthFailed() int {
	x.budget.authFailures++
	return x.budget.authFailures
}

func (x *extCommand) PermitUTF8() { x.replies.utf8 = true }

func (x *extCommand) TLSConfig() *tls.Config {
	x.startsTLS = true
	return x.Conn.TLSConfig()
}

func (x *extCommand) Table() *proto.Table { return x.srv.set.Table() }

func (x *extCommand) Serves(v *proto.Verb) bool {
	e, i := x.srv.set.Owner(v)
	if e == nil {
		return true
	}
	o, _ := x.srv.set.Offer(x)
	return o.Has(i)
}

func (x *extCommand) Challenge(_ context.Context, r proto.Reply) (string, error) {
	c := x.Conn
	c.background.stop()
	defer c.background.start()
	if err := x.send(r, proto.Exchange); err != nil {
		return "", err
	}
	switch ev := c.pump.next(false); {
	case ev.Kind == proto.Line:
		c.trace.line()
		if ev.Err != nil {
			return "", ev.Err
		}
		return string(ev.Data), nil
	case ev.Kind == proto.Fatal:
		c.closeWith(ev.Err.Reply(), 0)
	}
	return "", x.lost()
}

// send sends r, which must lead to the state s.
func (x *extCommand) send(r proto.Reply, s proto.State) error {
	c := x.Conn
	if c.end.err != nil {
		return x.lost()
	}
	if next, ok := x.verb.After(x.verb.In, r.Code); !ok || next != s {
		return fmt.Errorf("smtp: the reply %d to %s does not lead to %v: look at the row of the verb",
			r.Code, x.verb.Name, s)
	}
	out, err := c.rx.AppendReply(c.replies.out, r)
	if err != nil {
		return fmt.Errorf("smtp: the reply %d to %s: %w", r.Code, x.verb.Name, err)
	}
	c.replies.out = out
	c.trace.reply(r)
	c.replies.flush()
	if c.end.err != nil {
		return x.lost()
	}
	return nil
}

// lost returns why the connection is at its end.
func (x *extCommand) lost() error {
	if e := asError(x.end.err); e != nil {
		return e
	}
	return io.ErrUnexpectedEOF
}

type takeFunc = func(context.Context, net.Conn) (net.Conn, error)

func (x *extCommand) Handover(_ context.Context, r proto.Reply, take takeFunc) error {
	c := x.Conn
	c.background.stop()
	defer c.background.start()
	if err := x.send(r, proto.Handover); err != nil {
		return err
	}
	nc, err := x.hand(take)
	if err != nil {
		// A reply now would travel in plaintext, to whoever is listening.
		msg := "smtp: hand-over failed"
		if x.startsTLS {
			msg = "smtp: TLS handshake failed"
		}
		c.log(slog.LevelInfo, msg, "verb", x.verb.Name, "err", err)
		c.disconnect(fmt.Errorf("smtp: %s: %w", x.verb.Name, err))
		return err
	}
	wasTLS := c.link.tls != nil
	c.link.use(nc)
	c.rx.Restart(proto.Hello)
	c.replies.setStatus(c.srv.statusCodes)
	c.greeting = c.greeting.insideTLS()
	if x.startsTLS || !wasTLS {
		c.trace.secured()
	}
	x.handedOver = true
	return nil
}

func (x *extCommand) Restart(_ context.Context, o *ext.Origin) (proto.Reply, error) {
	c := x.Conn
	if next, _ := x.verb.After(x.verb.In, 220); next != proto.Hello {
		return proto.Reply{}, fmt.Errorf("smtp: the session cannot begin anew after %s: its success does not lead to %v",
			x.verb.Name, proto.Hello)
	}
	c.background.stop()
	defer c.background.start()
	c.finishTransaction()
	c.closeSession()
	c.greeting = ofOrigin(o)
	c.replies.setStatus(c.srv.statusCodes)
	x.greets = true
	r := c.greet()
	if isRefusal(r.Code) {
		return proto.Reply{}, r.Err()
	}
	return r, nil
}

func (x *extCommand) Surrender(_ context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error {
	c := x.Conn
	c.background.stop()
	if err := x.send(r, proto.Handover); err != nil {
		return err
	}
	_ = c.link.nc.SetDeadline(time.Time{})
	err := serve(c.ctx, x.rest())
	if err == nil {
		c.end.quit = true
		c.disconnect(errSurrendered)
		return nil
	}
	c.log(slog.LevelInfo, "smtp: the connection given away failed", "verb", x.verb.Name, "err", err)
	c.disconnect(fmt.Errorf("smtp: %s: %w", x.verb.Name, err))
	return err
}

// errSurrendered is why a connection is at its end that was given away.
var errSurrendered = errors.New("smtp: the connection was given away")

// hand calls take with the connection.
func (x *extCommand) hand(take takeFunc) (net.Conn, error) {
	c := x.Conn
	ctx, done, err := c.beginHandshake()
	if err != nil {
		return nil, err
	}
	defer done()
	var deadline time.Time
	if t := c.srv.opt.Timeouts.Handshake; t > 0 {
		deadline = time.Now().Add(t)
	}
	_ = c.link.nc.SetDeadline(deadline)
	given := &handshakeConn{x.rest(), &c.link}
	next, err := take(ctx, given)
	if next == net.Conn(given) {
		next = given.Conn
	}
	if err == nil && next == nil {
		err = errors.New("smtp: the connection was not given back")
	}
	if err == nil {
		_ = c.link.nc.SetDeadline(time.Time{})
	}
	return next, err
}

// rest returns the connection, which reads first what was read of it already.
func (x *extCommand) rest() net.Conn {
	c := x.Conn
	if first := append(c.rx.Leftover(), c.background.leftover()...); len(first) > 0 {
		return ext.PrefixConn(c.link.nc, first)
	}
	return c.link.nc
}
