package tlsrpt

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"smtpkit.example/smtp/client"
)

var errRunning = errors.New("smtp: Collector.Run is running already")

// Run sends the reports on each day that is over, and saves to the Store, until ctx ends. Then it waits for what it is
// sending, saves, and returns the error of that. It fails at once with an [*OptionError] if there is no Resolver.
//
// A report goes to those domains that ask for it, at a random time in the hours after midnight in UTC. All destinations
// that a domain names are tried. When one has accepted the report it is sent, and forgotten. If all fail, and one may
// take it later, another attempt is made after 15 minutes, then after longer waits, for 24 hours at most. A report that
// a restart has interrupted may be sent twice; both have the same ID.
func (c *Collector) Run(ctx context.Context) error {
	if c.Resolver == nil {
		return &OptionError{"Resolver", errResolver}
	}
	if c.running.Swap(true) {
		return errRunning
	}
	defer c.running.Store(false)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	free := make(chan struct{}, c.Concurrency)
	for range c.Concurrency {
		free <- struct{}{}
	}
	var sending sync.WaitGroup
	saved := time.Now()
	for ctx.Err() == nil {
		now := time.Now()
		c.close(now)
		if now.Sub(saved) >= c.SaveInterval {
			saved = now
			c.save()
		}
		p := c.out.take(now)
		if p == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			continue
		}
		select {
		case <-free:
			sending.Go(func() {
				c.deliver(ctx, p)
				free <- struct{}{}
			})
		case <-tick.C:
			c.out.giveBack(p)
		case <-ctx.Done():
			c.out.giveBack(p)
		}
	}
	sending.Wait()
	return c.save()
}

// save saves if there is a Store, and something has changed.
func (c *Collector) save() error {
	c.mu.Lock()
	changed := c.changed
	c.changed = false
	c.mu.Unlock()
	if c.Store == nil || !changed {
		return nil
	}
	err := c.Save()
	if err != nil {
		c.touch()
	}
	if c.Trace.Saved != nil {
		c.Trace.Saved(err)
	}
	return err
}

// touch notes that something has changed.
func (c *Collector) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
}

// deliver makes an attempt to send a report to all its destinations.
func (c *Collector) deliver(ctx context.Context, p *pending) {
	defer c.touch()
	began := time.Now()
	r := c.report(p.tally, p.day, p.domain)
	err := c.send(ctx, r)
	switch {
	case err == nil:
		c.out.done(p)
	case ctx.Err() != nil:
		c.out.giveBack(p)
	case !client.Temporary(err):
		c.out.done(p)
		if err == errNotAsked {
			err = nil
		}
		c.trace().Dropped(ctx, r, err)
	default:
		if !c.out.again(p, began, time.Now()) {
			c.trace().Dropped(ctx, r, err)
		}
	}
}

var errNotAsked = errors.New("smtp: the domain does not ask for reports on TLS")

// send sends a report to all destinations that its domain names. The error is nil if one of them has accepted it. It is
// temporary if another attempt makes sense.
func (c *Collector) send(ctx context.Context, r *Report) error {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	rec, err := LookupRecord(limited, c.Resolver, r.Domain)
	cancel()
	if err != nil {
		return err
	}
	if rec == nil {
		return errNotAsked
	}
	body, err := r.Compressed()
	if err != nil {
		return err
	}
	accepted := false
	for _, u := range rec.RUA {
		each := c.sendTo(ctx, r, u, body)
		c.trace().Sent(ctx, r, u.String(), each)
		switch {
		case each == nil:
			accepted = true
		case err == nil || client.Temporary(each):
			err = each
		}
	}
	if accepted {
		return nil
	}
	return err
}

// sendTo sends a report to one destination.
func (c *Collector) sendTo(ctx context.Context, r *Report, u *url.URL, body []byte) error {
	ctx, cancel := context.WithTimeout(ReportContext(ctx), c.Timeout)
	defer cancel()
	if u.Scheme != "mailto" {
		return c.post(ctx, u, bytes.NewReader(body))
	}
	if c.Sender == nil {
		return &DeliveryError{Destination: u.String(), Code: permanent, Err: errNoSender}
	}
	to, err := mailbox(u)
	if err != nil {
		return err
	}
	m, err := c.message(r, to, body)
	if err != nil {
		return err
	}
	_, err = c.Sender.Send(ctx, m)
	return err
}

type contextKey struct{}

// ReportContext returns a context with which to send a report on TLS by mail. [Collector.Run] uses one. A program that
// sends reports by itself uses one too, so that they do not cause further reports.
func ReportContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, contextKey{}, true)
}

// IsReport reports whether ctx is one of [ReportContext], with which a report is sent by mail. What happens with TLS
// there is not reported on (RFC 8460 section 3), so there is no event to record. Package mx records none.
func IsReport(ctx context.Context) bool { return ctx.Value(contextKey{}) != nil }

// trace returns the trace with functions that can be called.
func (c *Collector) trace() *Trace {
	t := *c.Trace
	if t.Sent == nil {
		t.Sent = func(context.Context, *Report, string, error) {}
	}
	if t.Dropped == nil {
		t.Dropped = func(context.Context, *Report, error) {}
	}
	return &t
}
