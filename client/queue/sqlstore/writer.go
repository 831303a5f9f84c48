package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// How much one transaction takes at most.
const (
	maxTasks  = 1024
	maxOctets = 8 << 20
)

// A task is what a method has to have written. The writer calls its methods, in one goroutine.
type task interface {
	// prepare is called once, with Store.mu held, before the task is written. An error refuses it. Writes is false if
	// there is nothing to write.
	prepare(s *Store) (writes bool, err error)
	// write adds to a transaction. It is called again if the transaction has failed because of another task.
	write(b *batch) error
	// finish is called once, with Store.mu held, after the transaction, unless prepare has failed.
	finish(s *Store, err error)
}

// A follower is a task that has something to do after finish, without a lock, if it has succeeded so far.
type follower interface {
	after(w *writer) error
}

// A request is a task that waits for the writer.
type request struct {
	task
	octets int
	// durable has the transaction synced, and alone gives it to this task only.
	durable, alone bool

	state atomic.Uint32
	err   error
	done  chan struct{}
}

// The states of a request: whoever takes it out of the first decides whether it is written.
const (
	requested = iota
	taken
	withdrawn
)

// A writer has the connection that writes, and writes what waits in common transactions.
type writer struct {
	s    *Store
	conn *sql.Conn
	// isSynced says which kind of transaction the connection has been set to, by what syncing says.
	isSynced   bool
	syncing    syncing
	statements map[string]*sql.Stmt
	batch      batch

	mu     sync.Mutex
	queue  []*request
	closed bool
	wake   chan struct{} // has one element if there may be something in queue, or closed is set
	ended  chan struct{}
}

func newWriter(s *Store, conn *sql.Conn, how syncing) *writer {
	w := &writer{
		s: s, conn: conn, isSynced: true, syncing: how, statements: map[string]*sql.Stmt{},
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	w.batch.w = w
	return w
}

// do has a request written, and returns when it is durable, if that was asked for. If ctx ends before the writer has
// taken the request, it is not written.
func (w *writer) do(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.done = make(chan struct{})
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errClosed
	}
	w.queue = append(w.queue, r)
	w.mu.Unlock()
	w.signal()
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(requested, withdrawn) {
			return ctx.Err()
		}
		<-r.done
	}
	return r.err
}

// post has a request written some time, if the writer is not closed before.
func (w *writer) post(r *request) {
	r.done = make(chan struct{})
	w.mu.Lock()
	if !w.closed {
		w.queue = append(w.queue, r)
	}
	w.mu.Unlock()
	w.signal()
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close has the writer end when all that waits is written.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	<-w.ended
}

// run writes until the writer is closed.
func (w *writer) run() {
	defer close(w.ended)
	for range w.wake {
		for more := true; more; {
			// Those who can run do so first: what they want is in the same transaction.
			runtime.Gosched()
			var requests []*request
			requests, more = w.next()
			w.serve(requests)
			more = more || len(requests) > 1
		}
		w.mu.Lock()
		over := w.closed && len(w.queue) == 0
		w.mu.Unlock()
		if over {
			return
		}
	}
}

