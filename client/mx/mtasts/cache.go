package mtasts

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// A Cache knows the policies of domains. It discovers and fetches them when they are asked for, keeps them in a
// [Store], and refreshes them before they expire. Its methods may be called by several goroutines at once.
type Cache struct {
	opt     Options
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup // of refreshAhead and the flights
	flights *places        // one for each flight that a caller waits for
	fetches *places        // one for each fetch of these
	ahead   chan struct{}  // one for each flight that refreshes ahead

	ended *flight // what callers get after Close

	mu     sync.Mutex
	closed bool
	memos  map[string]*list.Element
	order  list.List // of *memo, with the one used last in front
}

// A Found is what a [Cache] knows about a domain. It is shared by all who ask, and must not be changed.
type Found struct {
	// Domain is the domain in A-labels and lower case.
	Domain string
	// Policy is the one that applies, with Mode Enforce or Testing. It is nil if none does: the domain has not got one,
	// has given it up (Mode None), or it could not be fetched.
	Policy *Policy
	// ID is that of the TXT record which announced the policy, or "".
	ID string
	// Fetched is when the policy was fetched, or the zero time.
	Fetched time.Time
	// Problem says why discovery or fetch failed, or failed the last time, as an [*Error]. Policy may be set all the
	// same: it was fetched before and still applies. A domain without a TXT record for MTA-STS is no problem.
	Problem error
}

// Result returns the result type for reports of Problem (RFC 8460 section 4.3.2.2), or "" if it is not reported: it is
// nil, or no TXT record was found and no policy applies (RFC 8461 section 6).
func (f *Found) Result() string {
	var e *Error
	if !errors.As(f.Problem, &e) || e.discovery && f.Policy == nil {
		return ""
	}
	return e.Result
}

// New returns a Cache. It refreshes policies in the background until it is closed.
func New(opt *Options) (*Cache, error) {
	with, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cache{
		opt:     with,
		flights: newPlaces(maxFlights, patience),
		fetches: newPlaces(with.MaxFetches, fetchPatience),
		ahead:   make(chan struct{}, max(with.MaxRefreshes, 0)),
		ended:   &flight{done: make(chan struct{}), err: errClosed},
		memos:   make(map[string]*list.Element),
	}
	close(c.ended.done)
	c.ctx, c.stop = context.WithCancel(context.Background())
	if with.MaxRefreshes > 0 {
		c.running.Go(c.refreshAhead)
	}
	return c, nil
}

// Close ends the refreshing and all fetches, and waits for their end. Lookup returns an error after it.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
	return nil
}

var errClosed = errors.New("smtp: the cache of MTA-STS policies is closed")

// Lookup returns what applies to mail for a domain, which is the next hop: the part of an address behind the @, or the
// name of a smarthost (RFC 8461 section 3.4). It may be in any case, in A-labels or U-labels.
//
// If no policy is known that still applies, Lookup looks for the TXT record, and fetches the policy that it announces.
// If one is known, Lookup looks whether there is another one since, and waits for the outcome no longer than
// Options.Wait. After a failure the host is left alone for five minutes, and for more after each further failure, up to
// an hour.
//
// A policy that cannot be found is no error: mail is delivered as if there were none, and Found.Problem says why.
// Lookup returns an error only if ctx has ended or the Cache is closed.
func (c *Cache) Lookup(ctx context.Context, domain string) (*Found, error) {
	return c.find(ctx, domain, false)
}

// Refresh is Lookup for a caller who is about to return mail because of a policy. It looks in the DNS whether there is
// another policy, and waits for the outcome. No message may be given up for good before that (RFC 8461 section 5.1). If
// Found.Problem is set, the domain may have another policy that cannot be seen now, and the failure is temporary.
func (c *Cache) Refresh(ctx context.Context, domain string) (*Found, error) {
	return c.find(ctx, domain, true)
}

// policyDomain returns a domain in the form for the DNS. It returns false for what cannot have a policy: address
// literals, what is no name of a host, and names too long for _mta-sts in front.
func policyDomain(domain string) (string, bool) {
	name, ok := dns.Normal(domain)
	return name, ok && isHost(name) && len("_mta-sts.")+len(name) <= 253
}

func policyHost(domain string) string { return "mta-sts." + domain }

func (c *Cache) find(ctx context.Context, domain string, fresh bool) (*Found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, ok := policyDomain(domain)
	if !ok {
		return &Found{Domain: domain}, nil
	}
	entry := c.load(ctx, name)
	known := entry.valid(time.Now()) && !fresh
	f, problem, err := c.join(ctx, name, known, fresh)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return found(name, entry, problem), nil
	}
	var late <-chan time.Time
	if known {
		// From the start of the flight, not from now: a host that hangs delays a burst of messages once.
		timer := time.NewTimer(c.opt.Wait - time.Since(f.started))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-f.done:
		return f.found, f.err
	case <-late:
		return found(name, entry, problem), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join returns the flight for a domain, and starts it if there is none. It returns no flight if what is known has to
// do: the domain is left alone for now, or a policy is known and all places are taken. Problem is that of the last
// flight.
func (c *Cache) join(ctx context.Context, name string, known, fresh bool) (*flight, *Error, error) {
	for first := true; ; first = false {
		f, problem, wait := c.tryJoin(name, known, fresh)
		if wait == 0 {
			return f, problem, nil
		}
		if first {
			defer c.flights.pass()
		}
		if err := c.flights.await(ctx, wait); err != nil {
			return nil, nil, err
		}
	}
}

// tryJoin is join for once. It returns for how long to wait if there is no place.
func (c *Cache) tryJoin(name string, known, fresh bool) (f *flight, problem *Error, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.ended, nil, 0
	}
	now := time.Now()
	m := c.memo(name)
	defer c.tidy(m, now)
	m.used = now
	problem = m.problem(now)
	quiet := !fresh && now.Before(m.silence.until)
	if m.flight != nil || quiet {
		return m.flight, problem, 0
	}
	f = c.newFlight()
	own, wait := c.flights.tryTake(func() { f.cancel(errCrowded) })
	if own == nil {
		f.cancel(nil)
		if known {
			wait = 0
		}
		return nil, problem, wait
	}
	f.leave = func() { c.flights.give(own) }
	c.start(m, f)
	return f, problem, 0
}

// load returns the entry of a domain, or nil.
func (c *Cache) load(ctx context.Context, name string) *Entry {
	e, err := c.opt.Store.Load(ctx, name)
	if err != nil {
		if ctx.Err() == nil {
			c.opt.Logger.LogAttrs(ctx, slog.LevelError, "smtp: MTA-STS policy not loaded",
				slog.String("domain", name), errAttr(err))
		}
		return nil
	}
	if e == nil || e.Policy == nil {
		return nil
	}
	return e
}

func errAttr(err error) slog.Attr {
	return slog.String("err", strings.TrimPrefix(err.Error(), "smtp: "))
}

// found returns what is known about a domain with this entry, which may be nil or no longer valid.
func found(name string, e *Entry, problem *Error) *Found {
	f := &Found{Domain: name}
	if e.valid(time.Now()) {
		f.announce(e)
	}
	if problem != nil && !(f.Policy == nil && errors.Is(problem, errNoRecord)) {
		f.Problem = problem
	}
	return f
}

// announce takes what an entry has.
func (f *Found) announce(e *Entry) {
	f.ID, f.Fetched = e.ID, e.Fetched
	if e.Policy.Mode != None {
		f.Policy = e.Policy
	}
}
