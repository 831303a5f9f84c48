package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"time"

	"smtpkit.example/smtp/proto"
)

// run carries on the connection to its end.
func (c *Conn) run(implicit bool, refusal *proto.Error) (err error) {
	defer c.srv.forget(c)
	defer func() {
		// This is the way out when a session calls runtime.Goexit, too.
		c.watch.disarm()
		c.guard(c.endTransaction)
		c.guard(c.endSession)
		c.close()
		err = c.reason()
		if c.connected && c.srv.opt.Trace.Disconnect != nil {
			c.guard(func() { c.srv.opt.Trace.Disconnect(c, err) })
		}
		c.cancel(io.ErrUnexpectedEOF)
	}()
	if refusal != nil {
		c.turnAway(refusal, implicit)
		return nil
	}
	if !c.until.IsZero() {
		var stop context.CancelFunc
		c.ctx, stop = context.WithDeadlineCause(c.ctx, c.until, os.ErrDeadlineExceeded)
		defer stop()
	}
	if err := c.handshake(implicit); err != nil {
		c.srv.opt.Logger.Info("smtp: TLS handshake failed", "remote", addrString(c.raw), "err", err)
		c.end(err)
		return nil
	}
	c.guard(c.serve)
	return nil
}

// serve carries on the session.
func (c *Conn) serve() {
	c.connected = true
	if c.srv.opt.Trace.Connect != nil {
		c.srv.opt.Trace.Connect(c)
	}
	c.setStatus(c.srv.status)
	c.greet()
	c.pump()
}

// guard calls f. A panic in it, which may be the session's or an extension's, ends the connection and nothing else.
func (c *Conn) guard(f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		c.watch.disarm()
		c.srv.opt.Logger.Error("smtp: panic, closing the connection", "remote", addrString(c.raw), "panic", v,
			"stack", string(debug.Stack()))
		c.dismiss(errInternal)
	}()
	f()
}

// reason returns what ServeConn returns.
func (c *Conn) reason() error {
	cause := context.Cause(c.ctx)
	switch {
	case c.quit:
		return nil
	case errors.Is(c.err, errShutdown):
		return ErrServerClosed
	case cause != nil && cause != io.ErrUnexpectedEOF && cause != os.ErrDeadlineExceeded:
		return cause
	case c.err != nil:
		return c.err
	}
	return c.bye
}

func addrString(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// turnAway refuses a connection that is one too many.
func (c *Conn) turnAway(e *proto.Error, implicit bool) {
	c.err = e
	c.srv.opt.Logger.Info("smtp: connection refused", "remote", addrString(c.raw), "why", e.Text)
	if implicit {
		return
	}
	r := e.Reply()
	r.Text = c.srv.opt.Hostname + " " + r.Text
	_ = c.nc.SetWriteDeadline(time.Now().Add(refuseTimeout))
	_, _ = c.nc.Write(proto.AppendReply(nil, r, false, false))
}

// handshake makes the TLS handshake of a connection that begins with one.
func (c *Conn) handshake(implicit bool) error {
	nc := c.raw
	if implicit {
		nc = tls.Server(&showing{nc, c}, c.srv.tlsConfig)
	}
	t, ok := nc.(interface{ HandshakeContext(context.Context) error })
	if !ok {
		return nil
	}
	if !c.shake(true) {
		return errShutdown
	}
	defer c.shake(false)
	ctx, cancel := c.handshakeContext()
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("smtp: TLS handshake: %w", err)
	}
	c.use(nc)
	return nil
}

// shake notes that a handshake begins or is over. It reports false if the server is shutting down.
func (c *Conn) shake(on bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shaking = on
	return !c.srv.closing.Load()
}

func (c *Conn) handshakeContext() (context.Context, context.CancelFunc) {
	if c.srv.opt.HandshakeTimeout > 0 {
		return context.WithTimeout(c.ctx, c.srv.opt.HandshakeTimeout)
	}
	return context.WithCancel(c.ctx)
}

// greet makes a session and greets the client.
func (c *Conn) greet() { c.reply(c.begin()) }

