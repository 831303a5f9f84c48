package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"smtpkit.example/smtp/client"
)

// Fetch delivers all mail of routes by s, whether or not it is due, until none is left or s fails: the reversed
// connection of ATRN (RFC 2645), such as a client made with client.NewClient. Other attempts at these routes wait
// meanwhile. It returns the number of recipients who have got their mail. The error is that of s if no server was found
// at its end, of the store, or of ctx, or wraps ErrRoute if there is no such route. Close has it end after the attempt
// under way, with ErrClosed.
func (q *Queue) Fetch(ctx context.Context, routes []string, s client.Sender) (n int, err error) {
	if !q.enter() {
		return 0, ErrClosed
	}
	defer q.calls.Done()
	for _, route := range routes {
		if _, ok := q.opt.Routes[route]; !ok {
			return n, q.ways.noRoute(strconv.Quote(route))
		}
		fetched, err := q.fetch(ctx, "="+route, s)
		n += fetched
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// fetch is Fetch for a destination.
func (q *Queue) fetch(ctx context.Context, destination string, s client.Sender) (n int, err error) {
	l, err := q.sched.acquire(ctx, destination)
	if err != nil {
		return 0, err
	}
	trying, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.running, cancel)() // Close waits no longer
	defer func() { err = errors.Join(err, q.sched.giveBack(l)) }()
	tried := make(map[JobID]bool)
	for lane := Lane(0); lane < Lanes; {
		if q.ctx.Err() != nil {
			return n, ErrClosed
		}
		if q.outage.isDown() {
			_, err := q.outage.lasting()
			return n, fmt.Errorf("smtp: no mail is fetched, since the queue cannot be written: %w", err)
		}
		jobs, err := q.store.Take(ctx, l, Query{Now: time.Now(), Lane: lane, All: true, Max: 1})
		if err != nil {
			return n, err
		}
		if len(jobs) == 0 {
			lane++
			continue
		}
		if tried[jobs[0].ID] {
			continue // it waits until the lease ends
		}
		tried[jobs[0].ID] = true
		a := &attempt{q: q, job: jobs[0], sender: s}
		if err := a.open(ctx, nil); err != nil {
			if err = a.unread(ctx, l, err); err != nil {
				return n, err
			}
			continue
		}
		a.deliver(trying)
		err = a.finish(l)
		a.close()
		for i, f := range a.failures {
			if f == nil && !a.waits[i] {
				n++
			}
		}
		if err == nil {
			err = a.unreached()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
