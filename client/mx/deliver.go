package mx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/internal/ended"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/proto"
)

// A Deliverer sends messages to the mail exchangers of their recipients. [New] makes one. It is a [client.Sender], as
// are a pool of connections to a smarthost and the destinations of package deliver. Its methods may be called at any
// time by any goroutine.
type Deliverer struct {
	opt    Options
	router Router
	group  *pool.Group
	sts    *mtasts.Cache // nil: there is no MTA-STS
	ownSTS bool          // it is to be closed
	gate   gate          // what calls of Send go through
	memory memory
	ways   ways
}

var _ client.Sender = (*Deliverer)(nil)

// New returns a Deliverer. Call [Deliverer.Close] in the end. The error is a mistake in opt.
func New(opt *Options) (*Deliverer, error) {
	with, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Deliverer{opt: with, sts: with.STS, group: pool.NewGroup(with.Pool)}
	d.router = Router{Resolver: with.Resolver, Names: with.Names, Addrs: with.Addrs, Family: with.Family}
	d.router.Resolver = d.router.resolver()
	if d.sts == nil && !with.DisableSTS {
		d.sts, err = mtasts.New(&mtasts.Options{
			Resolver: d.router.Resolver, TLSConfig: with.Client.TLSConfig, DialContext: with.Client.DialContext,
		})
		if err != nil {
			return nil, err
		}
		d.ownSTS = true
	}
	if with.DisableSTS {
		d.sts = nil
	}
	return d, nil
}

// ErrClosed is the error for messages that were not begun because the Deliverer had been closed. It wraps
// [client.ErrClosed], and so [client.Temporary] is true for it: the messages can be sent by another Deliverer.
var ErrClosed = fmt.Errorf("smtp: the Deliverer is closed: %w", client.ErrClosed)

// Close waits until the messages on their way have their outcomes, closes the connections, and waits until all calls of
// Send have told Options.Trace and Options.Reports. New messages get [ErrClosed], and so do recipients whose turn with
// a further host would come. When ctx ends, Close closes the connections at once, and returns the error of ctx.
func (d *Deliverer) Close(ctx context.Context) error {
	d.gate.close()
	err := d.group.Close(ctx)
	if d.ownSTS {
		err = errors.Join(err, d.sts.Close())
	}
	if late := d.gate.wait(ctx); err == nil {
		err = late
	}
	return err
}

// A gate lets calls in until it is closed, and tells when all have left. The zero value is open.
type gate struct {
	inside sync.WaitGroup

	mu   sync.RWMutex
	shut bool
}

// enter reports whether the gate is open. Then leave has to be called.
func (g *gate) enter() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if !g.shut {
		g.inside.Add(1)
	}
	return !g.shut
}

func (g *gate) leave() { g.inside.Done() }

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

func (g *gate) isShut() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.shut
}

// wait waits until all have left, or ctx has ended. The gate has to be closed.
func (g *gate) wait(ctx context.Context) error {
	empty := make(chan struct{})
	go func() {
		g.inside.Wait()
		close(empty)
	}()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ended.Reason(ctx)
	}
}

// Route returns the hosts that take the mail of a domain, as Send would try them; see [Router.Route].
func (d *Deliverer) Route(ctx context.Context, domain proto.Domain) (*Route, error) {
	return d.router.Route(ctx, domain)
}

// Send sends m to the mail exchangers of its recipients: to those of each domain in one transaction, and to the domains
// at the same time. The result tells the outcome for each recipient, in the order of m.To. The error is nil if all
// recipients were accepted, and otherwise a *client.SendError.
//
// For each domain Send makes one attempt: it tries the hosts in their order until one takes the message, as far as
// Options.MaxAddresses and Options.MaxSessions permit. A recipient that a host refuses with 5yz is refused for good.
// One that is refused with 4yz is tried at the next host. A message that may have been accepted, since the connection
// broke before the reply, is tried no further. What is temporary can be tried again later: by [client.Retry], or by a
// queue for days (RFC 5321 section 4.5.4.1).
//
// The errors of recipients are those of [client.Client.Send], a [*RouteError], or a [*PolicyError]. If several hosts
// could not be used, the error names all of them.
//
// A message with AllOrNone has to have all recipients in one domain. Otherwise it is a *client.MessageError, since one
// domain cannot wait for another.
func (d *Deliverer) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	if m == nil {
		m = &client.Message{}
	}
	jobs := d.split(m)
	if !d.gate.enter() {
		return fail(m, ErrClosed)
	}
	defer d.gate.leave()
	switch {
	case len(m.To) == 0:
		return fail(m, &client.MessageError{What: "the message", Err: errors.New("it has no recipients")})
	case m.AllOrNone && len(jobs) > 1:
		return fail(m, &client.MessageError{What: "the message", Err: errAllOrNone})
	}
	shared, err := client.Share(m)
	if err != nil {
		return fail(m, err)
	}
	defer shared.Close() // what could not be removed says nothing of the message
	waives := sync.OnceValue(func() bool { return waivesTLS(shared) })
	for _, j := range jobs {
		j.shared, j.m, j.waives = shared, m, waives
	}
	each(jobs, func(j *job) { j.run(ctx) })
	return collect(m, jobs)
}

// collect returns the outcome of m, of which each job has a part.
func collect(m *client.Message, jobs []*job) (*client.Result, error) {
	parts := make([]client.Part, len(jobs))
	for i, j := range jobs {
		res := &client.Result{Recipients: j.outcomes, Reply: j.reply, Octets: j.octets}
		parts[i] = client.Part{To: j.places, Result: res}
		failed := slices.IndexFunc(j.outcomes, func(o proto.Outcome) bool { return o.Err != nil })
		if failed >= 0 {
			parts[i].Err = &client.SendError{Result: res, Unknown: j.unknown, Err: j.outcomes[failed].Err}
		}
	}
	return client.Join(m, parts)
}

// each calls f for all jobs at the same time, and waits. If f panics, so does each: the functions of Options are the
// caller's.
func each(jobs []*job, f func(*job)) {
	var wg sync.WaitGroup
	var once sync.Once
	var panicked any
	for _, j := range jobs {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					once.Do(func() { panicked = p })
				}
			}()
			f(j)
		})
	}
	wg.Wait()
	if panicked != nil {
		panic(panicked)
	}
}

var errAllOrNone = errors.New("it goes to all recipients or to none, and they are of several domains: send one message to " +
	"each domain")

// fail gives all recipients the outcome err.
func fail(m *client.Message, err error) (*client.Result, error) {
	res := &client.Result{Recipients: make([]proto.Outcome, len(m.To))}
	for i := range m.To {
		res.Recipients[i] = proto.Outcome{Recipient: m.To[i], Err: err}
	}
	return res, &client.SendError{Result: res, Err: err}
}

// split returns a job for each domain, in the order of the first recipients.
func (d *Deliverer) split(m *client.Message) []*job {
	var jobs []*job
	byDomain := make(map[string]*job)
	for i := range m.To {
		domain := m.To[i].Address.Domain
		j := byDomain[domain.Key()]
		if j == nil {
			j = &job{d: d, domain: domain}
			byDomain[domain.Key()] = j
			jobs = append(jobs, j)
		}
		j.places = append(j.places, i)
		j.left = append(j.left, len(j.outcomes))
		j.outcomes = append(j.outcomes, proto.Outcome{Recipient: m.To[i], Err: errUntried})
	}
	return jobs
}
