package queue

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"smtpkit.example/smtp/proto"
)

// room says whether the queue has room for another message.
type room struct {
	mu    sync.Mutex
	adds  list.List // when each Add that is under way has begun
	tried time.Time // when the last one has
}

func (l Limits) withDefaults() Limits {
	if l.Share == 0 {
		l.Share = 1
	}
	if l.FreeDisk == 0 {
		l.FreeDisk = 64 << 20
	}
	if l.Lag == 0 {
		l.Lag = 5 * time.Second
	}
	return l
}

// noRoom returns the refusal for a message that there is no room for.
func noRoom(text string, err error) *proto.Error {
	return &proto.Error{Code: 452, Status: proto.Status{4, 3, 1}, Text: text, Err: err}
}

// errFull is in the refusals of a queue that is over a limit.
var errFull = errors.New("smtp: the queue is over a limit")

// Room returns the error that Add would return now if the queue has no room for a message of tag: a *proto.Error with
// 452 4.3.1. A server calls it at MAIL, so that a client need not send what is refused.
func (q *Queue) Room(ctx context.Context, tag string) error {
	if err := q.over(ctx, tag); err != nil {
		return err
	}
	q.sched.mu.Lock()
	broken := q.sched.broken
	q.sched.mu.Unlock()
	now, r, limits := time.Now(), &q.room, &q.opt.Limits
	r.mu.Lock()
	defer r.mu.Unlock()
	if broken && now.Sub(r.tried) < time.Second {
		return noRoom("The queue cannot be written, try again later", errFull)
	}
	if first := r.adds.Front(); first != nil && limits.Lag > 0 && now.Sub(first.Value.(time.Time)) > limits.Lag {
		return noRoom("The disk is slow, try again later", errFull)
	}
	return nil
}

// add writes a message, and takes note of how long that takes. What has to be read from a client meanwhile does not
// count.
func (r *room) add(ctx context.Context, s Store, e *Entry) error {
	now := time.Now()
	r.mu.Lock()
	r.tried = now
	if e.small == nil {
		r.mu.Unlock()
		return s.Add(ctx, e)
	}
	at := r.adds.PushBack(now)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.adds.Remove(at)
	}()
	return s.Add(ctx, e)
}

// over returns the refusal if one of the limits is reached.
func (q *Queue) over(ctx context.Context, tag string) error {
	limits := &q.opt.Limits
	if limits.Messages > 0 || limits.Octets > 0 {
		all, err := q.store.Usage(ctx, "", true)
		if err != nil {
			return q.full(err)
		}
		if reached(all, limits, 1) {
			return noRoom("The queue is full, try again later", errFull)
		}
		if limits.Share < 1 {
			own, err := q.store.Usage(ctx, tag, false)
			if err != nil {
				return q.full(err)
			}
			if reached(own, limits, limits.Share) {
				return noRoom("Too much of your mail is queued, try again later", errFull)
			}
		}
	}
	if disk, ok := q.store.(interface{ Free() (int64, bool) }); ok && limits.FreeDisk > 0 {
		if free, ok := disk.Free(); ok && free < limits.FreeDisk {
			return noRoom("The disk is full, try again later", errFull)
		}
	}
	return nil
}

func reached(u Usage, l *Limits, share float64) bool {
	return l.Messages > 0 && float64(u.Messages) >= share*float64(l.Messages) ||
		l.Octets > 0 && float64(u.Octets) >= share*float64(l.Octets)
}

// full returns the refusal for a message that could not be written.
func (q *Queue) full(err error) error {
	if isTemporary(err) {
		q.opt.Logger.Warn("smtp: the queue could not take a message", "err", err)
	} else {
		q.storeFailed("Add", err)
		q.breakDown()
	}
	return noRoom("The message could not be written, try again later", err)
}

// isTemporary reports whether an error of the store may be gone at the next call: there was no room for the message, on
// the disk, in the quota of its user, or within the limit of the process on the size of files.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary() || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EFBIG)
}

// recovered ends a break after the store has succeeded in writing.
func (r *room) recovered(q *Queue) {
	s := &q.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.broken && !s.probing {
		return
	}
	s.broken, s.probing = false, false
	q.opt.Logger.Info("smtp: the queue can be written again")
	q.resume()
}

// resume begins to work again after a break. The caller holds q.sched.mu.
func (q *Queue) resume() {
	for _, d := range q.sched.dests {
		q.fill(d)
		q.settle(d)
	}
	q.dispatch()
	q.sched.poke()
}

// breakDown stops attempts and mail: what cannot be written down would be delivered twice.
func (q *Queue) breakDown() {
	s := &q.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.probing, s.retry = true, false, time.Now().Add(time.Minute)
	s.poke()
}

// probe ends a break that has lasted for a minute, if nothing is under way that will: then no mail comes, and all
// attempts are over. One attempt shows whether the store can be written. It returns when to call it again, or the zero
// time. The caller holds q.sched.mu.
func (q *Queue) probe(now time.Time) time.Time {
	s := &q.sched
	switch {
	case !s.broken || s.closed:
		return time.Time{}
	case now.Before(s.retry):
		return s.retry
	case s.active > 0: // its outcome is written, again and again until that succeeds
		s.retry = now.Add(time.Minute)
		return s.retry
	}
	s.broken, s.probing = false, true
	q.resume()
	return time.Time{}
}

// storeFailed tells that the store has failed.
func (q *Queue) storeFailed(doing string, err error) {
	q.opt.Logger.Error("smtp: the store of the queue has failed", "doing", doing, "err", err)
	if t := q.opt.Trace.Failed; t != nil {
		t(err)
	}
}

// write calls f, which writes outcomes, until it succeeds or the queue is closed. Meanwhile no attempts are made.
func (q *Queue) write(f func(context.Context) error) error {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := f(context.WithoutCancel(q.ctx))
		if err == nil {
			q.room.recovered(q)
			return nil
		}
		if errors.Is(err, ErrLease) {
			return err
		}
		q.storeFailed("Update", err)
		q.breakDown()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-q.ctx.Done():
			timer.Stop()
			if err := f(context.WithoutCancel(q.ctx)); err == nil {
				return nil
			}
			return err
		}
	}
}
