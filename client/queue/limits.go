package queue

import (
	"context"
	"time"
)

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

// held is what messages that are being added will take of the limits. The store does not count them yet.
type held struct {
	all  Usage
	tags map[string]Usage // if there is a share
}

// add adds to what is held, or takes from it.
func (h *held) add(tag string, messages, octets int64) {
	h.all.Messages += messages
	h.all.Octets += octets
	own := h.tags[tag]
	own.Messages += messages
	own.Octets += octets
	if own == (Usage{}) {
		delete(h.tags, tag)
		return
	}
	if h.tags == nil {
		h.tags = make(map[string]Usage)
	}
	h.tags[tag] = own
}

// exceeded returns the refusal if more of tag would exceed a limit. The error is that of the store. The caller holds
// r.mu: what is held goes there only when the store counts it, and so is counted at least once.
func (r *room) exceeded(ctx context.Context, tag string, more Usage) (full, err error) {
	if !r.limits.any() {
		return nil, nil
	}
	all, err := r.store.Usage(ctx, "", true)
	if err != nil {
		return nil, err
	}
	if r.limits.exceeded(1, all, r.held.all, more) {
		return noRoom("The queue is full, try again later", errFull), nil
	}
	if r.limits.Share == 1 {
		return nil, nil
	}
	own, err := r.store.Usage(ctx, tag, false)
	if err != nil {
		return nil, err
	}
	if r.limits.exceeded(r.limits.Share, own, r.held.tags[tag], more) {
		return noRoom("Too much of your mail is queued, try again later", errFull), nil
	}
	return nil, nil
}

// any reports whether there is a limit of what is queued.
func (l *Limits) any() bool { return l.Messages > 0 || l.Octets > 0 }

// exceeded reports whether the sum of parts is more than a share of the limits.
func (l *Limits) exceeded(share float64, parts ...Usage) bool {
	var sum Usage
	for _, u := range parts {
		sum.Messages += u.Messages
		sum.Octets += u.Octets
	}
	return l.Messages > 0 && float64(sum.Messages) > share*float64(l.Messages) ||
		l.Octets > 0 && float64(sum.Octets) > share*float64(l.Octets)
}

// A hold is what one message holds while it is being added. Nil holds nothing.
type hold struct {
	room *room
	ctx  context.Context // of Add
	tag  string
	Usage
}

// hold returns the hold of a message with so many octets, or the refusal if there is no room for it. Release has to be
// called when the store has added it or has not.
func (r *room) hold(ctx context.Context, tag string, octets int64) (*hold, error) {
	if !r.limits.any() {
		return nil, nil
	}
	h := &hold{room: r, ctx: ctx, tag: tag}
	return h, h.grow(Usage{Messages: 1, Octets: octets})
}

// grow has h hold more, or returns the refusal. Then h stays as it is.
func (h *hold) grow(more Usage) error {
	if h == nil {
		return nil
	}
	r := h.room
	r.mu.Lock()
	full, err := r.exceeded(h.ctx, h.tag, more)
	if full == nil && err == nil {
		r.held.add(h.tag, more.Messages, more.Octets)
		h.Messages += more.Messages
		h.Octets += more.Octets
	}
	r.mu.Unlock()
	if err != nil {
		return r.refuse(err)
	}
	return full
}

func (h *hold) release() {
	if h == nil {
		return
	}
	h.room.mu.Lock()
	defer h.room.mu.Unlock()
	h.room.held.add(h.tag, -h.Messages, -h.Octets)
}
