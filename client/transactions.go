package client

import (
	"context"
	"errors"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Why there is no other transaction; see also errNoDialer and errAltered.
var (
	errNotRepeatable = errors.New("the content cannot be read again for another transaction: make Body an io.Seeker, or use " +
		"WriterBody or OpenBody")
	errDivided  = errors.New("with AllOrNone they have to go in one transaction")
	errUnwanted = errors.New("no further messages were wanted")
)

const (
	// maxOffered is how many recipients a server that has not said what it takes is offered in one transaction, if the
	// content can be read again for the others. Few servers take more, and to have a thousand refused looks like abuse.
	maxOffered = 1000
	// minRoom is how many recipients every server has to have room for (RFC 5321 section 4.5.3.1.8). One that had room for
	// fewer had other reasons, which may have passed.
	minRoom = 100
)

// admits reports whether the server takes a message to all of its recipients in one transaction of the session.
func (s *session) admits(m *Message) bool {
	to, l := m.To, &s.limits
	switch {
	case len(to) > maxOffered && l.RcptMax == 0 && (m.AllOrNone || m.repeatable()):
		return false
	case *l == ext.ServerLimits{}:
		return true
	case s.exhausted(), l.RcptMax > 0 && len(to) > l.RcptMax:
		return false
	case l.RcptDomainMax == 0:
		return true
	}
	added := s.newDomains()
	for i := range to {
		if !added.admit(to[i].Address.Domain) {
			return false
		}
	}
	return true
}

// exhausted reports whether the server takes no further message over this connection.
func (s *session) exhausted() bool { return s.limits.MailMax > 0 && s.mails >= s.limits.MailMax }

// note records the domain of a recipient, if the server limits the number of domains.
func (s *session) note(d proto.Domain) {
	if s.limits.RcptDomainMax == 0 {
		return
	}
	if s.domains == nil {
		s.domains = make(map[string]bool)
	}
	s.domains[strings.ToLower(d.ASCII())] = true
}

// newDomains counts the domains that a transaction would add to those of the session.
type newDomains struct {
	known, added map[string]bool
	limit        int
}

func (s *session) newDomains() *newDomains {
	return &newDomains{known: s.domains, added: make(map[string]bool), limit: s.limits.RcptDomainMax}
}

// admit reports whether the server takes a recipient of the domain.
func (n *newDomains) admit(d proto.Domain) bool {
	name := strings.ToLower(d.ASCII())
	if n.known[name] || n.added[name] {
		return true
	}
	if len(n.known)+len(n.added) >= n.limit {
		return false
	}
	n.added[name] = true
	return true
}

// choose divides left, which are places in to, into those that the server takes in the next transaction and the rest.
// If most is not 0, it is how many the server has had room for.
func (s *session) choose(to []proto.Recipient, left []int32, most int) (some, rest []int32) {
	l := s.limits
	if s.exhausted() {
		return nil, left
	}
	if l.RcptMax == 0 || most > 0 && most < l.RcptMax {
		l.RcptMax = most
	}
	added := s.newDomains()
	for n, i := range left {
		if l.RcptMax > 0 && len(some) == l.RcptMax {
			if rest == nil {
				return some, left[n:]
			}
			return some, append(rest, left[n:]...)
		}
		if l.RcptDomainMax == 0 || added.admit(to[i].Address.Domain) {
			some = append(some, i)
		} else {
			rest = append(rest, i)
		}
	}
	return some, rest
}

// Parts are a message that takes more than one transaction. Each transaction makes its own envelope, since parameters
// depend on the recipients: only one with an address in UTF-8 needs those of RFC 6531.
type parts struct {
	c    *Client
	m    *Message
	res  *Result
	left []int32 // the recipients to be offered, or to be offered again
	most int     // how many the server had room for when it had not for all; 0 if it has not said

	unknown bool
}

// sendParts sends a message in as many transactions as it takes. It finds a mistake in any address before the first.
func (c *Client) sendParts(ctx context.Context, m *Message) (*Result, error) {
	if err := validate(c.conn, m); err != nil {
		return unsent(m, err)
	}
	if m.AllOrNone {
		if err := c.conn.session.divided(m); err != nil {
			return unsent(m, err)
		}
	}
	p := &parts{c: c, m: m, res: newResult(m), left: everyone(m)}
	if c.conn.session.limits.RcptMax == 0 && m.repeatable() {
		p.most = maxOffered
	}
	return p.send(ctx)
}

// repeatable reports whether the content can be read again, as far as the Body may be asked.
func (m *Message) repeatable() (ok bool) {
	if m.Body == nil {
		return true
	}
	if !m.hold() {
		return false
	}
	var panicked error
	defer m.release(nil, &panicked)
	o := originOf(m.Body)
	return o.repeatable()
}

// repeatable reports whether the content can be read again for another transaction.
func (t *transaction) repeatable() bool {
	if !t.m.hold() {
		return false
	}
	var panicked error
	defer t.m.release(nil, &panicked)
	return t.body.origin.repeatable()
}

// everyone returns the places of all recipients.
func everyone(m *Message) []int32 {
	all := make([]int32, len(m.To))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// send sends the message to the recipients that are left.
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
		t := newTransaction(p.c.conn, &part)
		t.run(ctx)
		p.merge(t, some, rest)
		if part.used != nil && p.m.delivery == nil {
			p.m.used = part.used
		}
	}
	return p.res, summary(p.res, p.unknown)
}

// next returns the recipients to be offered next, and the rest. There are none if the rest cannot be offered.
func (p *parts) next(ctx context.Context) (some, rest []int32) {
	c := p.c
	if some, rest = c.conn.session.choose(p.m.To, p.left, p.most); p.suits(some, rest) {
		return some, rest
	}
	limits := c.conn.session.limits
	err := c.renew(ctx)
	if err == nil {
		if some, rest = c.conn.session.choose(p.m.To, p.left, p.most); p.suits(some, rest) {
			return some, rest
		}
		limits, err = c.conn.session.limits, errDivided
	}
	p.skip(p.left, &LimitError{limits, err})
	return nil, nil
}

// merge records the outcome of a transaction with some of the recipients, and finds out who is left.
func (p *parts) merge(t *transaction, some, rest []int32) {
	limits := t.c.session.limits
	part, _ := t.result()
	for i, at := range some {
		p.res.Recipients[at] = part.Recipients[i]
	}
	p.res.Reply = part.Reply
	if part != p.res {
		p.res.Octets += part.Octets
	}
	p.unknown = p.unknown || t.unknown
	var again []int32
	for _, i := range t.deferred {
		again = append(again, some[i])
	}
	if len(again) > 0 {
		p.most = max(t.accepted, minRoom)
	}
	if part.Sent() == 0 {
		again = nil // there would be no end to it
	}
	p.left = append(rest[:len(rest):len(rest)], again...)
	if len(p.left) == 0 {
		return
	}
	whole, refused := t.refusedWhole()
	switch {
	case t.c.closed != nil:
		p.skip(rest, &LimitError{limits, &closedError{t.c.closed}})
	case refused:
		// What is wrong with the message is so for all of them.
		for _, i := range rest {
			p.res.Recipients[i].Reply, p.res.Recipients[i].Err = whole.Reply, whole.Err
		}
	case !t.repeatable():
		p.skip(rest, &LimitError{limits, errNotRepeatable})
	default:
		return
	}
	p.left = nil
}

// skip resolves recipients that are not offered to the server.
func (p *parts) skip(rest []int32, err error) {
	for _, i := range rest {
		p.res.Recipients[i].Err = err
	}
	p.left = nil
}