// begin makes a session and returns the greeting.
func (c *Conn) begin() proto.Reply {
	host := c.srv.opt.Hostname
	if e := c.newSession(); e != nil {
		c.refusal = e
		r := e.Reply()
		r.Text = host + " " + r.Text
		return r
	}
	return proto.Reply{Code: 220, Text: host + greetings[c.srv.opt.Protocol]}
}

var greetings = [...]string{proto.SMTP: " ESMTP ready", proto.LMTP: " LMTP ready"}

// pump deals with what the client sends, until the session is over.
func (c *Conn) pump() {
	for {
		if c.rx.State()&(proto.Transaction|proto.Closed) == 0 && c.err == nil && c.srv.closing.Load() {
			c.dismiss(errShutdown)
		}
		ev := c.next(false)
		switch ev.Kind {
		case proto.Command:
			c.command(ev)
		case proto.Fatal:
			c.fatal(ev)
		case proto.End:
			c.flush()
			return
		default:
			// The engine and this package disagree.
			c.err = fmt.Errorf("smtp: unexpected event %d in state %v", ev.Kind, c.rx.State())
			c.srv.opt.Logger.Error("smtp: internal error", "err", c.err)
		}
	}
}

// next returns the next event that is not NeedInput, having read what it takes. Over means that there will be no
// more; c.err says why if it was not in the course of the protocol.
func (c *Conn) next(content bool) proto.Event {
	for c.err == nil {
		ev := c.rx.Next()
		if ev.Kind != proto.NeedInput {
			if !content {
				c.deadline = time.Time{}
			}
			return ev
		}
		c.flush()
		if c.err != nil {
			break
		}
		c.fill(content)
	}
	return proto.Event{Kind: proto.End}
}

// fill reads.
func (c *Conn) fill(content bool) {
	if !content && !c.open {
		c.body.giveBack()
	}
	space := c.rx.Space()
	n, err := c.watch.take(space)
	if n == 0 && err == nil {
		now := time.Now()
		if !c.await(c.readDeadline(now, content), content) {
			c.dismiss(errShutdown)
			return
		}
		n, err = c.read(space)
		c.awaited()
		if (content || c.body.active) && n > 0 && c.body.slow(n, time.Since(now)) {
			err = errTooSlow
		}
	}
	c.rx.Filled(n)
	switch {
	case err == nil || n > 0 && err != errTooSlow:
	case err == errTooSlow:
		c.dismiss(errTooSlow)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.timeout()
	default:
		c.lost(err)
	}
}

