package client

import (
	"context"
	"errors"
	"fmt"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// greet waits for the greeting, before which a client sends nothing, and introduces the client.
func (c *conn) greet(ctx context.Context) error {
	c.waiting.push(expectation{answerer: greetingReply{plainReply{c}}, name: "the greeting"})
	c.sent = 1
	err := c.drain(ctx)
	if _, lost := asType[*LostError](err); c.reply.Code >= 400 && (lost || err == nil) {
		return refusal(c.reply, "greeting") // and the server may have hung up by now
	}
	if err != nil {
		return c.cfg.explainNoGreeting(err)
	}
	c.greeted = true
	return c.introduce(ctx)
}

// explainNoGreeting adds to err, if the server has not greeted in time, what the reason often is.
func (cfg *config) explainNoGreeting(err error) error {
	if e, ok := asType[*LostError](err); ok && e.Timeout() && cfg.TLS != ext.TLSImplicit {
		e.Err = fmt.Errorf("%w: on a port where TLS comes first, such as 465, use TLSImplicit", e.Err)
	}
	return err
}

// maxRounds is how often a session may begin anew. Each time takes an extension that replaces the transport, and in a
// healthy session that happens once or twice.
const maxRounds = 10

// introduce says EHLO and lets the extensions negotiate, over and over until the session no longer begins anew.
func (c *conn) introduce(ctx context.Context) error {
	c.introducing = true
	defer func() { c.introducing = false }()
	for range maxRounds {
		if err := c.ehlo(ctx); err != nil {
			return err
		}
		again, err := c.negotiate(ctx)
		if err != nil {
			return c.explainNegotiation(err)
		}
		if !again {
			return c.checkSession()
		}
	}
	return &ProtocolError{Err: errors.New("smtp: the session began anew too often")}
}

// ehlo says EHLO, or LHLO in LMTP, and records what the server offers.
func (c *conn) ehlo(ctx context.Context) error {
	table := c.cfg.set.Table()
	v := table.Lookup("EHLO")
	if table.Protocol() == proto.LMTP {
		v = table.Lookup("LHLO")
	}
	if err := c.poll(ctx); err != nil {
		return c.fail(ctx, err) // a reply to what has not been said yet
	}
	r, err := c.roundTrip(ctx, v, []byte(c.hello))
	if err != nil {
		return err
	}
	s := &c.session
	if c.mayFallBack(r) {
		v = table.Lookup("HELO")
		if r, err = c.roundTrip(ctx, v, []byte(c.hello)); err != nil {
			return err
		}
	} else if r.Code/100 == 2 {
		s.caps = proto.ParseCaps(r).Without(c.cfg.Without...)
	}
	if r.Code/100 != 2 {
		return c.cfg.explainHello(refusal(r, v.Name))
	}
	s.offer = c.cfg.set.Offered(s.caps)
	s.pipelining = c.cfg.set.Pipelining(s.offer)
	c.tx.SetGroups(s.pipelining)
	c.tx.SetStatus(c.cfg.set.StatusCodes(s.offer))
	return lend(c, func(e extensionConn) error {
		s.limits = c.cfg.set.Limits(s.offer, e)
		return nil
	})
}

// mayFallBack reports whether r to EHLO means that the server does not know the command, as one older than RFC 1425
// does not, and HELO would do (RFC 5321 section 3.2). HELO would not do if TLS or authentication is still to come, to
// which only EHLO leads: somebody who answers in the server's place could have them left out. A refusal with another
// code is about the argument, which HELO has too, or temporary.
func (c *conn) mayFallBack(r proto.Reply) bool {
	return unknownCommand(r.Code) &&
		c.cfg.Protocol == proto.SMTP &&
		c.policy.Credentials == nil &&
		(c.policy.TLS != ext.TLSRequired || c.tls != nil)
}

func unknownCommand(code int) bool { return code == 500 || code == 502 }

// explainHello adds to a refusal of the introduction what the reason often is.
func (cfg *config) explainHello(e *proto.Error) error {
	switch {
	case !unknownCommand(e.Code):
	case cfg.Protocol == proto.LMTP:
		e.Err = errors.New("is this an SMTP server? Then leave Options.Protocol as it is")
	case e.Verb == "HELO":
		e.Err = errors.New("is this an LMTP server? Then set Options.Protocol to proto.LMTP")
	}
	return e
}

// negotiate calls Negotiate of each extension on offer. It reports whether the session has begun anew.
func (c *conn) negotiate(ctx context.Context) (again bool, err error) {
	before := c.handovers
	list := c.cfg.set.Extensions()
	for i := range list {
		if list[i].Negotiate == nil || !c.session.offer.Has(i) || c.needsTLS() && !handsOver(&list[i]) {
			continue
		}
		if err := lend(c, func(e extensionConn) error { return list[i].Negotiate(ctx, negotiation{e}) }); err != nil {
			return false, err
		}
		if c.handovers != before || c.tx.State() == proto.Hello {
			return true, nil
		}
	}
	return false, nil
}

// needsTLS reports whether TLS is required and has not been started. Until it has, the client sends only commands that
// may lead to it.
func (c *conn) needsTLS() bool { return c.policy.TLS == ext.TLSRequired && c.tls == nil }

func handsOver(e *ext.Extension) bool {
	for i := range e.Verbs {
		if e.Verbs[i].OK == proto.Handover {
			return true
		}
	}
	return false
}

// checkSession checks that the session is what the options ask for, before mail is sent.
func (c *conn) checkSession() error {
	if c.needsTLS() {
		return &ext.TLSError{Err: errTLSNotOffered}
	}
	if c.policy.Credentials != nil && c.session.identity == "" {
		return &ext.AuthError{Err: errors.New("there are credentials and the server does not offer to authenticate: it may " +
			"do so only on another port or with TLS")}
	}
	return nil
}

// restart introduces the client after a command has made the session begin anew, unless introduce is about to.
func (c *conn) restart(ctx context.Context) error {
	if c.introducing {
		return nil
	}
	c.altered = true
	err := c.introduce(ctx)
	if err != nil && c.closed == nil {
		// The session lacks what the options ask for, authentication for instance.
		c.quit(ctx)
		c.closed = err
	}
	return err
}

// forget forgets the session, which begins anew.
func (c *conn) forget() {
	c.session = session{}
	c.tx.SetGroups(false)
	c.tx.SetStatus(false)
}
