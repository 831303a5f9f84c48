package queue

import (
	"slices"
	"strings"
	"time"
)

// How much is kept in memory.
const (
	maxLoaded   = 20000 // jobs that wait for their turn
	maxContents = 64 << 20
	maxParked   = 1000 // destinations that are woken at once when a suspension ends
)

// turns says whose turn it is, of the jobs that are due and in memory. Sites take turns by what their jobs cost; within
// a site the lanes do. A site whose window is full, whose rate is used up, or that is suspended has no turn.
//
// It knows nothing of the store, and begins nothing: the scheduler puts items in, takes out the one whose turn it is,
// and says what has become of it. It has no lock of its own: that of the scheduler guards it.
type turns struct {
	most     int              // attempts under way at once
	active   int              // attempts under way
	loaded   int              // items in lanes
	contents int              // octets of content in items
	sites    map[string]*site // those of leased destinations, and others that are remembered
	ring     fifo[*site]      // with an item, room in their window, and no suspension
	sweep    int              // the number of sites at which those that are not used are forgotten

	suspensions map[string]Suspension // by operators, by site or destination
	parked      map[string][]string   // destinations that wait for the end of a suspension, by its Site

	// later has enter called for a site after a while.
	later func(at *site, wait time.Duration)
}

// newTurns returns turns without sites.
func newTurns(most int, suspended []Suspension, later func(*site, time.Duration)) turns {
	t := turns{
		most: most, sites: make(map[string]*site), sweep: 1024, later: later,
		suspensions: make(map[string]Suspension), parked: make(map[string][]string),
	}
	for _, s := range suspended {
		t.suspensions[s.Site] = s
	}
	return t
}

// knows reports whether the policy of a site is known, and is not to be asked for anew: it has been used lately.
func (t *turns) knows(name string, now time.Time) bool {
	at := t.sites[name]
	return at != nil && (len(at.dests) > 0 || now.Sub(at.used) <= time.Minute)
}

// site returns a site that is used now. It is made, or has its policy asked for anew, if knows says so.
func (t *turns) site(name string, policy func(string) Policy, now time.Time) *site {
	at := t.sites[name]
	switch {
	case at == nil:
		t.forget(now)
		at = newSite(name, policy(name))
		if o, ok := t.suspensions[name]; ok {
			at.operator = &o
		}
		t.sites[name] = at
	case !t.knows(name, now):
		at.policy = policy(name)
	}
	at.used = now
	return at
}

// forget forgets sites that have not been used for a while, if there are many.
func (t *turns) forget(now time.Time) {
	if len(t.sites) < t.sweep {
		return
	}
	for n, at := range t.sites {
		if len(at.dests) == 0 && at.busy == 0 && at.suspended(now) == nil && now.Sub(at.used) > 10*time.Minute {
			delete(t.sites, n)
			delete(t.parked, n)
		}
	}
	t.sweep = max(2*len(t.sites), 1024)
}

// push puts an item in line, unless its destination is about to be released, and the job with it.
func (t *turns) push(it *item, now time.Time) {
	d := it.dest
	if d.leaving {
		return
	}
	d.waiting[it.job.Lane]++
	d.idle = time.Time{}
	d.site.lanes.push(it)
	d.site.loaded++
	t.loaded++
	t.contents += len(it.content)
	t.enter(d.site, now)
}

// remove takes the items of a destination out of their lanes, and returns their number.
func (t *turns) remove(d *dest) int {
	if d.site == nil || d.waits() == 0 {
		return 0
	}
	gone := d.site.lanes.remove(func(it *item) bool { return it.dest == d })
	for _, it := range gone {
		t.unloaded(it)
	}
	return len(gone)
}

// unloaded takes note that an item has left its lane.
func (t *turns) unloaded(it *item) {
	it.dest.waiting[it.job.Lane]--
	it.dest.site.loaded--
	t.loaded--
	t.contents -= len(it.content)
}

// hasRoom reports whether more jobs of a site may be read into memory. It has at most as many as there is room left
// for, so one site takes half of it, and there is always some for others.
func (t *turns) hasRoom(at *site) bool { return at.loaded < maxLoaded-t.loaded }

