package policy

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// lookupTimeout is how long a part waits for a function that it was given, if it has no other time for that.
	lookupTimeout = 30 * time.Second
	// maxStuck is how many calls of a part may go on that nobody waits for any more.
	maxStuck = 1000
)

// A calls counts the calls of functions that a part was given, and that go on although their context has ended.
type calls struct{ stuck atomic.Int64 }

var (
	errStuck  = errors.New("smtp: too many calls go on after their context has ended; have the function return then")
	errGoexit = errors.New("smtp: a function of a policy ends its goroutine")
)

// within calls f, and returns what it returns. It waits until ctx ends, and not longer than d. A panic is an error. A
// call that goes on is left to itself: no session waits for it. It fails while there are maxStuck of these.
func within[R any](ctx context.Context, c *calls, d time.Duration, f func(ctx context.Context) (R, error)) (R, error) {
	var zero R
	if c.stuck.Load() >= maxStuck {
		return zero, errStuck
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	type result struct {
		r   R
		err error
	}
	results := make(chan result, 1)
	var over atomic.Bool // one of the two ends has come first
	go func() {
		got := result{err: errGoexit}
		defer func() {
			results <- got
			if over.Swap(true) {
				c.stuck.Add(-1)
			}
		}()
		got.err = protect(func() (err error) { got.r, err = f(ctx); return err })
	}()
	select {
	case got := <-results:
		return got.r, got.err
	case <-ctx.Done():
	}
	c.stuck.Add(1)
	if over.Swap(true) { // it has returned meanwhile
		c.stuck.Add(-1)
		got := <-results
		return got.r, got.err
	}
	return zero, context.Cause(ctx)
}
