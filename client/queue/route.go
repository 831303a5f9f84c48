package queue

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

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
		if name := r.opt.Route(m, to); name != "" {
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
	defer func() {
		if v := recover(); v != nil {
			r.opt.Logger.Error("smtp: Options.Site of the queue has panicked", "domain", destination, "panic", v,
				"stack", string(debug.Stack()))
			site = destination
		}
	}()
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

// policy returns how a site is treated.
func (r *router) policy(site string) Policy {
	if r.opt.PolicyFor == nil {
		return r.opt.Policy
	}
	p := r.opt.PolicyFor(site, r.opt.Policy)
	if slices.ContainsFunc(p.Retry, func(d time.Duration) bool { return d <= 0 }) {
		p.Retry = nil // without a pause it would be tried all the time
	}
	return p.withDefaults()
}