// next takes what the next transaction is to have. More says that something else waits.
func (w *writer) next() (requests []*request, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	octets, i := 0, 0
	for ; i < len(w.queue); i++ {
		r := w.queue[i]
		if len(requests) > 0 && (r.alone || requests[0].alone || len(requests) == maxTasks || octets+r.octets > maxOctets) {
			break
		}
		if r.state.CompareAndSwap(requested, taken) {
			requests = append(requests, r)
			octets += r.octets
		}
	}
	rest := copy(w.queue, w.queue[i:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	return requests, rest > 0
}

// serve writes requests, and tells those who wait for them.
func (w *writer) serve(requests []*request) {
	var write, quiet []*request
	w.s.mu.Lock()
	for _, r := range requests {
		writes, err := false, w.s.broken
		if err == nil {
			writes, err = r.prepare(w.s)
		}
		switch {
		case err != nil:
			r.err = err
			close(r.done)
		case writes:
			write = append(write, r)
		default:
			quiet = append(quiet, r)
		}
	}
	w.s.mu.Unlock()
	w.commit(write)
	w.finish(quiet, nil)
}

// commit writes requests in one transaction. If that fails it tries with half of them, until those are found that
// cannot be written.
func (w *writer) commit(requests []*request) {
	if len(requests) == 0 {
		return
	}
	err := w.s.isBroken()
	if err == nil {
		err = w.transact(w.batch.reset(false), requests)
	}
	if err != nil && len(requests) == 1 && isConstraint(err) {
		err = w.transact(w.batch.reset(true), requests)
	}
	var broken *brokenError
	switch {
	case err == nil:
	case len(requests) == 1 || errors.As(err, &broken):
		w.finish(requests, err)
	default:
		w.commit(requests[:len(requests)/2])
		w.commit(requests[len(requests)/2:])
	}
}

// transact makes one transaction of requests, and finishes them if it is committed.
func (w *writer) transact(b *batch, requests []*request) error {
	defer func() {
		if b.editing {
			w.s.editing.Unlock()
		}
	}()
	if err := w.attempt(b, requests); err != nil {
		return err
	}
	b.account()
	w.finish(requests, nil)
	for _, body := range b.bodies {
		w.s.removeBody(body)
	}
	return nil
}

// finish tells of the outcome.
func (w *writer) finish(requests []*request, err error) {
	if len(requests) == 0 {
		return
	}
	w.s.mu.Lock()
	for _, r := range requests {
		r.err = err
		r.finish(w.s, err)
	}
	w.s.mu.Unlock()
	for _, r := range requests {
		if f, ok := r.task.(follower); ok && err == nil {
			r.err = f.after(w)
		}
		close(r.done)
	}
}

// attempt makes one transaction of requests.
func (w *writer) attempt(b *batch, requests []*request) error {
	durable := false
	for _, r := range requests {
		durable = durable || r.durable
	}
	if err := w.begin(durable); err != nil {
		return w.judge(err, false)
	}
	for _, r := range requests {
		if err := r.write(b); err != nil {
			return w.undo(err, false)
		}
	}
	if err := errors.Join(b.flush(), b.writeUsage()); err != nil {
		return w.undo(err, false)
	}
	if err := w.exec(commit); err != nil {
		return w.undo(err, true)
	}
	return nil
}

func (w *writer) begin(durable bool) error {
	if durable != w.isSynced {
		mode := w.syncing.unsynced
		if durable {
			mode = w.syncing.synced
		}
		if _, err := w.conn.ExecContext(context.Background(), mode); err != nil {
			return err
		}
		w.isSynced = durable
	}
	return w.exec(begin)
}

// undo rolls back, and judges the error. The database may have rolled back already.
func (w *writer) undo(err error, committing bool) error {
	_ = w.exec(rollback)
	return w.judge(err, committing)
}

// judge says what an error means for the store. What a commit has done that failed is not known unless the disk is
// full: another one might make durable what was taken for lost, or the other way round. So the store takes nothing
// more.
func (w *writer) judge(err error, committing bool) error {
	switch {
	case isTemporary(err):
		return &temporaryError{fmt.Errorf("smtp: the queue cannot write: %w", err)}
	case isFatal(err) || committing:
		err := &brokenError{fmt.Errorf("smtp: the queue cannot rely on its database any more, open it again: %w", err)}
		w.s.mu.Lock()
		w.s.broken = err
		w.s.mu.Unlock()
		return err
	}
	return err
}

// statement returns a statement of the connection that writes. It is prepared once.
func (w *writer) statement(query string) (*sql.Stmt, error) {
	if st := w.statements[query]; st != nil {
		return st, nil
	}
	st, err := w.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	w.statements[query] = st
	return st, nil
}

func (w *writer) closeStatements() error {
	var errs []error
	for _, st := range w.statements {
		errs = append(errs, st.Close())
	}
	return errors.Join(errs...)
}

func (w *writer) exec(query string, args ...any) error {
	st, err := w.statement(query)
	if err != nil {
		return err
	}
	_, err = st.Exec(args...)
	return err
}

// A temporaryError may be gone at the next call.
type temporaryError struct{ error }

func (e *temporaryError) Temporary() bool { return true }
func (e *temporaryError) Unwrap() error   { return e.error }

// A brokenError is that of a store whose database has failed.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

var errClosed = errors.New("smtp: the queue is closed")
