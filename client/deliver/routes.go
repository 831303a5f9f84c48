package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// Routes is a table that says which [client.Sender] delivers the mail of a domain. It is a Sender itself, so tables can
// be nested. [NewRoutes] makes one. Several goroutines may call Send at once, if its Senders permit that.
type Routes struct {
	group       map[string]int  // by key of the table
	senders     []client.Sender // by group
	concurrency int
}

// RoutesOptions are the options of [Routes]. Nil is the default for all.
type RoutesOptions struct {
	// MaxConcurrent is how many parts of a message are sent at the same time. Default 10. If it is negative, all are.
	MaxConcurrent int
}

const defaultConcurrent = 10

// NewRoutes returns a table of routes. The keys of table are:
//   - a domain, such as "example.org", or an address literal, such as "[192.0.2.1]",
//   - the subdomains of a domain, however deep, such as ".example.org", which does not cover example.org itself,
//   - "*" for all that is not in the table, and for the domainless postmaster.
//
// Case does not matter, nor whether labels are in ASCII. The longest key that fits counts.
//
// The error names a key that is malformed, or is there twice, or one whose Sender is nil or has wrong settings: a
// Sender that has a method Check() error, as those of this package have, is asked.
func NewRoutes(table map[string]client.Sender, opt *RoutesOptions) (*Routes, error) {
	if opt == nil {
		opt = &RoutesOptions{}
	}
	r := &Routes{group: make(map[string]int, len(table)), concurrency: cmp.Or(opt.MaxConcurrent, defaultConcurrent)}
	groups := make(map[client.Sender]int)
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s := table[name]
		key, err := routeKey(name)
		if err != nil {
			return nil, fmt.Errorf("smtp: the route %q: %w", name, err)
		}
		if err := checkSender(s); err != nil {
			return nil, fmt.Errorf("smtp: the route %q: %s", name, cause(err))
		}
		if _, ok := r.group[key]; ok {
			return nil, fmt.Errorf("smtp: the route %q: it is there twice", name)
		}
		at, ok := 0, false
		comparable := reflect.ValueOf(s).Comparable()
		if comparable {
			at, ok = groups[s]
		}
		if !ok {
			at = len(r.senders)
			r.senders = append(r.senders, s)
		}
		if comparable {
			groups[s] = at
		}
		r.group[key] = at
	}
	return r, nil
}

// routeKey returns the key of the table for what a program has written.
func routeKey(name string) (string, error) {
	switch name {
	case "*":
		return name, nil
	case "":
		return "", errors.New(`write "*" for all that has no route of its own, and for the domainless postmaster`)
	}
	domain, below := strings.CutPrefix(name, ".")
	d, err := proto.ParseDomain(domain)
	if err != nil {
		err = errors.New(cause(err))
	}
	rest, star := strings.CutPrefix(name, "*.")
	_, host, at := strings.Cut(name, "@")
	switch {
	case err != nil && star && rest != "":
		return "", fmt.Errorf("write %q for the subdomains of %s, and %q for itself", "."+rest, rest, rest)
	case err != nil && at && host != "":
		return "", fmt.Errorf("an address has no route, its domain has one: write %q", host)
	case err != nil:
		return "", err
	case below && d.Name() == "":
		return "", errors.New("an address literal has no subdomains: leave the dot at its beginning out")
	case below:
		return "." + d.Key(), nil
	}
	return d.Key(), nil
}

// Route returns the Sender for the domain, or nil if there is none.
func (r *Routes) Route(d proto.Domain) client.Sender {
	if at, ok := r.find(d); ok {
		return r.senders[at]
	}
	return nil
}

// find returns the group of a domain.
func (r *Routes) find(d proto.Domain) (at int, ok bool) {
	key := d.Key()
	if at, ok = r.group[key]; ok && key != "" {
		return at, true
	}
	for rest := key; d.Name() != ""; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		if at, ok = r.group[rest[i:]]; ok {
			return at, true
		}
		rest = rest[i+1:]
	}
	at, ok = r.group["*"]
	return at, ok
}

