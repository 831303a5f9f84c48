package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	opt    Options
	ways   router    // what the options say of a destination
	room   room      // whether another message is taken
	outage outage    // whether the store can be written: it stops room and sched
	sched  scheduler // which job is attempted next; what is attempted is an attempt

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running context.Context // of attempts: ends when Close has waited for long enough
	cancel  context.CancelFunc

	mu     sync.Mutex // guards closed
	closed bool
	calls  sync.WaitGroup // of Add and Fetch
}

// ErrClosed is the error of a Queue that is closed.
var ErrClosed = errors.New("smtp: the queue is closed")

// New returns a queue over a store, which delivers by a Sender: package mx, a pool, client.DialSender, package deliver,
// or a function. It begins to deliver what the store has. The store belongs to the queue until Close has returned, and
// is not closed by it. The error tells a mistake in the options.
func New(store Store, sender client.Sender, opt *Options) (*Queue, error) {
	q := &Queue{store: store}
	if opt != nil {
		q.opt = *opt
	}
	q.ways = router{opt: &q.opt, sender: sender}
	if err := q.check(); err != nil {
		return nil, err
	}
	o := &q.opt
	o.MaxRecipients = cmp.Or(max(o.MaxRecipients, 0), 100)
	o.MaxActive = cmp.Or(max(o.MaxActive, 0), 100)
	o.Policy = o.Policy.withDefaults()
	o.Limits = o.Limits.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Trace == nil {
		o.Trace = &Trace{}
	}
	o.Trace = o.Trace.guarded(o.Logger)
	if s, ok := sender.(interface {
		Site(ctx context.Context, domain proto.Domain) (string, error)
	}); ok && o.Site == nil {
		o.Site = s.Site
	}
	q.ctx, q.stop = context.WithCancel(context.Background())
	q.running, q.cancel = context.WithCancel(context.Background())
	suspended, err := store.Suspended(q.ctx, time.Now())
	if err != nil {
		q.stop()
		q.cancel()
		return nil, err
	}
	q.outage = outage{
		logger: o.Logger, failed: o.Trace.Failed, ctx: q.ctx, never: context.WithoutCancel(q.ctx),
		poke: func() { q.sched.wake.send() }, resume: q.sched.resume,
	}
	q.room = room{store: store, limits: o.Limits, outage: &q.outage}
	q.sched = scheduler{
		store: store, ways: &q.ways, outage: &q.outage, worker: q, trace: o.Trace, logger: o.Logger, ctx: q.ctx,
	}
	q.sched.start(o.MaxActive, suspended)
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
	case q.ways.sender == nil && o.Route == nil:
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
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.sched.close()
	q.stop()
	over := make(chan struct{})
	go func() {
		q.calls.Wait() // what they add is the scheduler's
		q.sched.done.Wait()
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
	if !q.enter() {
		return "", closed()
	}
	err := q.room.check(ctx, e.Tag)
	q.calls.Done()
	if err != nil {
		return "", err
	}
	entry, err := q.entry(e, body, q.ways.destination) // Close does not wait for a client that is slow
	if err != nil {
		return "", err
	}
	if !q.enter() {
		return "", closed()
	}
	defer q.calls.Done()
	held, err := q.room.hold(ctx, e.Tag, int64(len(entry.small)))
	if err != nil {
		return "", err
	}
	defer held.release()
	if r, ok := entry.Content.(*reading); ok {
		r.held = held
	}
	q.sched.pin(entry)
	if err = q.room.add(ctx, entry); err != nil {
		q.sched.unpin(entry)
		if ctx.Err() == nil && !isReading(entry, err) {
			err = q.room.refuse(err)
		}
		return "", err
	}
	q.outage.end()
	if t := q.opt.Trace.Added; t != nil {
		t(entry.Message, entry.Jobs)
	}
	q.sched.arrived(entry)
	return entry.Message.ID, nil
}

// Room returns the error that Add would return now if the queue has no room for a message of tag: a *proto.Error with
// 452 4.3.1. A server calls it at MAIL, so that a client need not send what is refused.
func (q *Queue) Room(ctx context.Context, tag string) error { return q.room.check(ctx, tag) }

// Outage returns since when the store cannot be written, and why, or the zero time. Meanwhile the queue takes no mail,
// makes no attempts, and tries again at the latest in a minute. Some stores have to be opened again, such as a Dir
// after a sync has failed. So a program that is started again when it ends may well end if an outage lasts for minutes.
func (q *Queue) Outage() (since time.Time, err error) { return q.outage.lasting() }

// enter has Close wait until q.calls.Done is called. It reports false if the queue is closed.
func (q *Queue) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.calls.Add(1)
	}
	return !q.closed
}

// closed returns the refusal of a queue that is closed.
func closed() *proto.Error {
	return &proto.Error{Code: 451, Status: proto.Status{4, 3, 2}, Text: "The queue is closed", Err: ErrClosed}
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

// A destinations function returns where a recipient is.
type destinations func(m *Message, to proto.Address) (string, error)

// entry makes a message with its jobs.
func (q *Queue) entry(e *Envelope, body io.Reader, where destinations) (*Entry, error) {
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
	if entry.Jobs, err = q.jobs(m, e.To, where); err != nil {
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

// A reading remembers the error of the content, so that it is not taken for one of the store. Its octets need room.
type reading struct {
	io.Reader
	held *hold
	err  error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		if full := r.held.grow(Usage{Octets: int64(n)}); full != nil {
			err = full
		}
	}
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
func (q *Queue) jobs(m *Message, to []proto.Recipient, where destinations) (jobs []*Job, err error) {
	var open map[string]*Job // those of several destinations; most messages have one
	var j *Job
	for _, r := range to {
		name, err := where(m, r.Address)
		if err != nil {
			return nil, err
		}
		if j != nil && j.Destination != name {
			if open == nil {
				open = map[string]*Job{j.Destination: j}
			}
			j = open[name]
		}
		if j == nil || len(j.To) >= q.opt.MaxRecipients {
			j = &Job{ID: JobID{m.ID, len(jobs)}, Destination: name}
			jobs = append(jobs, j)
			if open != nil {
				open[name] = j
			}
		}
		j.To = append(j.To, Recipient{Recipient: r})
	}
	for _, j := range jobs {
		p := q.sched.policyOf(j.Destination)
		s := newSchedule(m, &p)
		j.Due, j.Expires = s.due, s.expires
		j.Alarm = s.alarm(j)
		j.Lane = laneOf(m, len(to) > q.opt.MaxRecipients)
	}
	return jobs, nil
}
