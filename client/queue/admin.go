package queue

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"smtpkit.example/smtp/proto"
)

// List returns at most max jobs that match f, in the order of arrival, from the one after the cursor. Next is the
// cursor for the following ones; it is JobID{} if there are none.
func (q *Queue) List(ctx context.Context, f Filter, after JobID, max int) (jobs []Listed, next JobID, err error) {
	return q.store.List(ctx, f, after, max)
}

// Shape returns how much waits for which destination, and for how long.
func (q *Queue) Shape(ctx context.Context) ([]Shape, error) { return q.store.Shape(ctx, time.Now()) }

// Open returns the content of a message. The error is ErrNotFound if there is none.
func (q *Queue) Open(ctx context.Context, id ID) (Content, error) { return q.store.Open(ctx, id) }

// Usage returns what is queued.
func (q *Queue) Usage(ctx context.Context) (Usage, error) { return q.store.Usage(ctx, "", true) }

// Hold has nothing happen to the jobs that match f until Release. They do not expire. An attempt under way is not
// stopped. It returns the number of jobs, as do the other methods.
func (q *Queue) Hold(ctx context.Context, f Filter, why string) (int, error) {
	return q.edit(ctx, f, Edit{Op: Hold, Why: why})
}

// Release undoes Hold. The jobs are due at once.
func (q *Queue) Release(ctx context.Context, f Filter) (int, error) {
	return q.edit(ctx, f, Edit{Op: Release})
}

// Retry has jobs attempted now. If the site of f.Destination is suspended because it does not answer, that ends, and so
// for all sites if f has no Destination; a suspension by an operator does not end. It is what ETRN asks for.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	name := f.Destination
	if name != "" {
		name = q.ways.siteOf(ctx, name)
	}
	q.sched.revive(name)
	return q.edit(ctx, f, Edit{Op: Retry})
}

// Reroute sends jobs another way: by a route, as in Options.Routes, or, if route is "", by the Sender of the Queue to
// the domain. The recipients stay the same. The error wraps ErrRoute if there is no such route.
func (q *Queue) Reroute(ctx context.Context, f Filter, route string, domain proto.Domain) (int, error) {
	e := Edit{Op: Reroute}
	switch _, ok := q.opt.Routes[route]; {
	case ok:
		e.Destination = "=" + route
	case route != "":
		return 0, q.ways.noRoute(strconv.Quote(route))
	case domain.IsZero():
		return 0, errors.New("smtp: Reroute needs the name of a route, or a domain")
	case q.ways.sender == nil:
		return 0, q.ways.noRoute("a Sender for domains")
	default:
		e.Destination = domain.Key()
	}
	return q.edit(ctx, f, e)
}

// Expire gives up now, and reports to the sender. A job under way ends with its attempt if that succeeds.
func (q *Queue) Expire(ctx context.Context, f Filter) (int, error) {
	return q.edit(ctx, f, Edit{Op: Expire})
}

// Drop forgets jobs, with all their recipients. Nobody is told, but the Logger: it gets the ID and the recipients of
// each.
func (q *Queue) Drop(ctx context.Context, f Filter) (int, error) {
	for after := (JobID{}); ; {
		list, next, err := q.store.List(ctx, f, after, 1000)
		if err != nil {
			return 0, err
		}
		for _, l := range list {
			to := make([]string, len(l.Job.To))
			for i, r := range l.Job.To {
				to[i] = r.Address.String()
			}
			q.opt.Logger.Warn("smtp: an operator drops mail", "id", l.Message.ID, "from", l.Message.From.String(), "to", to)
		}
		if after = next; after == (JobID{}) {
			break
		}
	}
	return q.edit(ctx, f, Edit{Op: Drop})
}

// edit changes jobs in the store, and has the scheduler read again those that it has in memory.
func (q *Queue) edit(ctx context.Context, f Filter, e Edit) (int, error) {
	e.At = time.Now()
	n, err := q.store.Edit(ctx, f, e)
	if n == 0 && err == nil {
		return 0, nil
	}
	q.sched.edited(f, e)
	return n, err
}

// Suspend makes no attempts at a site, or at one destination, until a time. Mail for it still expires. A zero time ends
// a suspension. It outlives the process. The name is one of Sites, or what Options.Site makes of a domain; or a
// destination as in Job.Destination, such as a domain, or "=" and the name of a route. Case does not matter. A name
// without mail is taken too.
func (q *Queue) Suspend(ctx context.Context, name string, until time.Time, why string) error {
	if name == "" {
		return errors.New("smtp: Suspend needs the name of a site: Sites and Shape tell the names")
	}
	if !strings.HasPrefix(name, "=") {
		name = strings.ToLower(name)
	}
	change := Suspension{Site: name, Until: until, Why: why}
	if err := q.store.Suspend(ctx, change); err != nil {
		return err
	}
	q.sched.suspend(change)
	return nil
}

// A SiteState says how a site is treated now.
type SiteState struct {
	Site   string
	Window float64 // how many attempts are made at once
	Busy   int     // attempts under way
	Loaded int     // jobs in memory that wait for their turn
	// Suspension is set while no attempts are made. It is an operator's if ByOperator.
	Suspension *Suspension
	ByOperator bool
	// LastError is what the last attempt that has found no server said.
	LastError string
}

// Sites returns the state of the sites that the queue has to do with now, and of those that are suspended, sorted by
// name.
func (q *Queue) Sites() []SiteState { return q.sched.states() }
