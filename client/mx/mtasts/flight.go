package mtasts

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

const (
	// minPause is for how long a host is left alone after a failed fetch (RFC 8461 section 3.3). The pause doubles with
	// each failure up to maxPause, which is short enough for several attempts in the last day of a policy.
	minPause = 5 * time.Minute
	maxPause = time.Hour
	// A DNS that fails is left alone for silence, so that not every message of a burst waits for it. It is short, since
	// a domain is without protection meanwhile. discovery bounds one look-up.
	silence   = 30 * time.Second
	discovery = 30 * time.Second
	// So many domains are looked at on behalf of callers. One loses its place to another after patience, be it in the DNS
	// or in the queue for a fetch, and after fetchPatience in a fetch: an honest host has answered by then.
	maxFlights    = 4096
	patience      = time.Second
	fetchPatience = 5 * time.Second
)

// errCrowded is the cause of a failure that others have brought about.
var errCrowded = errors.New("it has taken too long while too many other domains were looked up: send to less domains at " +
	"once, or look for hosts that do not answer")

// A memo is what a Cache remembers about a domain beside its policy.
type memo struct {
	domain  string
	flight  *flight   // the one in the air, or nil
	failure failure   // of the last fetch
	silence quiet     // of its DNS
	used    time.Time // when it was last asked for
	due     time.Time // when its policy is to be refreshed; zero if it has none
}

// A failure is a fetch that failed.
type failure struct {
	id      string // what announced the policy
	problem *Error // nil: there is no failure
	at      time.Time
	pause   time.Duration // how long to wait from then
}

// permits reports whether the policy with this id may be fetched now. Another id ends the growth of the pause, and not
// the pause itself: a host must not be asked more often for announcing policies that it cannot serve.
func (f failure) permits(id string, now time.Time) bool {
	if f.problem == nil {
		return true
	}
	pause := f.pause
	if id != f.id {
		pause = minPause
	}
	return now.Sub(f.at) >= pause
}

// again returns the failure after f.
func (f failure) again(id string, problem *Error, now time.Time) failure {
	pause := minPause
	if f.problem != nil && f.id == id {
		pause = min(2*f.pause, maxPause)
	}
	return failure{id, problem, now, pause}
}

// A quiet is a time in which the DNS is not asked.
type quiet struct {
	problem *Error
	until   time.Time
}

// problem returns what was wrong the last time, or nil.
func (m *memo) problem(now time.Time) *Error {
	if now.Before(m.silence.until) {
		return m.silence.problem
	}
	return m.failure.problem
}

// A flight is a look for the policy of a domain. It goes on when its callers have left. The fields behind done are set
// before done is closed.
type flight struct {
	started time.Time
	ctx     context.Context // ends with Close, or when the flight loses its place
	cancel  context.CancelCauseFunc
	ahead   bool
	leave   func() // gives its place back; it may be called several times
	done    chan struct{}
	found   *Found
	err     error
}

// memo returns the memo of a domain, and makes it if there is none. The caller has the lock.
func (c *Cache) memo(name string) *memo {
	if el := c.memos[name]; el != nil {
		c.order.MoveToFront(el)
		return el.Value.(*memo)
	}
	m := &memo{domain: name}
	c.memos[name] = c.order.PushFront(m)
	for el := c.order.Back(); len(c.memos) > c.opt.MaxDomains && el != nil; {
		last := el
		el = el.Prev()
		if old := last.Value.(*memo); old.flight == nil && old != m {
			c.forget(last)
		}
	}
	return m
}

func (c *Cache) forget(el *list.Element) {
	delete(c.memos, c.order.Remove(el).(*memo).domain)
}

// tidy forgets a memo that has nothing to remember. The caller has the lock.
func (c *Cache) tidy(m *memo, now time.Time) {
	failed := m.failure.problem != nil && now.Sub(m.failure.at) < 2*maxPause
	inUse := !m.due.IsZero() && now.Sub(m.used) < useful
	if m.flight != nil || failed || inUse || now.Before(m.silence.until) {
		return
	}
	if el := c.memos[m.domain]; el != nil && el.Value.(*memo) == m {
		c.forget(el)
	}
}

