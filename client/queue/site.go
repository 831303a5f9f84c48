package queue

import (
	"time"
)

// maxDeath is how long a site that cannot be reached is left alone at most.
const maxDeath = 30 * time.Minute

// An item is a job in memory that waits for its turn.
type item struct {
	dest *dest
	job  *Job
	// message and content are there if the job has come by Add and its content is small. They spare reading it again.
	message *Message
	content []byte
	edits   int // of the scheduler, when the attempt began
}

// A site is where jobs of one or more destinations go, over connections to the same servers. It bounds how many
// attempts are made at once, and how many in a second.
//
// The window is that of Postfix: a site begins with a few attempts at once. Each attempt that has found a server makes
// the window grow by 1/N, where N is its size, and each one that has not makes it shrink by as much. When as many in a
// row have failed as the window has room for, the site is dead for a while. Then a single attempt tries it.
type site struct {
	name   string
	policy Policy
	health health
	busy   int // attempts under way
	loaded int // items in lanes
	lanes  lanes
	dests  map[string]*dest
	// operator is the suspension that an operator has made, or nil.
	operator *Suspension
	// next is when the rate permits the next attempt, and timer runs while jobs wait for that.
	next  time.Time
	timer *time.Timer
	// inRing says that turns has the site in its ring, and deficit is what it has saved up there.
	inRing  bool
	deficit int
	used    time.Time // when it was last adopted or attempted
}

// health is what the attempts have shown of a site. Its zero value, with a window, is that of a site that is not known.
type health struct {
	window  float64
	success float64 // parts of a step up
	failure float64 // parts of a step down
	cohort  float64 // parts of a window that have failed in a row
	deaths  int     // suspensions in a row
	dead    *Suspension
	last    string // the last error of a connection
}

func newSite(name string, p Policy) *site {
	return &site{name: name, policy: p, health: health{window: float64(p.Window)}, dests: make(map[string]*dest)}
}

// suspended returns why no attempts are made now, or nil.
func (s *site) suspended(now time.Time) *Suspension {
	if s.operator != nil && now.Before(s.operator.Until) {
		return s.operator
	}
	if s.health.dead != nil && now.Before(s.health.dead.Until) {
		return s.health.dead
	}
	return nil
}

// ready reports whether an attempt can be made as soon as it is the turn of the site.
func (s *site) ready(now time.Time) bool {
	return s.loaded > 0 && float64(s.busy) < max(s.health.window, 1) && s.suspended(now) == nil
}

// succeeded records an attempt that has found a server.
func (s *site) succeeded() (resumed bool) {
	h := &s.health
	resumed = h.deaths > 0
	if resumed {
		h.window = float64(s.policy.Window)
	}
	h.deaths, h.dead, h.cohort, h.last = 0, nil, 0, ""
	if h.window >= float64(s.busy+s.policy.Window) {
		return resumed // what is not used does not grow
	}
	h.success += 1 / h.window
	if h.success >= 1-1e-9 {
		h.success, h.failure = 0, 0
		h.window = min(h.window+1, float64(s.policy.MaxWindow))
	}
	return resumed
}

// failed records an attempt that has found no server. It returns the suspension if the site is dead now.
func (s *site) failed(now time.Time, why string) *Suspension {
	h := &s.health
	h.last = why
	if h.dead != nil && now.Before(h.dead.Until) {
		return nil // an attempt that had begun before
	}
	h.cohort += 1 / h.window
	h.failure += 1 / h.window
	if h.failure >= 1-1e-9 {
		h.success, h.failure = 0, 0
		h.window = max(h.window-1, 1)
	}
	if h.cohort < 1-1e-9 {
		return nil
	}
	h.deaths++
	h.window, h.cohort = 1, 0
	pause := min(s.policy.pause(h.deaths), jitter(maxDeath))
	h.dead = &Suspension{Site: s.name, Until: now.Add(pause), Why: why}
	return h.dead
}

// lanes are the lines in which the items of a site wait. The lane that has had the least for its share is the next one.
type lanes struct {
	items [Lanes]fifo[*item]
	pass  [Lanes]float64
	time  float64 // the pass of the item that was taken last
}

func (l *lanes) push(it *item) {
	q := &l.items[it.job.Lane]
	if q.len() == 0 {
		l.pass[it.job.Lane] = max(l.pass[it.job.Lane], l.time)
	}
	q.push(it)
}

// next returns the lane whose turn it is. At least one must have items.
func (l *lanes) next() Lane {
	best := -1
	for i := range l.items {
		if l.items[i].len() > 0 && (best < 0 || l.pass[i] < l.pass[best]) {
			best = i
		}
	}
	return Lane(best)
}

// peek returns the item whose turn it is, and pop takes it out.
func (l *lanes) peek() *item { return l.items[l.next()].first() }

func (l *lanes) pop() *item {
	i := l.next()
	l.time = l.pass[i]
	l.pass[i] += 1 / shares[i]
	return l.items[i].pop()
}

// each calls f for each item.
func (l *lanes) each(f func(*item)) {
	for i := range l.items {
		for _, it := range l.items[i].items[l.items[i].head:] {
			f(it)
		}
	}
}

// remove takes out the items for which gone returns true, and returns them.
func (l *lanes) remove(gone func(*item) bool) (out []*item) {
	for i := range l.items {
		out = l.items[i].remove(out, gone)
	}
	return out
}
