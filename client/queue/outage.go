package queue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// An outage says whether the store can be written. While it cannot be, no attempts are made and no mail is taken: what
// cannot be written down would be delivered twice.
//
// It begins with an error of the store, and ends with the first thing that is written. If nothing is under way that
// would write, the scheduler makes one attempt after a minute, to see.
type outage struct {
	logger *slog.Logger
	failed func(error)     // of the Trace, or nil
	ctx    context.Context // ends with Close
	never  context.Context // has the values of ctx, and does not end
	// poke and resume are of the scheduler: it has to call probe, and it can go on. They are called without mu.
	poke, resume func()

	state atomic.Int32 // an outageState; mu is held when it changes
	mu    sync.Mutex
	retry time.Time // when the store is tried again, while it is down
	since time.Time // when it began, or zero
	err   error     // the last one
}

// An outageState says how many attempts may be made at once.
type outageState = int32

const (
	storeUp     outageState = iota // as many as the options say
	storeProbed                    // one, until it has written something
	storeDown                      // none
)

// isDown reports whether the store is not to be called.
func (o *outage) isDown() bool { return o.state.Load() == storeDown }

// attempts returns how many attempts may be made at once, of most.
func (o *outage) attempts(most int) int {
	switch o.state.Load() {
	case storeDown:
		return 0
	case storeProbed:
		return 1
	}
	return most
}

// tell tells that the store has failed.
func (o *outage) tell(doing string, err error) {
	o.logger.Error("smtp: the store of the queue has failed", "doing", doing, "err", err)
	if o.failed != nil {
		o.failed(err)
	}
}

// begin stops attempts and mail, and tells that the store has failed.
func (o *outage) begin(doing string, err error) {
	now := time.Now()
	o.mu.Lock()
	if o.since.IsZero() {
		o.since = now
	}
	o.state.Store(storeDown)
	o.retry, o.err = now.Add(time.Minute), err
	o.mu.Unlock()
	o.tell(doing, err)
	o.poke()
}

// end ends an outage, since the store has written something.
func (o *outage) end() {
	if o.state.Load() == storeUp {
		return
	}
	o.mu.Lock()
	was := o.state.Swap(storeUp)
	o.since, o.err = time.Time{}, nil
	o.mu.Unlock()
	if was != storeUp {
		o.logger.Info("smtp: the queue can be written again")
		o.resume()
	}
}

// lasting returns when the outage began, and its last error, or zero and nil.
func (o *outage) lasting() (since time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since, o.err
}

// probe permits an attempt when an outage has lasted for a minute, if none is under way. Without mail and attempts
// nothing else shows whether the store can be written. It returns when to call it again, or the zero time.
func (o *outage) probe(now time.Time, active int) (again time.Time) {
	if !o.isDown() {
		return time.Time{}
	}
	o.mu.Lock()
	permitted := o.isDown() && !now.Before(o.retry) && active == 0
	switch {
	case permitted:
		o.state.Store(storeProbed)
	case o.isDown() && !now.Before(o.retry): // the outcome of an attempt is written, again and again until that succeeds
		o.retry = now.Add(time.Minute)
		again = o.retry
	case o.isDown():
		again = o.retry
	}
	o.mu.Unlock()
	if permitted {
		o.resume()
	}
	return again
}

// write calls f, which writes outcomes, until it succeeds or the queue is closed. An error other than ErrLease is an
// outage.
func (o *outage) write(f func(context.Context) error) error {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := f(o.never)
		if err == nil {
			o.end()
			return nil
		}
		if errors.Is(err, ErrLease) {
			return err
		}
		o.begin("Update", err)
		if !pause(o.ctx, wait) {
			return f(o.never)
		}
	}
}

// pause waits. It reports false, at once, if ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
