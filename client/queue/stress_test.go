package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// A stress has operators do everything at once to a queue whose attempts fail in all ways, and counts what becomes of
// each recipient.
type stress struct {
	t     *testing.T
	store *queue.Memory
	q     *queue.Queue
	opt   queue.Options

	mu    sync.Mutex
	rcpts map[string]*fate
}

// A fate is what has become of a recipient.
type fate struct {
	accepted, delivered, failed, reported, dropped, listed int
}

func (s *stress) of(to string, f func(r *fate)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rcpts[to]; r != nil {
		f(r)
	}
}

// Send does one of the things that servers and Senders do.
func (s *stress) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	what := rand.N(100)
	if what < 20 {
		time.Sleep(rand.N(10 * time.Minute))
	}
	switch {
	case what == 0:
		panic("a mistake")
	case what == 1:
		return nil, nil
	case what < 30:
		return nil, errors.New("connection refused")
	case what < 35:
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Hour):
			return nil, errors.New("no answer")
		}
	}
	res := &client.Result{}
	for _, to := range m.To {
		o := proto.Outcome{Recipient: to, Reply: proto.Reply{Code: 250}}
		switch n := rand.N(10); {
		case n < 4 || what > 95:
			o = proto.Outcome{Recipient: to, Err: later}
		case n < 5:
			o = proto.Outcome{Recipient: to, Err: proto.Refuse(550, proto.Status{5, 1, 1}, "no")}
		default:
			s.of(to.Address.String(), func(r *fate) { r.accepted++ })
		}
		res.Recipients = append(res.Recipients, o)
	}
	return res, nil
}

func (s *stress) open() {
	w := &world{t: s.t}
	w.openOver(s.store, s, &s.opt)
	s.mu.Lock()
	s.q = w.q
	s.mu.Unlock()
}

func (s *stress) queue() *queue.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.q
}

const stressDomains = 8

func stressDomain() string { return fmt.Sprintf("d%d.example", rand.N(stressDomains)) }

// add adds a message. A queue that is closed takes none.
func (s *stress) add(name string) {
	e := &queue.Envelope{From: address(s.t, "a@x.example"), Params: params(fmt.Sprintf("MT-PRIORITY=%d", rand.N(9)-4))}
	s.mu.Lock()
	for i := range 1 + rand.N(3) {
		to := fmt.Sprintf("%s-%d@%s", name, i, stressDomain())
		s.rcpts[to] = &fate{}
		e.To = append(e.To, proto.Recipient{Address: address(s.t, to), Params: params("NOTIFY=FAILURE")})
	}
	s.mu.Unlock()
	for {
		_, err := s.queue().Add(s.t.Context(), e, strings.NewReader(text))
		if err == nil {
			return
		}
		if !errors.Is(err, queue.ErrClosed) {
			s.t.Error(err)
		}
		time.Sleep(time.Second)
	}
}

// operate does something to some jobs.
func (s *stress) operate() {
	ctx, q := s.t.Context(), s.queue()
	filters := []queue.Filter{{}, {Destination: stressDomain()}, {To: "@" + stressDomain()},
		{Before: time.Now().Add(-time.Hour)}}
	f := filters[rand.N(len(filters))]
	var err error
	switch rand.N(12) {
	case 0:
		_, err = q.Hold(ctx, f, "a look")
	case 1, 2:
		_, err = q.Release(ctx, f)
	case 3:
		_, err = q.Retry(ctx, f)
	case 4:
		_, err = q.Reroute(ctx, f, "customer", proto.Domain{})
	case 5:
		_, err = q.Reroute(ctx, f, "", address(s.t, "a@"+stressDomain()).Domain)
	case 6:
		err = q.Suspend(ctx, stressDomain(), time.Now().Add(rand.N(time.Hour)), "")
	case 7:
		err = q.Suspend(ctx, stressDomain(), time.Time{}, "")
	case 8:
		_, _ = q.Fetch(ctx, []string{"customer"}, s) // the error is that of an attempt
	case 9:
		if _, _, err = q.List(ctx, f, queue.JobID{}, 10); err == nil {
			_, err = q.Shape(ctx)
		}
		q.Sites()
	default:
		err = s.one(q, rand.N(3) == 0)
	}
	if err != nil {
		s.t.Error(err)
	}
}