// newFlight returns a flight that has no place yet.
func (c *Cache) newFlight() *flight {
	f := &flight{started: time.Now(), done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancelCause(c.ctx)
	return f
}

// start starts a flight, which has a place. The caller has the lock.
func (c *Cache) start(m *memo, f *flight) {
	m.flight = f
	c.running.Go(func() {
		defer f.cancel(nil)
		f.found = c.discover(m, f)
		if c.ctx.Err() != nil {
			f.found, f.err = nil, errClosed
		}
		c.mu.Lock()
		m.flight = nil
		c.tidy(m, time.Now())
		c.mu.Unlock()
		f.leave()
		close(f.done)
	})
}

// discover looks for the policy of a domain (RFC 8461 section 3). If it refreshes ahead it fetches the policy whatever
// the DNS says: who can hide a TXT record must not be able to let the policy expire (RFC 8461 section 10.2).
func (c *Cache) discover(m *memo, f *flight) *Found {
	entry := c.load(c.ctx, m.domain)
	valid := entry.valid(time.Now())
	if f.ahead && valid && time.Now().Before(refreshTime(entry)) { // another process has refreshed it
		return c.settle(m, entry, c.lastProblem(m, entry.ID))
	}
	id, problem := c.lookupID(m, f)
	if problem != nil {
		if !f.ahead || !valid {
			return c.settle(m, entry, problem)
		}
		id = entry.ID
	} else if valid && !f.ahead && entry.ID == id {
		return c.settle(m, entry, c.lastProblem(m, id))
	}
	if problem := c.paused(m, id); problem != nil {
		return c.settle(m, entry, problem)
	}
	give, problem := c.turn(m, f)
	if problem != nil {
		return c.settle(m, entry, problem)
	}
	defer give()
	started := time.Now().Round(0) // by the clock on the wall, which goes on when a machine sleeps
	policy, err := c.fetch(f, m.domain)
	if err != nil {
		return c.failed(m, entry, id, err)
	}
	return c.fetched(m, &Entry{Domain: m.domain, ID: id, Policy: policy, Fetched: started})
}

// lookupID returns the id in the TXT record of a domain.
func (c *Cache) lookupID(m *memo, f *flight) (string, *Error) {
	ctx, cancel := context.WithTimeout(f.ctx, discovery)
	defer cancel()
	answer, err := c.opt.Resolver.Lookup(ctx, "_mta-sts."+m.domain, dns.TXT)
	c.mu.Lock()
	defer c.mu.Unlock()
	m.silence = quiet{}
	if err != nil {
		problem := &Error{Domain: m.domain, Result: ResultFetchError, Err: f.cause(err), discovery: true}
		m.silence = quiet{problem, time.Now().Add(silence)}
		return "", problem
	}
	id, err := parseRecords(answer.TXT)
	if err == nil {
		return id, nil
	}
	problem := &Error{Domain: m.domain, Result: ResultPolicyInvalid, Err: err, discovery: true}
	if errors.Is(err, errNoRecord) {
		problem.Result = ResultFetchError
	}
	return "", problem
}

// paused returns why the policy with this id is not fetched now, or nil.
func (c *Cache) paused(m *memo, id string) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.failure.permits(id, time.Now()) {
		return nil
	}
	return m.failure.problem
}

// lastProblem returns why the last fetch of the policy with this id failed, or nil.
func (c *Cache) lastProblem(m *memo, id string) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.failure.id != id {
		return nil
	}
	return m.failure.problem
}

// turn waits for a place for the fetch of a flight, which gives up the one that it has. The caller gives it back. That
// a place does not come is not the fault of the host: it is asked again as soon as a DNS that has failed.
func (c *Cache) turn(m *memo, f *flight) (give func(), problem *Error) {
	if f.ahead {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(f.ctx, c.opt.Timeout)
	defer cancel()
	own, err := c.fetches.take(ctx, func() { f.cancel(errCrowded) })
	if err != nil {
		problem := &Error{Domain: m.domain, Result: ResultFetchError, Err: errCrowded}
		c.mu.Lock()
		defer c.mu.Unlock()
		m.silence = quiet{problem, time.Now().Add(silence)}
		return nil, problem
	}
	f.leave()
	return func() { c.fetches.give(own) }, nil
}

func (c *Cache) fetch(f *flight, domain string) (*Policy, error) {
	ctx, cancel := context.WithTimeout(f.ctx, c.opt.Timeout)
	defer cancel()
	policy, err := fetch(ctx, c.opt.RoundTripper, domain)
	if err != nil {
		return nil, f.cause(err)
	}
	return policy, nil
}

// cause returns why a step of a flight has failed: err, or that others needed its place.
func (f *flight) cause(err error) error {
	if context.Cause(f.ctx) == errCrowded {
		return errCrowded
	}
	return err
}

// settle ends a flight with what was known before.
func (c *Cache) settle(m *memo, entry *Entry, problem *Error) *Found {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.due = c.nextRefresh(m, entry)
	return found(m.domain, entry, problem)
}

// nextRefresh returns when to refresh the policy of a domain, or the zero time if it has none. The caller has the lock.
func (c *Cache) nextRefresh(m *memo, entry *Entry) time.Time {
	if !entry.valid(time.Now()) {
		return time.Time{}
	}
	due := refreshTime(entry)
	if retry := m.failure.at.Add(m.failure.pause); !due.IsZero() && due.Before(retry) {
		return retry
	}
	return due
}

// failed ends a flight whose fetch failed. A policy that still applies does so on (RFC 8461 section 3.3).
func (c *Cache) failed(m *memo, entry *Entry, id string, err error) *Found {
	problem := &Error{Domain: m.domain, Result: resultOf(err), Err: err}
	if c.ctx.Err() == nil && entry.valid(time.Now()) && entry.Policy.Mode != None {
		c.opt.Logger.LogAttrs(c.ctx, slog.LevelWarn, "smtp: MTA-STS policy not refreshed", slog.String("domain", m.domain),
			slog.Time("expires", entry.Fetched.Add(entry.Policy.MaxAge)), errAttr(err))
	}
	c.mu.Lock()
	m.failure = m.failure.again(id, problem, time.Now())
	c.mu.Unlock()
	return c.settle(m, entry, problem)
}

// fetched ends a flight with a new policy, which replaces the one before at once, with Mode None too. It counts for
// those who wait even if its life is over by now.
func (c *Cache) fetched(m *memo, entry *Entry) *Found {
	c.mu.Lock()
	m.failure = failure{}
	m.due = c.nextRefresh(m, entry)
	entry.Used = m.used
	c.mu.Unlock()
	if err := c.opt.Store.Save(c.ctx, entry); err != nil && c.ctx.Err() == nil {
		c.opt.Logger.LogAttrs(c.ctx, slog.LevelError, "smtp: MTA-STS policy not saved", slog.String("domain", m.domain),
			errAttr(err))
	}
	f := &Found{Domain: m.domain}
	f.announce(entry)
	return f
}
