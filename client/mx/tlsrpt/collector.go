package tlsrpt

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// A Collector counts events, and reports on them. Its methods may be called by several goroutines at once.
type Collector struct {
	*settings

	mu      sync.Mutex // held for a short time only
	days    map[int64]*day
	closed  int64 // the last day that gets no more events
	dropped int64
	changed bool // since it was saved

	out     outbox
	saving  sync.Mutex
	running atomic.Bool
}

// New returns a collector. With a Store it has what that has kept. The error is an [*OptionError], or a [*StateError]
// if what the Store has cannot be read.
func New(opt *Options) (*Collector, error) {
	s, err := opt.settings()
	if err != nil {
		return nil, err
	}
	c := &Collector{settings: s, days: make(map[int64]*day), out: newOutbox()}
	if s.Store != nil {
		if err := c.load(time.Now()); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Record counts an event. It is fast, and never waits for the network or a disk. The collector keeps no reference to
// what e has in it.
//
// An event belongs to the day of its time, in UTC. It counts for today if it is older than yesterday, or if the reports
// on its day are on their way already. A domain that cannot ask for reports, such as an address literal, is not
// counted.
func (c *Collector) Record(e Event) {
	now := time.Now()
	if e.Time.IsZero() {
		e.Time = now
	}
	domain, ok := dns.Normal(e.Domain)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok || !isDomain(domain) || !c.at(e.Time, now).add(domain, &e, 1, &c.limits) {
		c.dropped++
		return
	}
	c.changed = true
}

// at returns the day for an event at a time.
func (c *Collector) at(t, now time.Time) *day {
	today := dayOf(now)
	n := dayOf(t)
	if n > today || n < today-1 || n <= c.closed {
		n = today
	}
	return c.open(n, today)
}

// keptDays is how many days are kept at the most: today, yesterday, whose reports are on their way, and the day before
// that, for which the last attempts are made.
const keptDays = 3

// open returns the day, and forgets those that are too old.
func (c *Collector) open(n, today int64) *day {
	d := c.days[n]
	if d == nil {
		maps.DeleteFunc(c.days, func(old int64, _ *day) bool { return old <= today-keptDays })
		d = &day{domains: make(map[string]*tally)}
		c.days[n] = d
	}
	return d
}

// Stats are numbers about what a [Collector] keeps.
type Stats struct {
	Days     int // days of which there is something
	Domains  int // those of each day
	Policies int // those of each domain
	Failures int // different failures of each domain
	Waiting  int // reports of past days that are still to be sent
	Memory   int // about how many octets all of it takes
	// Dropped is the number of events that were not counted since the collector was made: there were too many domains, or
	// the domain is none.
	Dropped int64
}

// Stats returns numbers about what is kept.
func (c *Collector) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Days: len(c.days), Dropped: c.dropped}
	add := func(t *tally) {
		s.Domains++
		s.Policies += len(t.policies)
		s.Failures += t.details
	}
	for _, d := range c.days {
		s.Memory += d.memory
		for _, t := range d.domains {
			add(t)
		}
	}
	past := make(map[int64]bool)
	c.out.each(func(p *pending) {
		past[p.day] = true
		s.Waiting++
		s.Memory += p.memory()
		add(p.tally)
	})
	s.Days += len(past)
	return s
}

// Reports returns the reports on the day of t, in UTC, ordered by domain: one for each domain to which there were
// events. It is for programs that send reports by themselves, and do not call Run. Send a report only to a domain that
// asks for it: see [LookupRecord]. Two days back is the furthest. The reports on a day that is not over have what has
// been counted up to now. Each report has the same ID every time.
func (c *Collector) Reports(t time.Time) []*Report {
	n := dayOf(t)
	var reports []*Report
	c.mu.Lock()
	if d := c.days[n]; d != nil {
		for domain, t := range d.domains {
			reports = append(reports, c.report(t, n, domain))
		}
	}
	c.out.each(func(p *pending) {
		if p.day == n {
			reports = append(reports, c.report(p.tally, n, p.domain))
		}
	})
	c.mu.Unlock()
	slices.SortFunc(reports, func(x, y *Report) int { return cmp.Compare(x.Domain, y.Domain) })
	return reports
}

// Forget forgets the day of t, in UTC. Programs that send the reports by themselves call it when that is done. Events
// of a past day that come later count for today.
func (c *Collector) Forget(t time.Time) {
	n := dayOf(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.days, n)
	c.changed = true
	if n < dayOf(time.Now()) {
		c.closed = max(c.closed, n)
	}
	c.out.forget(n)
}

// report returns a report of what t has, complete.
func (c *settings) report(t *tally, n int64, domain string) *Report {
	r := t.report(domain)
	r.Organization, r.Contact = c.Organization, c.Contact
	start := startOf(n)
	r.DateRange = DateRange{Start: start, End: start.Add(24*time.Hour - time.Second)}
	r.ID = fmt.Sprintf("%s.%016x@%s", start.Format("20060102"), t.id, c.submitter)
	return r
}

const secondsOfDay = 24 * 60 * 60

// dayOf returns the number of the day in UTC that t is in.
func dayOf(t time.Time) int64 {
	s := t.Unix()
	n := s / secondsOfDay
	if s < 0 && s%secondsOfDay != 0 {
		n--
	}
	return n
}

// startOf returns the first moment of a day.
func startOf(n int64) time.Time { return time.Unix(n*secondsOfDay, 0).UTC() }
