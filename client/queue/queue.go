package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A Queue keeps messages in a Store and delivers them. It is safe for concurrent use. It is a [client.Sender]: whatever
// sends mail through one can use a Queue in its place.
type Queue struct {
	store  Store
	sender client.Sender
	opt    Options
	sched  scheduler
	room   room

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running context.Context // of attempts: ends when Close has waited for long enough
	cancel  context.CancelFunc
	done    sync.WaitGroup // all goroutines, and calls of Add
}

// ErrClosed is the error of a Queue that is closed.
var ErrClosed = errors.New("smtp: the queue is closed")

// New returns a queue over a store, which delivers by a Sender: package mx, a pool, client.DialSender, package deliver,
// or a function. It begins to deliver what the store has. The store belongs to the queue until Close has returned, and
// is not closed by it. The error tells a mistake in the options.
func New(store Store, sender client.Sender, opt *Options) (*Queue, error) {
	q := &Queue{store: store, sender: sender}
	if opt != nil {
		q.opt = *opt
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	o := &q.opt
	o.MaxRecipients = cmp.Or(max(o.MaxRecipients, 0), 100)
	o.MaxActive = cmp.Or(max(o.MaxActive, 0), 100)
	o.Policy = o.Policy.withDefaults()
	o.Limits = o.Limits.withDefaults()
	if o.Trace == nil {
		o.Trace = &Trace{}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if s, ok := sender.(interface {
		Site(ctx context.Context, domain proto.Domain) (string, error)
	}); ok && o.Site == nil {
		o.Site = s.Site
	}
	q.ctx, q.stop = context.WithCancel(context.Background())
	q.running, q.cancel = context.WithCancel(context.Background())
	q.sched = scheduler{
		dests: make(map[string]*dest), sites: make(map[string]*site), suspend: make(map[string]Suspension),
		parked: make(map[string][]string), fetched: make(map[string]bool), wake: make(chan struct{}, 1), sweep: 1024,
	}
	suspended, err := store.Suspended(q.ctx, time.Now())
	if err != nil {
		q.stop()
		q.cancel()
		return nil, err
	}
	for _, s := range suspended {
		q.sched.suspend[s.Site] = s
	}
	q.done.Add(1)
	go q.claim(q.ctx)
	return q, nil
}

// check finds mistakes in the options.
func (q *Queue) check() error {
	o := &q.opt
	switch {
	case q.store == nil:
		return errors.New("smtp: queue.New needs a Store: use OpenDir, package sqlstore, or NewMemory in tests")
	case o.Hostname == "":
		return errors.New("smtp: Options.Hostname of the queue is missing: reports need the name of this host")
	case q.sender == nil && o.Route == nil:
		return errors.New("smtp: queue.New needs a Sender, or a Route for all mail")
	}
	for name := range o.Routes {
		if name == "" {
			return errors.New(`smtp: Options.Routes of the queue has the name "", which stands for the Sender`)
		}
	}
	for _, d := range o.Policy.Retry {
		if d <= 0 {
			return fmt.Errorf("smtp: Policy.Retry of the queue has a pause of %v: use one above 0", d)
		}
	}
	if share := o.Limits.Share; share < 0 || share > 1 {
		return fmt.Errorf("smtp: Limits.Share of the queue is %v: use a part between 0 and 1", share)
	}
	return nil
}

// Close ends the queue. It takes no more mail, begins no more attempts, and waits for those under way until ctx ends,
// when it cancels them. What is not delivered stays in the store. It returns the error of ctx if attempts were
// cancelled. A context that has ended already, as that of a signal has, leaves them no time: a server that was about to
// answer may then get the message again. It waits for calls of Add that are writing too, which read a content of more
// than 256 KiB meanwhile: so close first what calls Add.
func (q *Queue) Close(ctx context.Context) error {
	s := &q.sched
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		q.stop()
		for _, at := range s.sites {
			if at.timer != nil {
				at.timer.Stop()
			}
		}
		for _, d := range s.dests {
			q.leave(d, time.Time{})
		}
	}
	s.mu.Unlock()
	over := make(chan struct{})
	go func() {
		q.done.Wait()
		close(over)
	}()
	var err error
	select {
	case <-over:
	case <-ctx.Done():
		err = ctx.Err()
		q.cancel()
		<-over
	}
	q.cancel()
	return err
}

// Add takes a message. When it returns nil the message is durable: it will be delivered, or reported on, whatever
// happens to the process. It reads body to its end. The ID names the message in the log.
//
// Add fails if body fails, with the error of that, and keeps nothing. A *proto.Error with 452 4.3.1 says that the queue
// has no room (see Limits) or cannot write; with 5yz that the envelope is wrong. It is what a server can answer. If ctx
// ends while the message is being written, it may have been added.
func (q *Queue) Add(ctx context.Context, e *Envelope, body io.Reader) (ID, error) {
	if err := q.enter(); err != nil {
		return "", err
	}
	err := q.Room(ctx, e.Tag)
	q.done.Done()
	if err != nil {
		return "", err
	}
	entry, err := q.entry(e, body) // Close does not wait for a client that is slow
	if err != nil {
		return "", err
	}
	if err := q.enter(); err != nil {
		return "", err
	}
	defer q.done.Done()
	q.pin(entry)
	if err = q.room.add(ctx, q.store, entry); err != nil {
		q.unpin(entry)
		if ctx.Err() == nil && !isReading(entry, err) {
			err = q.full(err)
		}
		return "", err
	}
	q.room.recovered(q)
	if t := q.opt.Trace.Added; t != nil {
		t(entry.Message, entry.Jobs)
	}
	q.arrived(entry)
	return entry.Message.ID, nil
}

// enter has Close wait until q.done.Done is called. The error says that the queue is closed.
func (q *Queue) enter() error {
	q.sched.mu.Lock()
	defer q.sched.mu.Unlock()
	if q.sched.closed {
		return &proto.Error{Code: 451, Status: proto.Status{4, 3, 2}, Text: "The queue is closed", Err: ErrClosed}
	}
	q.done.Add(1)
	return nil
}

// Send is Add for a [client.Message]. All recipients of the result have the outcome of Add, and its Reply has the ID.
// An error that Add returns is in a *client.SendError. The Trace has the ID of the message; Add returns it.
func (q *Queue) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	res := &client.Result{Recipients: make([]proto.Outcome, len(m.To))}
	var id ID
	body, _, err := m.Open()
	if err == nil {
		id, err = q.Add(ctx, &Envelope{From: m.From, Params: m.Mail, To: m.To, Needs: m.Needs}, body)
		body.Close()
	}
	for i := range m.To {
		res.Recipients[i] = proto.Outcome{Recipient: m.To[i], Err: err}
	}
	if err != nil {
		return res, &client.SendError{Result: res, Err: err}
	}
	res.Reply = proto.Reply{Code: 250, Status: proto.Status{2, 0, 0}, Text: "Queued as " + string(id)}
	for i := range res.Recipients {
		res.Recipients[i].Reply = res.Reply
	}
	return res, nil
}

