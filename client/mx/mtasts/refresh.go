package mtasts

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// A policy is refreshed when half of its life is over, and each day (RFC 8461 section 3.3), as long as its domain
	// has been asked for in the last 30 days.
	refreshEach = 24 * time.Hour
	useful      = 30 * 24 * time.Hour
	// lookAround is how often the Cache looks for policies that are due.
	lookAround = time.Minute
)

// refreshTime returns when to refresh a policy: the zero time for Mode None, which protects nobody.
func refreshTime(e *Entry) time.Time {
	if e.Policy.Mode == None {
		return time.Time{}
	}
	due := e.Fetched.Add(min(e.Policy.MaxAge/2, refreshEach))
	if now := time.Now(); e.Fetched.After(now) {
		return now // the clock was set
	}
	return due
}

// refreshAhead refreshes policies until the Cache is closed.
func (c *Cache) refreshAhead() {
	c.restore()
	ticker := time.NewTicker(lookAround)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		for _, name := range c.allDue() {
			select {
			case <-c.ctx.Done():
				return
			case c.ahead <- struct{}{}:
				c.refresh(name)
			}
		}
	}
}

// restore finds the policies that an earlier process has left in the Store.
func (c *Cache) restore() {
	names, err := c.opt.Store.Domains(c.ctx)
	if err != nil {
		if c.ctx.Err() == nil {
			c.opt.Logger.LogAttrs(c.ctx, slog.LevelError, "smtp: MTA-STS policies not listed", errAttr(err))
		}
		return
	}
	for _, name := range names {
		if c.ctx.Err() != nil {
			return
		}
		e := c.load(c.ctx, name)
		now := time.Now()
		if !e.valid(now) || e.Policy.Mode == None || now.Sub(e.Used) >= useful {
			continue
		}
		c.mu.Lock()
		if c.memos[name] == nil && len(c.memos) < c.opt.MaxDomains {
			m := &memo{domain: name, used: e.Used, due: refreshTime(e)}
			c.memos[name] = c.order.PushBack(m)
		}
		c.mu.Unlock()
	}
}

// allDue returns the domains whose policies are to be refreshed, and forgets those that are no longer in use.
func (c *Cache) allDue() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	now := time.Now()
	for el := c.order.Back(); el != nil; {
		m := el.Value.(*memo)
		el = el.Prev()
		if m.flight == nil && !m.due.IsZero() && !now.Before(m.due) && now.Sub(m.used) < useful {
			names = append(names, m.domain)
			continue
		}
		c.tidy(m, now)
	}
	return names
}

// refresh starts a flight for a domain whose policy is due. The caller has taken a place.
func (c *Cache) refresh(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.memos[name]
	if el == nil || c.closed || el.Value.(*memo).flight != nil {
		<-c.ahead
		return
	}
	f := c.newFlight()
	f.ahead = true
	f.leave = sync.OnceFunc(func() { <-c.ahead })
	c.start(el.Value.(*memo), f)
}
