package queuehttp

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// An order is a change that an operator wants.
type order struct {
	Filter filter `json:"filter"`
	// All says that the filter is empty because all jobs are meant.
	All    bool   `json:"all"`
	Why    string `json:"why"`
	Route  string `json:"route"`
	Domain string `json:"domain"`
	Site   string `json:"site"`
	Until  string `json:"until"`
	For    string `json:"for"`
}

// An operation is one of the changes. It returns the number of jobs.
type operation struct {
	// fields are those that it has beside the filter. An operation without a filter has the field site.
	fields []string
	do     func(ctx context.Context, q Queue, f queue.Filter, o *order) (int, error)
}

var operations = map[string]operation{
	"hold": {[]string{"why"}, func(ctx context.Context, q Queue, f queue.Filter, o *order) (int, error) {
		return q.Hold(ctx, f, o.Why)
	}},
	"release": {nil, func(ctx context.Context, q Queue, f queue.Filter, _ *order) (int, error) {
		return q.Release(ctx, f)
	}},
	"retry": {nil, func(ctx context.Context, q Queue, f queue.Filter, _ *order) (int, error) {
		return q.Retry(ctx, f)
	}},
	"reroute": {[]string{"route", "domain"}, reroute},
	"expire": {nil, func(ctx context.Context, q Queue, f queue.Filter, _ *order) (int, error) {
		return q.Expire(ctx, f)
	}},
	"drop": {nil, func(ctx context.Context, q Queue, f queue.Filter, _ *order) (int, error) {
		return q.Drop(ctx, f)
	}},
	"suspend": {[]string{"site", "until", "for", "why"}, suspend},
	"resume": {[]string{"site"}, func(ctx context.Context, q Queue, _ queue.Filter, o *order) (int, error) {
		return 0, q.Suspend(ctx, o.Site, time.Time{}, "")
	}},
}

func reroute(ctx context.Context, q Queue, f queue.Filter, o *order) (int, error) {
	if (o.Route == "") == (o.Domain == "") {
		return 0, invalid("reroute needs a route or a domain, and not both")
	}
	var domain proto.Domain
	if o.Domain != "" {
		var err error
		if domain, err = proto.ParseDomain(o.Domain); err != nil {
			return 0, &invalidError{err}
		}
	}
	return q.Reroute(ctx, f, o.Route, domain)
}

func suspend(ctx context.Context, q Queue, _ queue.Filter, o *order) (int, error) {
	if (o.Until == "") == (o.For == "") {
		return 0, invalid("suspend needs until or for, and not both")
	}
	until, err := parseTime("until", o.Until)
	if err != nil {
		return 0, &invalidError{err}
	}
	if o.For != "" {
		d, err := time.ParseDuration(o.For)
		if err != nil || d <= 0 {
			return 0, invalid("the duration " + o.For + " in for is not of the form 2h30m")
		}
		until = time.Now().Add(d)
	}
	return 0, q.Suspend(ctx, o.Site, until, o.Why)
}

// values returns the fields of an order beside the filter.
func (o *order) values() map[string]*string {
	return map[string]*string{"why": &o.Why, "route": &o.Route, "domain": &o.Domain, "site": &o.Site, "until": &o.Until,
		"for": &o.For}
}

// check returns the filter of an order, or says what is wrong with it.
func (o *order) check(name string, op *operation) (queue.Filter, error) {
	f, err := o.Filter.parse()
	if err != nil {
		return f, &invalidError{err}
	}
	for field, value := range o.values() {
		if *value != "" && !slices.Contains(op.fields, field) {
			return f, invalid(name + " has no " + field)
		}
	}
	if slices.Contains(op.fields, "site") {
		if o.Site == "" {
			return f, invalid(name + " needs a site")
		}
		if o.All || !f.IsZero() {
			return f, invalid(name + " is for a site: it has no filter")
		}
		return f, nil
	}
	if f.IsZero() && !o.All {
		return f, invalid(`the filter is empty: if all jobs are meant, say "all": true`)
	}
	if !f.IsZero() && o.All {
		return f, invalid(`a filter and "all": true contradict each other`)
	}
	return f, nil
}

// do makes a change, and returns the number of jobs.
func (h *handler) do(r *http.Request, name string, o *order) (int, error) {
	op, ok := operations[name]
	if !ok {
		return 0, invalid("there is no operation " + name + ": known are " +
			strings.Join(slices.Sorted(maps.Keys(operations)), ", "))
	}
	f, err := o.check(name, &op)
	if err != nil {
		return 0, err
	}
	n, err := op.do(r.Context(), h.queue, f, o)
	log := h.opt.Logger.With("remote", r.RemoteAddr, "operation", name, "filter", o.Filter.values().Encode(), "all", o.All)
	for _, field := range op.fields {
		if value := *o.values()[field]; value != "" {
			log = log.With(field, strings.ToValidUTF8(value, "?"))
		}
	}
	if user, _, ok := r.BasicAuth(); ok && h.opt.Authorize != nil {
		log = log.With("user", user)
	}
	if err != nil {
		log.Warn("smtp: an operator could not change the queue", "jobs", n, "err", err)
		return n, err
	}
	log.Info("smtp: an operator has changed the queue", "jobs", n)
	return n, nil
}
