package tlsrpt

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"
)

// An outbox has the reports on past days that are to be sent.
type outbox struct {
	mu    sync.Mutex // where both are held, that of the collector is locked first
	all   map[key]*pending
	queue queue // those that nobody is sending now
}

type key struct {
	day    int64
	domain string
}

// A pending is a report that is to be sent. What it has counted does not change anymore.
type pending struct {
	key
	tally *tally
	due   time.Time
	first time.Time     // when the first attempt was made
	wait  time.Duration // before the attempt that is due
}

func (p *pending) memory() int {
	n := 256 + len(p.domain)
	for _, a := range p.tally.policies {
		n += a.policy.size()
		for d := range a.failures {
			n += d.size()
		}
	}
	return n
}

func newOutbox() outbox { return outbox{all: make(map[key]*pending)} }

// put puts in a report.
func (o *outbox) put(p *pending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[p.key] = p
	heap.Push(&o.queue, p)
}

// take takes a report that is due at a time, or returns nil. It is to be given back, or done.
func (o *outbox) take(now time.Time) *pending {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 || o.queue[0].due.After(now) {
		return nil
	}
	return heap.Pop(&o.queue).(*pending)
}

// again gives back a report of which an attempt has failed that began at a time. It reports whether there is time for
// another one.
func (o *outbox) again(p *pending, began, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.first.IsZero() {
		p.first = began
	}
	p.wait = min(max(2*p.wait, firstWait), longestWait)
	p.due = now.Add(p.wait)
	if p.due.After(p.first.Add(giveUp)) {
		delete(o.all, p.key)
		return false
	}
	if o.all[p.key] == p {
		heap.Push(&o.queue, p)
	}
	return true
}

// giveBack gives back a report of which no attempt was made.
func (o *outbox) giveBack(p *pending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all[p.key] == p {
		heap.Push(&o.queue, p)
	}
}

// done forgets a report.
func (o *outbox) done(p *pending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all[p.key] == p {
		delete(o.all, p.key)
	}
}

// forget forgets the reports on a day.
func (o *outbox) forget(day int64) { o.remove(func(k key) bool { return k.day == day }) }

// remove forgets the reports of which f says so.
func (o *outbox) remove(f func(key) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.all {
		if f(k) {
			delete(o.all, k)
		}
	}
	left := o.queue[:0]
	for _, p := range o.queue {
		if o.all[p.key] == p {
			left = append(left, p)
		}
	}
	clear(o.queue[len(left):])
	o.queue = left
	heap.Init(&o.queue)
}

// each calls f for each report.
func (o *outbox) each(f func(*pending)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.all {
		f(p)
	}
}

// Attempts are made for 24 hours, with waits that grow (RFC 8460 section 5.5).
const (
	firstWait   = 15 * time.Minute
	longestWait = 4 * time.Hour
	giveUp      = 24 * time.Hour
)

// afterMidnight is how long events of a past day still count for it, since a session takes its time.
const afterMidnight = 5 * time.Minute

// close moves what was counted on past days to the outbox, each domain due at a random time.
func (c *Collector) close(now time.Time) {
	today := dayOf(now.Add(-afterMidnight))
	c.saving.Lock() // or a domain might be saved twice, before and after
	defer c.saving.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, d := range c.days {
		if n >= today {
			continue
		}
		delete(c.days, n)
		c.changed = true
		for domain, t := range d.domains {
			due := now
			if c.MaxDelay > 0 {
				due = now.Add(rand.N(c.MaxDelay))
			}
			c.out.put(&pending{key: key{n, domain}, tally: t, due: due})
		}
	}
	if c.closed < today-1 {
		c.closed = today - 1
		c.out.remove(func(k key) bool { return k.day <= today-keptDays })
	}
}

// A queue is a heap of reports, the next one first.
type queue []*pending

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(p any)        { *q = append(*q, p.(*pending)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}