// maxSmall is the size up to which a content is kept in memory while it is added.
const maxSmall = 256 << 10

// entry makes a message with its jobs.
func (q *Queue) entry(e *Envelope, body io.Reader) (*Entry, error) {
	now := time.Now()
	if len(e.To) == 0 {
		return nil, proto.Refuse(554, proto.Status{5, 5, 1}, "No valid recipients")
	}
	m := &Message{
		ID: e.ID, Arrived: now, From: e.From, Params: e.Params, Needs: e.Needs | ehlo.Needs(e.Params),
		ReceivedFrom: e.ReceivedFrom, Tag: e.Tag,
	}
	switch {
	case m.ID == "":
		m.ID = NewID(now)
	case !m.ID.Valid():
		return nil, fmt.Errorf("smtp: %q is no ID of a message: make one with queue.NewID", m.ID)
	}
	entry := &Entry{Message: m}
	var err error
	if entry.Jobs, err = q.jobs(m, e.To); err != nil {
		return nil, err
	}
	if body == nil {
		body = strings.NewReader("")
	}
	small, rest, err := contentOf(body)
	switch {
	case err != nil:
		return nil, err
	case rest == nil:
		entry.small, entry.Content = small, bytes.NewReader(small)
		m.Size = int64(len(small))
	default:
		entry.Content = &reading{Reader: io.MultiReader(bytes.NewReader(small), rest)}
	}
	return entry, nil
}

