package queue

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"smtpkit.example/smtp/proto"
)

// A room says whether there is room for another message: by the limits, by the disk, and by how long the store takes.
type room struct {
	store  Store
	limits Limits
	outage *outage

	mu    sync.Mutex
	adds  fifo[addition] // without those at its beginning that are over
	over  int            // how many have been taken out of adds
	tried time.Time      // when the last Add has begun
	held  held           // by messages that are being added
}

// An addition is a call of Store.Add.
type addition struct {
	began time.Time
	over  bool
}

// noRoom returns the refusal for a message that there is no room for.
func noRoom(text string, err error) *proto.Error {
	return &proto.Error{Code: 452, Status: proto.Status{4, 3, 1}, Text: text, Err: err}
}

// errFull is in the refusals of a queue that is over a limit.
var errFull = errors.New("smtp: the queue is over a limit")

// check returns the refusal of a message of tag, of which the size is not known, or nil if there is room for it.
func (r *room) check(ctx context.Context, tag string) error {
	if err := r.working(); err != nil {
		return err
	}
	r.mu.Lock()
	full, err := r.exceeded(ctx, tag, Usage{Messages: 1, Octets: 1})
	r.mu.Unlock()
	if err != nil {
		return r.refuse(err)
	}
	return full
}

// working returns the refusal of any message, or nil.
func (r *room) working() error {
	if disk, ok := r.store.(interface{ Free() (int64, bool) }); ok && r.limits.FreeDisk > 0 {
		if free, ok := disk.Free(); ok && free < r.limits.FreeDisk {
			return noRoom("The disk is full, try again later", errFull)
		}
	}
	down, now := r.outage.isDown(), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if down && now.Sub(r.tried) < time.Second {
		return noRoom("The queue cannot be written, try again later", errFull)
	}
	if lag := r.limits.Lag; lag > 0 && r.adds.len() > 0 && now.Sub(r.adds.first().began) > lag {
		return noRoom("The disk is slow, try again later", errFull)
	}
	return nil
}

// add writes a message, and takes note of how long that takes. What has to be read from a client meanwhile does not
// count.
func (r *room) add(ctx context.Context, e *Entry) error {
	now := time.Now()
	r.mu.Lock()
	r.tried = now
	if e.small == nil {
		r.mu.Unlock()
		return r.store.Add(ctx, e)
	}
	n := r.over + r.adds.len()
	r.adds.push(addition{began: now})
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.adds.at(n - r.over).over = true
		for r.adds.len() > 0 && r.adds.first().over {
			r.adds.pop()
			r.over++
		}
	}()
	return r.store.Add(ctx, e)
}

// refuse returns the refusal for a message that could not be written. Unless the error may be gone at the next call it
// is an outage.
func (r *room) refuse(err error) error {
	if isTemporary(err) {
		r.outage.logger.Warn("smtp: the queue could not take a message", "err", err)
	} else {
		r.outage.begin("Add", err)
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
