package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// extension has an extension serve one of its verbs.
func (m *commands) extension(ev *proto.Event, e *ext.Extension) {
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
	defer func() { c.replies.utf8 = false }() // what the client permitted, it permitted in the reply to this command
	c.background.start()
	r, err := e.Serve(c.ctx, x)
	c.background.stop()
	switch {
	case c.end.err != nil:
	case x.handedOver:
		c.transaction.finish(c)
		c.session.close(c)
		c.session, c.greeting.refusal = makeSession(c)
	default:
		if err == nil {
			r = c.replies.chosen(e.Keyword, r, okPlain)
		} else {
			r = c.replies.refused(e.Keyword, x.withoutOutcome(err))
		}
		c.rx.SetStatus(c.replies.status && !x.greets) // RFC 2034 section 4: not in a greeting
		m.answer(x.verb, r)
		c.rx.SetStatus(c.replies.status)
	}
}

// An extCommand is a command that an extension serves. A connection has one, since it carries out one command at a
// time.
type extCommand struct {
	*Conn
	verb       *proto.Verb
	args       string
	handedOver bool // the connection was handed over, and the session begins anew
	startsTLS  bool // the extension has asked for the configuration of TLS
	greets     bool // the reply is a greeting
	told       bool // an outcome of an attempt to authenticate was logged, with the reason
}

var _ ext.Command = (*extCommand)(nil)

func (x *extCommand) Verb() *proto.Verb { return x.verb }

func (x *extCommand) Args() string { return x.args }

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
		c.giveUp(ev.Err)
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
