package client

import (
	"context"
	"errors"
	"fmt"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// start waits for the greeting, which nothing may precede, and introduces the client.
func (c *Client) start(ctx context.Context) error {
	c.expect(expectation{role: greeting})
	c.flown = 1
	if err := c.drain(ctx); err != nil {
		return c.silent(err)
	}
	if c.reply.Code >= 400 {
		return refusal(c.reply, "greeting")
	}
	return c.introduce(ctx)
}

// silent adds to err, if the server has not greeted in time, what the reason often is.
func (c *Client) silent(err error) error {
	if e, ok := asType[*LostError](err); ok && e.Timeout() && c.cfg.TLS != ext.TLSImplicit {
		e.Err = fmt.Errorf("%w: on a port where TLS comes first, such as 465, use TLSImplicit", e.Err)
	}
	return err
}

// mostRounds is how often a session may begin anew. Each time takes an extension that hands the wire over, and in a healthy
// session that happens once or twice.
const mostRounds = 10

// introduce says hello and gives the extensions their turn, over and over until the session no longer begins anew.
func (c *Client) introduce(ctx context.Context) error {
	c.greeting = true
	defer func() { c.greeting = false }()
	for range mostRounds {
		if err := c.sayHello(ctx); err != nil {
			return err
		}
		again, err := c.connect(ctx)
		if err != nil {
			return err
		}
		if !again {
			return c.demand()
		}
	}
	return &ProtocolError{errors.New("smtp: the session began anew too often")}
}

// sayHello sends EHLO, or LHLO in LMTP, and takes note of what is offered.
func (c *Client) sayHello(ctx context.Context) error {
	table := c.set.Table()
	v := table.Lookup("EHLO")
	if table.Protocol() == proto.LMTP {
		v = table.Lookup("LHLO")
	}
	if err := c.poll(); err != nil {
		return c.fail(err) // a reply to what has not been said yet
	}
	r, err := c.exchange(ctx, v, []byte(c.hello))
	if err != nil {
		return err
	}
	if c.mayFallBack(r) {
		v = table.Lookup("HELO")
		if r, err = c.exchange(ctx, v, []byte(c.hello)); err != nil {
			return err
		}
	} else if r.Code/100 == 2 {
		c.caps = proto.ParseCaps(r).Without(c.cfg.Without...)
	}
	if r.Code/100 != 2 {
		return refusal(r, v.Name)
	}
	c.offer = c.set.Offered(c.caps)
	c.groups = c.set.Pipelining(c.offer)
	c.tx.SetGroups(c.groups)
	c.tx.SetStatus(c.set.StatusCodes(c.offer))
	c.bounds = c.set.Limits(c.offer, c)
	return nil
}

// mayFallBack reports whether r to EHLO means that the server does not know the command, as one that is older than RFC 1425
// does not, and HELO would do (RFC 5321 section 3.2). It would not if there has to be TLS or authentication, to which only
// EHLO leads: whoever answers EHLO in the server's place would have them left out. Any other refusal is for a reason that
// applies to HELO too, or will pass.
func (c *Client) mayFallBack(r proto.Reply) bool {
	return (r.Code == 500 || r.Code == 502) &&
		c.set.Table().Protocol() == proto.SMTP &&
		c.policy.Credentials == nil &&
		(c.policy.TLS != ext.TLSRequired || c.tls != nil)
}

// connect gives each extension on offer its turn. It reports whether the session has begun anew.
func (c *Client) connect(ctx context.Context) (again bool, err error) {
	before := c.takeover
	list := c.set.Extensions()
	for i := range list {
		if list[i].Negotiate == nil || !c.offer.Has(i) || c.bare() && !takesOver(&list[i]) {
			continue
		}
		if err := list[i].Negotiate(ctx, dialogue{c}); err != nil {
			return false, err
		}
		if c.takeover != before || c.tx.State() == proto.Hello {
			return true, nil
		}
	}
	return false, nil
}

// bare reports whether the connection is in clear and must not stay so. Until it is protected, nothing is sent but what
// may lead to that.
func (c *Client) bare() bool { return c.policy.TLS == ext.TLSRequired && c.tls == nil }

func takesOver(e *ext.Extension) bool {
	for i := range e.Verbs {
		if e.Verbs[i].OK == proto.Handover {
			return true
		}
	}
	return false
}

// demand checks that the session is what it has to be before mail is sent.
func (c *Client) demand() error {
	if c.bare() {
		return &ext.TLSError{Err: errors.New("it is required and the server does not offer it: somebody may be in between; " +
			"use TLSImplicit for a port where TLS comes first, or TLSOpportunistic if mail may travel in clear")}
	}
	if c.policy.Credentials != nil && c.identity == "" {
		return &ext.AuthError{Err: errors.New("there are credentials and the server does not offer to authenticate: it may " +
			"do so only on another port or with TLS")}
	}
	return nil
}
