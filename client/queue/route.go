package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// ErrRoute is in the errors of Reroute and Fetch for a way to deliver that the queue does not have.
var ErrRoute = errors.New("smtp: the queue has no such route")

// A router says what the options have for a recipient, a destination and a site: where mail goes, by what, and by which
// policy. It has no state.
type router struct {
	opt    *Options
	sender client.Sender
}

// destination returns where a recipient is.
func (r *router) destination(m *Message, to proto.Address) (string, error) {
	if to.IsNull() {
		return "", proto.Refuse(501, proto.Status{5, 1, 3}, "A recipient has no address")
	}
	if r.opt.Route != nil {
		name, err := r.route(m, to)
		if err != nil {
			return "", err
		}
		if name != "" {
			if _, ok := r.opt.Routes[name]; !ok {
				return "", fmt.Errorf("smtp: Options.Route of the queue names the route %q, which Options.Routes has not", name)
			}
			return "=" + name, nil
		}
	}
	if to.Domain.IsZero() {
		return "", fmt.Errorf("smtp: the recipient %v has no domain: add one, or route it", to)
	}
	if r.sender == nil {
		return "", fmt.Errorf("smtp: the queue has no Sender for %v, and Options.Route names no route", to)
	}
	return to.Domain.Key(), nil
}

// route calls Options.Route. If that panics the message is refused for now.
func (r *router) route(m *Message, to proto.Address) (name string, err error) {
	err = proto.Refuse(451, proto.Status{4, 3, 0}, "Local error, try again later")
	defer logPanic(r.opt.Logger, "Options.Route")
	return r.opt.Route(m, to), nil
}

// ofReport returns where the recipient of a report is. Nobody is there to be told that Options.Route has a mistake:
// then the report goes to his domain, and so is not lost.
func (r *router) ofReport(m *Message, to proto.Address) (string, error) {
	name, err := r.destination(m, to)
	if err != nil && !to.Domain.IsZero() {
		r.opt.Logger.Error("smtp: a report goes to the domain of its recipient, since it has no route", "id", m.ID,
			"to", to.String(), "err", err)
		return to.Domain.Key(), nil
	}
	return name, err
}

// noRoute returns an ErrRoute that says which routes there are.
func (r *router) noRoute(what string) error {
	if len(r.opt.Routes) == 0 {
		return fmt.Errorf("%w: it does not have %s, and Options.Routes names no routes", ErrRoute, what)
	}
	return fmt.Errorf("%w: it does not have %s, but the routes %q", ErrRoute, what,
		slices.Sorted(maps.Keys(r.opt.Routes)))
}

// senderOf returns what delivers to a destination, or nil if its mail waits to be fetched.
func (r *router) senderOf(destination string) client.Sender {
	route, ok := strings.CutPrefix(destination, "=")
	if !ok && r.sender != nil {
		return r.sender
	}
	if !ok {
		return noSender("smtp: the queue has no Sender for mail to %s: give queue.New one, or reroute the mail", destination)
	}
	if s, ok := r.opt.Routes[route]; ok {
		return s
	}
	return noSender("smtp: the queue has no route %q: add it to Options.Routes, or reroute the mail", route)
}

// noSender returns a Sender that fails with this error.
func noSender(format, name string) client.Sender {
	return client.SenderFunc(func(context.Context, *client.Message) (*client.Result, error) {
		return nil, fmt.Errorf(format, name)
	})
}

// siteOf returns the site of a destination. If it cannot be found out, the destination stands for itself. It may ask
// the DNS.
func (r *router) siteOf(ctx context.Context, destination string) (site string) {
	site = destination
	defer logPanic(r.opt.Logger, "Options.Site")
	if r.opt.Site == nil || strings.HasPrefix(destination, "=") {
		return destination
	}
	domain, err := proto.ParseDomain(destination)
	if err != nil {
		return destination
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	name, err := r.opt.Site(ctx, domain)
	if err != nil || name == "" {
		return destination
	}
	return name
}

// policy returns how a site is treated. If Options.PolicyFor panics it is treated like any other.
func (r *router) policy(site string) (p Policy) {
	p = r.opt.Policy
	if r.opt.PolicyFor == nil {
		return p
	}
	defer logPanic(r.opt.Logger, "Options.PolicyFor")
	p = r.opt.PolicyFor(site, p)
	if slices.ContainsFunc(p.Retry, func(d time.Duration) bool { return d <= 0 }) {
		p.Retry = nil // without a pause it would be tried all the time
	}
	return p.withDefaults()
}
