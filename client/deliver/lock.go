package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// A turn is the right to use what has a name, within this program. Locks of fcntl are those of a process: they do not
// keep its goroutines apart.
type turn struct {
	taken chan struct{}
	users int // who has it, and who waits for it
}

var turns = struct {
	sync.Mutex
	of map[string]*turn // only of names in use
}{of: make(map[string]*turn)}

// enter waits for the turn to use name. Call leave in the end.
func enter(ctx context.Context, name string) (leave func(), err error) {
	turns.Lock()
	t := turns.of[name]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		turns.of[name] = t
	}
	t.users++
	turns.Unlock()
	done := func() {
		turns.Lock()
		defer turns.Unlock()
		if t.users--; t.users == 0 {
			delete(turns.of, name)
		}
	}
	select { // without a wait, even if ctx has ended
	case t.taken <- struct{}{}:
	default:
		select {
		case t.taken <- struct{}{}:
		case <-ctx.Done():
			done()
			return nil, errHeld
		}
	}
	return func() { <-t.taken; done() }, nil
}

var errHeld = errors.New("others have not given it back in time")

// A waiter waits for locks.
type waiter struct {
	ctx  context.Context
	stop func()
}

func newWaiter(ctx context.Context, timeout time.Duration) *waiter {
	ctx, stop := context.WithTimeout(ctx, max(0, cmp.Or(timeout, defaultLockTimeout)))
	return &waiter{ctx, stop}
}

// until calls try until it reports true, with waits of up to a second.
func (w *waiter) until(try func() (bool, error)) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if ok, err := try(); ok || err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.ctx.Done():
			timer.Stop()
			return errHeld
		}
	}
}

// locked returns err, which came up while locking a mailbox, as the error of an outcome.
func locked(ctx context.Context, name string, err error) error {
	if err != errHeld {
		return failure("locking a mailbox", err)
	}
	if ctx.Err() != nil {
		return notBegun(ctx)
	}
	return &Error{Doing: fmt.Sprintf("locking %s", name), Err: err, status: statusMailbox}
}

// dotLock makes the lock file name, which unlock removes.
func (b Mbox) dotLock(w *waiter, name string) (unlock func(), err error) {
	stale := cmp.Or(b.StaleLock, defaultStaleLock)
	err = w.until(func() (bool, error) {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			if stale > 0 {
				removeStale(name, stale)
			}
			return false, nil
		}
		if err != nil {
			return false, err
		}
		_, err = fmt.Fprintln(f, os.Getpid())
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(name)
			return false, err
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return func() { os.Remove(name) }, nil
}

// removeStale removes a lock file of an age.
func removeStale(name string, age time.Duration) {
	info, err := os.Lstat(name)
	if err == nil && time.Since(info.ModTime()) >= age {
		removeFound(name, info)
	}
}

// removeFound removes the lock file that was found to be stale. It renames the file first, so that of several programs
// that find it, only one removes it, and none removes the lock that another has made meanwhile.
func removeFound(name string, found fs.FileInfo) {
	unique, err := uniqueName()
	if err != nil {
		return
	}
	aside := name + "." + unique
	if os.Rename(name, aside) != nil {
		return
	}
	if now, err := os.Lstat(aside); err == nil && !os.SameFile(now, found) {
		os.Link(aside, name) // it was a new lock: it goes back
	}
	os.Remove(aside)
}