// read reads. It does not return without an octet or an error.
func (c *Conn) read(p []byte) (int, error) {
	for range 100 {
		if n, err := c.nc.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// readDeadline returns when the read that begins now has to be over. The time for a command line runs from when it
// began to be waited for, however it dribbles in.
func (c *Conn) readDeadline(now time.Time, content bool) time.Time {
	var d time.Time
	switch {
	case content:
		if t := c.srv.opt.ContentTimeout; t > 0 {
			d = now.Add(t)
		}
	case c.srv.opt.CommandTimeout > 0:
		if c.deadline.IsZero() {
			c.deadline = now.Add(c.srv.opt.CommandTimeout)
		}
		d = c.deadline
	}
	if c.lingering(content) {
		d = earlier(d, c.srv.lastCommand)
	}
	return earlier(d, c.until)
}

// lingering reports whether the server is shutting down and the client has a transaction open into which no content has
// come yet. It has so long to go on with it.
func (c *Conn) lingering(content bool) bool {
	return !content && c.srv.closing.Load() && c.rx.State()&(proto.Mail|proto.Rcpt|proto.Broken) != 0
}

// earlier returns the earlier of two times, of which a zero one is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// await prepares a read that has to be over at d. It reports false if the server is shutting down and the connection
// has nothing in hand.
func (c *Conn) await(d time.Time, content bool) bool {
	idle := c.rx.State()&proto.Transaction == 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if idle && c.srv.closing.Load() {
		return false
	}
	c.idle, c.between = idle, !idle && !content && c.rx.State() != proto.Chunks
	if c.lingering(content) {
		d = earlier(d, c.srv.lastCommand) // the shut-down may have begun since d was found
	}
	_ = c.nc.SetReadDeadline(d)
	return true
}

func (c *Conn) awaited() {
	c.mu.Lock()
	c.idle, c.between = false, false
	c.mu.Unlock()
}

// timeout ends the connection because a read took too long, or because Shutdown interrupted it.
func (c *Conn) timeout() {
	if c.srv.closing.Load() && c.rx.State()&(proto.Content|proto.Chunks) == 0 {
		c.dismiss(errShutdown)
		return
	}
	c.dismiss(errTimeout)
	c.cancel(os.ErrDeadlineExceeded)
}

// dismiss ends the connection with the reply e, a 421, which answers whatever has not been answered yet.
func (c *Conn) dismiss(e *proto.Error) {
	if c.err == nil && c.rx.State()&(proto.Closed|proto.Handover) == 0 {
		c.reply(e.Reply())
		c.flush()
		c.linger = e != errShutdown && e != errTimeout || c.rx.Buffered() > 0
	}
	c.end(e)
}

// end puts the connection to its end because of err, unless it is there already.
func (c *Conn) end(err error) {
	if c.err == nil {
		c.err = err
	}
}

// lost ends the connection because it cannot be read or written.
func (c *Conn) lost(err error) {
	c.end(err)
	c.out = c.out[:0]
	c.cancel(io.ErrUnexpectedEOF)
}

// fatal ends the connection because what the client sends cannot be understood.
func (c *Conn) fatal(ev proto.Event) {
	c.reply(ev.Err.Reply())
	c.flush()
	c.linger = true
	c.end(ev.Err)
}

// reply answers the command in hand, with as many replies as it still has to get.
func (c *Conn) reply(r proto.Reply) {
	for more := true; more && c.err == nil; more = c.rx.Due() > 0 {
		c.replyOnce(r)
	}
}

func (c *Conn) replyOnce(r proto.Reply) {
	r = c.withoutUTF8(r)
	out, err := c.rx.AppendReply(c.out, r)
	if err != nil {
		// Only a row of an extension's verb that does not fit its Serve leads here.
		c.srv.opt.Logger.Error("smtp: the command cannot have this reply", "reply", r.Code, "err", err)
		r = errInternal.Reply()
		if out, err = c.rx.AppendReply(c.out, r); err != nil {
			c.end(err)
			return
		}
	}
	c.out = out
	c.traceReply(r)
	if r.Code == 421 {
		c.linger = true
		c.bye = &proto.Error{Code: r.Code, Status: r.Status, Text: r.Text}
	}
	if len(c.out) > maxPending {
		c.flush()
	}
}

// withoutUTF8 sees to it that UTF-8 appears in replies only where the client has permitted it: to the command, or by MAIL
// for the addresses in 251 and 551. These become 250 and 550 elsewhere, without the address (RFC 6531 section 3.7.4). In
// any other reply, what is not ASCII is replaced.
func (c *Conn) withoutUTF8(r proto.Reply) proto.Reply {
	moved := r.Code == 251 || r.Code == 551
	permitted := c.asked || moved && c.utf8
	if moved && !permitted && !isASCII(r.Text) {
		r.Code--
		r.Text = "The message will be forwarded"
		if r.Code == 550 {
			r.Text = "The user has another address now"
			if r.Status.IsZero() {
				r.Status = proto.Status{5, 1, 6}
			}
		}
	}
	c.rx.SetUTF8(permitted)
	return r
}

// flush writes the replies collected.
func (c *Conn) flush() {
	if len(c.out) == 0 || c.err != nil {
		return
	}
	if t := c.srv.opt.WriteTimeout; t > 0 {
		_ = c.nc.SetWriteDeadline(time.Now().Add(t))
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > maxPending {
		c.out = nil
	}
	if err != nil {
		c.lost(err)
	}
}

// close closes the connection.
func (c *Conn) close() {
	c.body.giveBack()
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok && c.linger && w.CloseWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTimeout))
		_, _ = io.Copy(io.Discard, io.LimitReader(c.nc, lingerOctets))
	}
	c.nc.Close()
	c.raw.Close()
}
