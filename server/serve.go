package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"smtpkit.example/smtp/proto"
)

// A course is what happens on a connection, from its beginning to its end.
type course struct{ *Conn }

// run serves the connection to its end. It returns what ServeConn returns.
func (c course) run(implicitTLS bool, refusal *proto.Error) (err error) {
	defer func() { err = c.leave() }() // also if the session calls runtime.Goexit
	c.srv.strained()
	if refusal != nil {
		c.protect(func() { c.turnAway(refusal, implicitTLS) })
		return nil
	}
	if !c.pump.until.IsZero() {
		defer c.setDeadline(c.pump.until)()
	}
	c.protect(func() {
		c.enterContext()
		c.serve(implicitTLS)
	})
	return nil
}

// leave ends the session and the connection, and returns why. Whatever is deferred happens even if the session calls
// runtime.Goexit meanwhile.
func (c course) leave() (err error) {
	defer c.srv.forget(c.Conn)
	defer c.cancel(io.ErrUnexpectedEOF)
	defer func() {
		c.body.data = nil
		c.loan.end()
		c.link.close(c.end.linger)
		err = c.end.reason(c.ctx)
		c.protect(func() { c.trace.closed(err) })
	}()
	defer c.protect(func() { c.session.close(c.Conn) })
	defer c.protect(func() { c.transaction.finish(c.Conn) })
	c.background.end()
	c.replies.flush() // what is due, such as the reply to a message that was accepted
	return nil
}

// enterContext has Options.ConnContext choose the context.
func (c course) enterContext() {
	if f := c.srv.opt.ConnContext; f != nil {
		ctx := f(c.ctx, c.Conn)
		if ctx == nil {
			panic("smtp: Options.ConnContext has returned nil: it has to return a context")
		}
		c.ctx = ctx
	}
}

// setDeadline makes the context of the connection end at d. It returns a function to be called when the connection has
// ended.
func (c course) setDeadline(d time.Time) (stop context.CancelFunc) {
	c.ctx, stop = context.WithDeadlineCause(c.ctx, d, os.ErrDeadlineExceeded)
	return stop
}

// begin makes the TLS handshake, if there is to be one, and greets the client. It reports false if the connection is at
// its end.
func (c course) begin(implicitTLS bool) bool {
	_, handshakes := c.link.raw.(interface{ HandshakeContext(context.Context) error })
	c.link.awaitsTLS = implicitTLS || handshakes
	c.trace.accepted()
	if err := c.handshake(implicitTLS); err != nil {
		if err != errHandshakes { // of which the log has heard
			c.log(slog.LevelInfo, "smtp: TLS handshake failed", "err", err)
			c.srv.stats.handshakesFailed.Add(1)
		}
		c.disconnect(err)
		return false
	}
	c.replies.setStatus(c.srv.statusCodes)
	t := turns(c)
	if !t.awaitSilence() {
		return false
	}
	r := c.greet()
	if c.background.n > 0 && !t.early(beforeGreeting, nil) {
		return false
	}
	c.replies.send(r)
	c.checkShutdown()
	return true
}

// turnAway refuses a connection that is one too many, without a session.
func (c course) turnAway(e *proto.Error, implicitTLS bool) {
	c.end.because(e)
	c.log(slog.LevelInfo, "smtp: connection refused", "why", e.Text)
	c.srv.stats.connsRefused.Add(1)
	c.trace.refused(e)
	if implicitTLS {
		return
	}
	r := e.Reply()
	r.Text = c.srv.opt.Hostname + " " + r.Text
	_ = c.link.nc.SetDeadline(time.Now().Add(refuseTimeout)) // a listener's TLS reads before it writes
	_ = c.link.write(proto.AppendReply(nil, r, false, false), refuseTimeout)
}

// serve deals with what the client sends, until the connection ends.
func (c course) serve(implicitTLS bool) {
	for ok := c.begin(implicitTLS); ok && c.work(); {
		c.pump.fill(false)
	}
}

// work deals with what has arrived. It reports false if the connection is at its end. Reading is left to serve, because
// a goroutine that waits needs the less stack the fewer calls lead there.
func (c course) work() bool {
	for {
		ev := c.pump.poll(false)
		switch ev.Kind {
		case proto.NeedInput:
			return true
		case proto.Command:
			c.commands.handle(&ev)
		case proto.Fatal:
			c.giveUp(ev.Err)
		case proto.End:
			c.replies.flush()
			return false
		default:
			// The engine and this package disagree.
			err := fmt.Errorf("smtp: unexpected event %d in state %v", ev.Kind, c.rx.State())
			c.log(slog.LevelError, "smtp: internal error", "err", err)
			c.disconnect(err)
		}
		c.checkShutdown()
	}
}

// checkShutdown ends the connection if the server is shutting down, or the connection too old, and no transaction is
// open.
func (c course) checkShutdown() {
	if c.rx.State()&(proto.Transaction|proto.Closed) == 0 && c.end.err == nil && c.srv.closing.Load() {
		c.close421(errShutdown)
	}
	if c.end.err == nil && c.pump.isOld() {
		c.endOfAge()
	}
}

// protect calls f. A panic in it, which may come from the session or an extension, ends the connection and nothing
// else.
func (c course) protect(f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		stack := debug.Stack()
		if elsewhere, ok := v.(crash); ok {
			v, stack = elsewhere.value, elsewhere.stack
		}
		c.background.stop()
		c.srv.stats.panics.Add(1)
		c.log(slog.LevelError, "smtp: panic, closing the connection", "panic", v, "stack", string(stack))
		c.close421(errInternal)
	}()
	f()
}

// greet has the backend make a session, and returns the greeting.
func (c course) greet() proto.Reply {
	host := c.srv.opt.Hostname
	if c.session, c.greeting.refusal = makeSession(c.Conn); c.greeting.refusal != nil {
		r := c.greeting.refusal.Reply()
		r.Text = host + " " + r.Text
		return r
	}
	return proto.Reply{Code: 220, Text: host + greetings[c.srv.opt.Protocol]}
}

var greetings = [...]string{proto.SMTP: " ESMTP ready", proto.LMTP: " LMTP ready"}