var errNoRoute = &Error{
	Doing:  "finding a route",
	Err:    errors.New("there is none for the domain, and none for all others: add the domain or \"*\" to the table"),
	status: statusUnroutable,
}

// Send sends m to its recipients by their routes: each Sender gets one message for all of its recipients. Domains have
// a Sender in common if it is the same value, such as one *pool.Pool. Senders that cannot be compared, such as
// functions, are different ones.
//
// The messages are sent at the same time, with [client.Share], which says what that means for the Body. A message all
// of whose recipients have one Sender goes to that as it is. The outcomes are joined by [client.Join]. A recipient
// without a route has an [*Error] with the status 5.4.4.
//
// Message.AllOrNone cannot be kept if there are several Senders, or if a recipient has none: it is a
// [client.MessageError], and nobody gets the message.
//
// If a Sender panics, and there are several, its recipients have an [*Error] with the value, the status 4.3.0, and in
// doubt. The other recipients keep their outcomes.
func (r *Routes) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	if m == nil || len(m.To) == 0 {
		return unfit(m)
	}
	places := make([][]int, len(r.senders)) // the recipients of each group
	var lost []int
	for i := range m.To {
		if at, ok := r.find(m.To[i].Address.Domain); ok {
			places[at] = append(places[at], i)
		} else {
			lost = append(lost, i)
		}
	}
	var used []int
	for at, to := range places {
		if len(to) == len(m.To) {
			return r.senders[at].Send(ctx, m)
		}
		if len(to) > 0 {
			used = append(used, at)
		}
	}
	switch {
	case len(used) == 0:
		return all(m, errNoRoute)
	case m.AllOrNone:
		return all(m, errSeveralRoutes)
	}
	shared, err := client.Share(m)
	if err != nil {
		return all(m, err)
	}
	defer shared.Close()
	parts := make([]client.Part, len(used), len(used)+1)
	limit := len(used)
	if r.concurrency > 0 {
		limit = min(limit, r.concurrency)
	}
	room := make(chan struct{}, limit)
	var running sync.WaitGroup
	for i, at := range used {
		room <- struct{}{}
		running.Go(func() {
			defer func() { <-room }()
			parts[i] = send(ctx, r.senders[at], shared, m, places[at])
		})
	}
	running.Wait()
	if lost != nil {
		parts = append(parts, client.Part{To: lost, Err: errNoRoute})
	}
	return client.Join(m, parts)
}

var errSeveralRoutes = &client.MessageError{
	What: "the message",
	Err: errors.New("AllOrNone cannot be kept over several routes: give it recipients of one route, " +
		"or leave AllOrNone out"),
}

// send sends the part of m for the recipients in some places.
func send(ctx context.Context, s client.Sender, shared *client.Shared, m *client.Message, to []int) (p client.Part) {
	p.To = to
	defer func() {
		if v := recover(); v != nil {
			p.Result = nil
			p.Err = &Error{Doing: "sending", Err: fmt.Errorf("it panicked: %v", v), status: statusSystem, inDoubt: true}
		}
	}()
	if ctx.Err() != nil {
		p.Err = notBegun(ctx)
		return p
	}
	rcpts := make([]proto.Recipient, len(to))
	for i, at := range to {
		rcpts[i] = m.To[at]
	}
	p.Result, p.Err = s.Send(ctx, shared.Message(rcpts))
	return p
}

// Refuse returns a Sender that refuses all recipients with the reply err, for a route of a domain that gets no mail:
//
//	".invalid": deliver.Refuse(proto.Refuse(550, proto.Status{5, 1, 2}, "no such domain")),
//
// The code has to be 400 to 599.
func Refuse(err *proto.Error) client.Sender { return refusal{err} }

type refusal struct{ err *proto.Error }

func (r refusal) Send(_ context.Context, m *client.Message) (*client.Result, error) {
	if err := r.settings(); err != nil {
		return misused(m, err)
	}
	if m == nil || len(m.To) == 0 {
		return unfit(m)
	}
	return all(m, r.err)
}