// one drops a job, or has it expire.
func (s *stress) one(q *queue.Queue, drop bool) error {
	list, _, err := q.List(s.t.Context(), queue.Filter{From: "a@x.example"}, queue.JobID{}, 100)
	if err != nil || len(list) == 0 {
		return err
	}
	j := list[rand.N(len(list))].Job
	if !drop {
		_, err = q.Expire(s.t.Context(), queue.Filter{Job: &j.ID})
		return err
	}
	for _, r := range j.To { // before, since an attempt may be under way
		s.of(r.Address.String(), func(r *fate) { r.dropped++ })
	}
	_, err = q.Drop(s.t.Context(), queue.Filter{Job: &j.ID})
	return err
}

// TestStress has many goroutines add messages and do to them all that operators do, while the queue is closed and
// opened again. Each recipient is delivered, has failed, was dropped, or is queued.
func TestStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stress{t: t, store: queue.NewMemory(), rcpts: make(map[string]*fate)}
		s.opt = queue.Options{
			Routes: map[string]client.Sender{"customer": nil}, MaxActive: 20,
			Policy: queue.Policy{Expire: 12 * time.Hour, DelayReport: time.Hour},
			Trace: &queue.Trace{
				Done: func(_ *queue.Message, to queue.Recipient, f *queue.Failure) {
					s.of(to.Address.String(), func(r *fate) {
						if f == nil {
							r.delivered++
						} else {
							r.failed++
						}
					})
				},
				Reported: func(_ *queue.Message, rep *report.Report, _ queue.ID) {
					for _, to := range rep.Recipients {
						if to.Action == ehlo.Failed {
							s.of(to.Final.Address, func(r *fate) { r.reported++ })
						}
					}
				},
			},
		}
		s.open()
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 40 {
					s.add(fmt.Sprintf("m%d-%d", g, i))
					time.Sleep(rand.N(10 * time.Minute))
				}
			})
			all.Go(func() {
				for range 60 {
					s.operate()
					time.Sleep(rand.N(5 * time.Minute))
				}
			})
		}
		all.Go(func() {
			for range 4 {
				time.Sleep(rand.N(2 * time.Hour))
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(10*time.Minute))
				_ = s.queue().Close(ctx) // attempts may be cut off
				cancel()
				s.open()
			}
		})
		all.Wait()
		time.Sleep(time.Duration(rand.N(20)) * time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = s.q.Close(ctx)
		s.check()
	})
}

// check looks at what has become of all recipients, after Close.
func (s *stress) check() {
	list, _, err := s.store.List(s.t.Context(), queue.Filter{}, queue.JobID{}, 1<<30)
	if err != nil {
		s.t.Error(err)
	}
	for _, l := range list {
		if l.Job.Epoch != 0 {
			s.t.Errorf("job %v is handed out to a lease", l.Job.ID)
		}
		for _, to := range l.Job.To {
			s.of(to.Address.String(), func(r *fate) { r.listed++ })
		}
	}
	kinds := make(map[string]int)
	for to, r := range s.rcpts {
		gone := 0
		if r.delivered+r.failed+r.listed == 0 && r.dropped > 0 {
			gone = 1
			kinds["dropped"]++
		}
		kinds["delivered"] += r.delivered
		kinds["failed"] += r.failed
		kinds["queued"] += r.listed
		if r.delivered+r.failed+r.listed+gone != 1 || r.accepted != r.delivered || r.reported != r.failed {
			s.t.Errorf("%s: %+v", to, *r)
		}
	}
	s.t.Logf("%d recipients: %v", len(s.rcpts), kinds)
}
