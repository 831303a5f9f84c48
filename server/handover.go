package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

type takeFunc = func(context.Context, net.Conn) (net.Conn, error)

func (x *extCommand) Handover(_ context.Context, r proto.Reply, take takeFunc) error {
	c := x.Conn
	c.background.stop()
	defer c.background.start()
	leave, refusal := claims{c}.enterHandshake()
	if refusal != nil {
		return refusal
	}
	defer leave()
	if err := x.send(r, proto.Handover); err != nil {
		return err
	}
	nc, state, err := x.hand(take)
	if err != nil {
		x.handoverFailed(err)
		return err
	}
	x.goOn(nc, state)
	return nil
}

// handoverFailed ends the connection, of which nobody knows what was said on it. A reply now would travel in plaintext,
// to whoever is listening.
func (x *extCommand) handoverFailed(err error) {
	msg := "smtp: hand-over failed"
	if x.startsTLS {
		msg = "smtp: TLS handshake failed"
		x.srv.stats.handshakesFailed.Add(1)
	}
	x.log(slog.LevelInfo, msg, "verb", x.verb.Name, "err", err)
	x.disconnect(fmt.Errorf("smtp: %s: %w", x.verb.Name, err))
}

// goOn begins the session anew on nc.
func (x *extCommand) goOn(nc net.Conn, state *tls.ConnectionState) {
	c := x.Conn
	wasTLS := c.link.tls != nil
	c.link.use(nc, state)
	c.rx.Restart(proto.Hello)
	c.replies.setStatus(c.srv.statusCodes)
	c.greeting = c.greeting.afterHandover()
	if x.startsTLS || !wasTLS {
		c.trace.secured()
	}
	x.handedOver = true
}

func (x *extCommand) Restart(_ context.Context, o *ext.Origin) (proto.Reply, error) {
	c := x.Conn
	if next, _ := x.verb.After(x.verb.In, 220); next != proto.Hello {
		return proto.Reply{}, fmt.Errorf("smtp: the session cannot begin anew after %s: its success does not lead to %v",
			x.verb.Name, proto.Hello)
	}
	c.background.stop()
	defer c.background.start()
	c.transaction.finish(c)
	c.session.close(c)
	c.greeting = ofOrigin(o)
	claims{c}.spare()
	c.replies.setStatus(c.srv.statusCodes)
	x.greets = true
	r := course{c}.greet()
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

// errSurrendered is why a connection ends that was given away.
var errSurrendered = errors.New("smtp: the connection was given away")

// hand calls take with the connection. It returns what take makes of it, and the state of TLS on that.
func (x *extCommand) hand(take takeFunc) (next net.Conn, state *tls.ConnectionState, err error) {
	c := x.Conn
	ctx, done, err := c.beginHandshake()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	var deadline time.Time
	if t := c.srv.opt.Timeouts.Handshake; t > 0 {
		deadline = time.Now().Add(t)
	}
	_ = c.link.nc.SetDeadline(deadline)
	given := &handshakeConn{x.rest(), &c.link}
	err = apart(func() (err error) {
		next, err = take(ctx, given)
		if next == net.Conn(given) {
			next = given.Conn
		}
		switch {
		case err != nil:
			return err
		case next == nil:
			return errors.New("smtp: the connection was not given back")
		}
		state = stateOf(next)
		return nil
	})
	if err == nil {
		_ = c.link.nc.SetDeadline(time.Time{})
	}
	return next, state, c.link.cutError(err)
}

// rest returns the connection. Reading from it returns first what we have read of it already.
func (x *extCommand) rest() net.Conn {
	c := x.Conn
	if first := append(c.rx.Leftover(), c.background.leftover()...); len(first) > 0 {
		return ext.PrefixConn(c.link.nc, first)
	}
	return c.link.nc
}