// A reading remembers the error of the content, so that it is not taken for one of the store.
type reading struct {
	io.Reader
	err error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func isReading(e *Entry, err error) bool {
	r, ok := e.Content.(*reading)
	return ok && r.err != nil && errors.Is(err, r.err)
}

// scratch has buffers in which contents are read: one that is small is copied to its size.
var scratch = sync.Pool{New: func() any {
	b := make([]byte, 0, 16<<10)
	return &b
}}

// contentOf reads a content. If it is small, rest is nil. Otherwise small is its beginning.
func contentOf(r io.Reader) (small []byte, rest io.Reader, err error) {
	p := scratch.Get().(*[]byte)
	buf := (*p)[:0]
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > maxSmall && (err == nil || err == io.EOF):
			return buf, r, nil
		case err == nil && len(buf) < cap(buf):
			continue
		case err == nil:
			buf = append(buf, 0)[:len(buf)]
			continue
		}
		if err == io.EOF {
			small, err = append(make([]byte, 0, len(buf)), buf...), nil
		}
		*p = buf
		scratch.Put(p)
		return small, nil, err
	}
}

// jobs divides recipients into jobs, by destination.
func (q *Queue) jobs(m *Message, to []proto.Recipient) (jobs []*Job, err error) {
	open := make(map[string]*Job, 1)
	for _, r := range to {
		name, err := q.destination(m, r.Address)
		if err != nil {
			return nil, err
		}
		j := open[name]
		if j == nil || len(j.To) >= q.opt.MaxRecipients {
			j = &Job{ID: JobID{m.ID, len(jobs)}, Destination: name}
			open[name] = j
			jobs = append(jobs, j)
		}
		j.To = append(j.To, Recipient{Recipient: r})
	}
	for _, j := range jobs {
		p := q.policyOf(j.Destination)
		s := newSchedule(m, &p)
		j.Due, j.Expires = s.due, s.expires
		j.Alarm = s.alarm(j)
		j.Lane = laneOf(m, len(to) > q.opt.MaxRecipients)
	}
	return jobs, nil
}

// destination returns where a recipient is.
func (q *Queue) destination(m *Message, to proto.Address) (string, error) {
	if to.IsNull() {
		return "", proto.Refuse(501, proto.Status{5, 1, 3}, "A recipient has no address")
	}
	if q.opt.Route != nil {
		if name := q.opt.Route(m, to); name != "" {
			if _, ok := q.opt.Routes[name]; !ok {
				return "", fmt.Errorf("smtp: Options.Route of the queue names the route %q, which Options.Routes has not", name)
			}
			return "=" + name, nil
		}
	}
	if to.Domain.IsZero() {
		return "", fmt.Errorf("smtp: the recipient %v has no domain: add one, or route it", to)
	}
	if q.sender == nil {
		return "", fmt.Errorf("smtp: the queue has no Sender for %v, and Options.Route names no route", to)
	}
	return to.Domain.Key(), nil
}

// pin has jobs of a new message handed out to the leases of their destinations, if these are there and have room. So
// they need not be read again.
func (q *Queue) pin(e *Entry) {
	s := &q.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	e.edits = s.edits
	for _, j := range e.Jobs {
		d := s.dests[j.Destination]
		if d == nil || d.leaving || d.site == nil || d.more[j.Lane] || d.waiting[j.Lane] >= maxLane ||
			!s.hasRoom(d.site) || s.broken || j.Due.After(e.Message.Arrived) || d.onDemand ||
			s.suspended(d, e.Message.Arrived) != nil {
			continue
		}
		d.busy++
		j.Epoch = d.lease.Epoch
	}
}