// hasSlot reports whether a site may have another attempt. It has at most four times as many as are left for others, so
// that some are left while attempts at many sites take long.
func (t *turns) hasSlot(at *site) bool { return at.busy < 4*(t.most-t.active) }

// enter puts a site in the ring if it is ready.
func (t *turns) enter(at *site, now time.Time) {
	if !at.inRing && at.ready(now) {
		at.inRing, at.deficit = true, 0
		t.ring.push(at)
	}
}

// pick takes out the item whose turn it is, and counts an attempt at its site as under way. It returns nil if there is
// none.
func (t *turns) pick(now time.Time) *item {
	for t.ring.len() > 0 {
		at := t.ring.first()
		if !at.ready(now) || !t.hasSlot(at) { // the end of one of its attempts has it come back
			t.dropFirst()
			continue
		}
		cost := cost(at.lanes.peek().message)
		if at.deficit < cost && t.ring.len() > 1 {
			at.deficit++
			t.ring.push(t.ring.pop())
			continue
		}
		if t.throttled(at, now) {
			t.dropFirst()
			continue
		}
		at.deficit = max(at.deficit-cost, 0)
		it := at.lanes.pop()
		t.unloaded(it)
		t.active++
		at.busy++
		at.used = now
		if !at.ready(now) {
			t.dropFirst()
		}
		return it
	}
	return nil
}

// dropFirst takes the first site out of the ring.
func (t *turns) dropFirst() { t.ring.pop().inRing = false }

// throttled reports whether the rate of a site forbids an attempt now. Then the site comes back later. Otherwise the
// attempt is counted.
func (t *turns) throttled(at *site, now time.Time) bool {
	if at.policy.Rate <= 0 {
		return false
	}
	wait := at.next.Sub(now)
	if wait <= 0 {
		at.next = now.Add(time.Duration(float64(time.Second) / at.policy.Rate))
		return false
	}
	if at.timer == nil {
		t.later(at, wait)
	}
	return true
}

// suspended returns why no attempts are made at a destination now, or nil.
func (t *turns) suspended(d *dest, now time.Time) *Suspension {
	if o, ok := t.suspensions[d.lease.Destination]; ok && now.Before(o.Until) {
		return &o
	}
	return d.site.suspended(now)
}

// suspend begins a suspension by an operator, or ends it if its time is zero. It returns the site of that name, or nil.
func (t *turns) suspend(c Suspension) *site {
	at := t.sites[c.Site]
	operator := &c
	if c.Until.IsZero() {
		operator = nil
		delete(t.suspensions, c.Site)
	} else {
		t.suspensions[c.Site] = c
	}
	if at != nil {
		at.operator = operator
	}
	return at
}

// revive ends the suspension of a site that could not be reached, or of all of them if name is "".
func (t *turns) revive(name string) {
	for _, at := range t.sites {
		if name == "" || name == at.name {
			at.health.dead = nil
		}
	}
}

// park remembers a destination that waits for the end of a suspension, unless there are many, and unpark returns and
// forgets those that do.
func (t *turns) park(suspended, destination string) {
	if list := t.parked[suspended]; len(list) < maxParked && !slices.Contains(list, destination) {
		t.parked[suspended] = append(list, destination)
	}
}

func (t *turns) unpark(suspended string) []string {
	list := t.parked[suspended]
	delete(t.parked, suspended)
	return list
}

// states returns the state of all sites that are known or suspended, sorted by name.
func (t *turns) states(now time.Time) (list []SiteState) {
	for name, at := range t.sites {
		state := SiteState{
			Site: name, Window: at.health.window, Busy: at.busy, Loaded: at.loaded, LastError: at.health.last,
		}
		if why := at.suspended(now); why != nil {
			c := *why
			state.Suspension, state.ByOperator = &c, why == at.operator
		}
		list = append(list, state)
	}
	for name, why := range t.suspensions {
		if t.sites[name] == nil && now.Before(why.Until) {
			c := why
			list = append(list, SiteState{Site: name, Suspension: &c, ByOperator: true})
		}
	}
	slices.SortFunc(list, func(a, b SiteState) int { return strings.Compare(a.Site, b.Site) })
	return list
}
