package client

import (
	"context"
	"errors"
	"io"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Why what is beyond a limit cannot be sent.
var (
	errNoSeeker = errors.New("the content cannot be read again for another transaction: make Body an io.Seeker")
	errNoDialer = errors.New("the connection was made elsewhere: make another one, and a new client")
	errUnwanted = errors.New("no further messages were wanted")
	errAltered  = errors.New("the session is not as Dial has made it, and a new one would be: dial again")
)

// mostAtOnce is how many recipients a server that has not said what it takes is offered in a transaction, if the content can
// be read again for others: hardly any takes more, and to have a thousand refused is no way to make friends.
const mostAtOnce = 1000

// admits reports whether the server takes a message to all of the recipients in one transaction over this connection.
func (c *Client) admits(m *Message) bool {
	to, b := m.To, &c.bounds
	switch {
	case len(to) > mostAtOnce && b.RcptMax == 0 && seekable(m.Body):
		return false
	case *b == ext.ServerLimits{}:
		return true
	case c.spent(), b.RcptMax > 0 && len(to) > b.RcptMax:
		return false
	case b.RcptDomainMax == 0:
		return true
	}
	more := c.moreDomains()
	for i := range to {
		if !more.admit(to[i].Address.Domain) {
			return false
		}
	}
	return true
}

// spent reports whether the server takes no further message over this connection.
func (c *Client) spent() bool { return c.bounds.MailMax > 0 && c.mails >= c.bounds.MailMax }

// note takes note of the domain of a recipient, if the server cares about domains.
func (c *Client) note(d proto.Domain) {
	if c.bounds.RcptDomainMax == 0 {
		return
	}
	if c.domains == nil {
		c.domains = make(map[string]bool)
	}
	c.domains[strings.ToLower(d.ASCII())] = true
}

// moreDomains are those that there would be beyond the known ones.
type moreDomains struct {
	known, more map[string]bool
	limit       int
}

func (c *Client) moreDomains() *moreDomains {
	return &moreDomains{known: c.domains, more: make(map[string]bool), limit: c.bounds.RcptDomainMax}
}

// admit reports whether the server takes a recipient of the domain.
func (m *moreDomains) admit(d proto.Domain) bool {
	name := strings.ToLower(d.ASCII())
	if m.known[name] || m.more[name] {
		return true
	}
	if len(m.known)+len(m.more) >= m.limit {
		return false
	}
	m.more[name] = true
	return true
}

// pick divides left, which are places in to, into those that the server takes in the next transaction and those that it does
// not. If most is not 0, it is how many there can be.
func (c *Client) pick(to []proto.Recipient, left []int32, most int) (some, rest []int32) {
	b := c.bounds
	if c.spent() {
		return nil, left
	}
	if b.RcptMax == 0 || most > 0 && most < b.RcptMax {
		b.RcptMax = most
	}
	more := c.moreDomains()
	for n, i := range left {
		if b.RcptMax > 0 && len(some) == b.RcptMax {
			if rest == nil {
				return some, left[n:]
			}
			return some, append(rest, left[n:]...)
		}
		if b.RcptDomainMax == 0 || more.admit(to[i].Address.Domain) {
			some = append(some, i)
		} else {
			rest = append(rest, i)
		}
	}
	return some, rest
}

// renewable returns why there cannot be another connection, nil if there can.
func (c *Client) renewable() error {
	switch {
	case c.redial == nil:
		return errNoDialer
	case c.altered:
		return errAltered
	}
	return nil
}

// renew makes a new connection to the server, which takes no more over this one.
func (c *Client) renew(ctx context.Context) error {
	if err := c.renewable(); err != nil {
		return err
	}
	secure, verified := c.tls != nil, c.verified
	c.quit(ctx)
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	c.interruptible(cancel)
	conn, err := c.redial(limited)
	if err == nil {
		err = c.begun(ctx, conn)
	}
	if err == nil && (secure && c.tls == nil || verified && !c.verified) {
		err = &ext.TLSError{Err: errors.New("the connection before this one was better protected: somebody may be in between")}
		c.quit(ctx)
	}
	switch {
	case err == nil:
		return nil
	case c.cut.Load():
		err = ErrClosed
	}
	c.broken = err
	return err
}

// Parts are a message that takes more than one transaction.
type parts struct {
	c    *Client
	m    *Message
	res  *Result
	left []int32 // the recipients to be offered, or to be offered again
	most int     // how many the server had room for when it had not for all; 0 if it has not said

	unknown bool
}

// sendParts sends a message in as many transactions as it takes. A mistake in any address is found before the first.
func (c *Client) sendParts(ctx context.Context, m *Message) (*Result, error) {
	if err := c.vet(m); err != nil {
		return unsent(m, err)
	}
	p := &parts{c: c, m: m, res: newDelivery(m).res, left: everyone(m)}
	if c.bounds.RcptMax == 0 && seekable(m.Body) {
		p.most = mostAtOnce
	}
	return p.send(ctx)
}

// seekable reports whether the content can be read again. The type does not tell: a pipe can be an *os.File.
func seekable(r io.Reader) bool {
	s, ok := r.(io.Seeker)
	if ok {
		_, err := s.Seek(0, io.SeekCurrent)
		ok = err == nil
	}
	return ok || r == nil
}

// everyone returns the places of all recipients.
func everyone(m *Message) []int32 {
	all := make([]int32, len(m.To))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// vet finds an address or a parameter that cannot be sent.
func (c *Client) vet(m *Message) error {
	env := c.newEnvelope(m)
	if err := c.set.Prepare(c.offer, c.caps, &env); err != nil {
		return err
	}
	return c.render(newDelivery(m), &env)
}

// send sends what is left.
func (p *parts) send(ctx context.Context) (*Result, error) {
	for len(p.left) > 0 {
		some, rest := p.next(ctx)
		if len(some) == 0 {
			break
		}
		part := *p.m
		part.To = make([]proto.Recipient, len(some))
		for i, at := range some {
			part.To[i] = p.m.To[at]
		}
		p.take(p.c.sendOne(ctx, &part), some, rest)
	}
	return p.res, summary(p.res, p.unknown)
}

// leastRoom is how many recipients every server has to have room for (RFC 5321 section 4.5.3.1.8). One that had room for
// fewer had other reasons, which may have passed.
const leastRoom = 100

// next returns those to be offered next, and the rest. There are none if the rest cannot be offered.
func (p *parts) next(ctx context.Context) (some, rest []int32) {
	c := p.c
	if some, rest = c.pick(p.m.To, p.left, p.most); len(some) > 0 {
		return some, rest
	}
	limits := c.bounds
	err := c.renew(ctx)
	if err == nil {
		if some, rest = c.pick(p.m.To, p.left, p.most); len(some) > 0 {
			return some, rest
		}
	}
	p.spare(rest, &LimitError{limits, err})
	return nil, nil
}

// take takes note of the outcome for some, and finds out who is left.
func (p *parts) take(d *delivery, some, rest []int32) {
	c := p.c
	limits := c.bounds
	part, _ := d.outcome()
	for i, at := range some {
		p.res.Recipients[at] = part.Recipients[i]
	}
	p.res.Reply = part.Reply
	p.unknown = p.unknown || d.unknown
	later := remaining(some, d.later)
	if len(later) > 0 {
		p.most = max(len(d.good), leastRoom)
	}
	if part.Sent() == 0 {
		later = nil // there would be no end to it
	}
	p.left = append(rest[:len(rest):len(rest)], later...)
	if len(p.left) == 0 {
		return
	}
	whole, refused := d.refusedWhole(c.cfg.Protocol)
	switch {
	case c.broken != nil:
		p.spare(rest, &LimitError{limits, &closedError{c.broken}})
	case refused:
		// What is wrong with the message is so for all of them.
		for _, i := range rest {
			p.res.Recipients[i].Reply, p.res.Recipients[i].Err = whole.Reply, whole.Err
		}
	case !d.body.again:
		p.spare(rest, &LimitError{limits, errNoSeeker})
	default:
		return
	}
	p.left = nil
}

// spare settles recipients who are not offered to the server.
func (p *parts) spare(rest []int32, err error) {
	for _, i := range rest {
		p.res.Recipients[i].Err = err
	}
	p.left = nil
}