// unpin undoes pin for a message that could not be added. If the store has it all the same, which nobody knows, its
// jobs are handed out to a lease: so that has to end.
func (q *Queue) unpin(e *Entry) {
	s := &q.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range e.Jobs {
		if d := s.dests[j.Destination]; j.Epoch != 0 && d != nil {
			j.Epoch = 0
			d.busy--
			q.leave(d, time.Time{})
			q.settle(d)
		}
	}
}

// arrived puts the jobs of a message that the store has in line.
func (q *Queue) arrived(e *Entry) {
	s := &q.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range e.Jobs {
		d := s.dests[j.Destination]
		switch {
		case d == nil:
			s.poke()
		case j.Epoch == 0:
			d.more[j.Lane], d.alarms = true, d.alarms || !j.Alarm.After(time.Now())
			q.fill(d)
		default:
			d.busy--
			if e.edits != s.edits { // the job may have been changed
				q.leave(d, time.Time{})
			}
			if d.leaving { // it is released as soon as nothing is under way, and the job with it
				q.settle(d)
				continue
			}
			it := &item{dest: d, job: j, message: e.Message}
			if e.small != nil && s.contents+len(e.small) <= maxContents {
				it.content = e.small
			}
			q.push(it)
		}
	}
	q.dispatch()
}

// policy returns how a site is treated, and policyOf how a destination is.
func (q *Queue) policy(site string) Policy {
	if q.opt.PolicyFor == nil {
		return q.opt.Policy
	}
	p := q.opt.PolicyFor(site, q.opt.Policy)
	if slices.ContainsFunc(p.Retry, func(d time.Duration) bool { return d <= 0 }) {
		p.Retry = nil // without a pause it would be tried all the time
	}
	return p.withDefaults()
}

func (q *Queue) policyOf(destination string) Policy {
	if q.opt.PolicyFor == nil {
		return q.opt.Policy
	}
	q.sched.mu.Lock()
	if d := q.sched.dests[destination]; d != nil && d.site != nil {
		defer q.sched.mu.Unlock()
		return d.site.policy
	}
	q.sched.mu.Unlock()
	return q.policy(destination)
}

// siteOf returns the site of a destination. If it cannot be found out, the destination stands for itself.
func (q *Queue) siteOf(ctx context.Context, destination string) (site string) {
	defer func() {
		if v := recover(); v != nil {
			q.opt.Logger.Error("smtp: Options.Site of the queue has panicked", "domain", destination, "panic", v,
				"stack", string(debug.Stack()))
			site = destination
		}
	}()
	if q.opt.Site == nil || strings.HasPrefix(destination, "=") {
		return destination
	}
	domain, err := proto.ParseDomain(destination)
	if err != nil {
		return destination
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	name, err := q.opt.Site(ctx, domain)
	if err != nil || name == "" {
		return destination
	}
	return name
}

// senderOf returns what delivers to a destination, or nil if its mail waits to be fetched.
func (q *Queue) senderOf(destination string) client.Sender {
	route, ok := strings.CutPrefix(destination, "=")
	if !ok && q.sender != nil {
		return q.sender
	}
	if !ok {
		return client.SenderFunc(func(context.Context, *client.Message) (*client.Result, error) {
			return nil, fmt.Errorf("smtp: the queue has no Sender for mail to %s: give queue.New one, or reroute the mail", destination)
		})
	}
	if s, ok := q.opt.Routes[route]; ok {
		return s
	}
	return client.SenderFunc(func(context.Context, *client.Message) (*client.Result, error) {
		return nil, fmt.Errorf("smtp: the queue has no route %q: add it to Options.Routes, or reroute the mail", route)
	})
}
