package queue

import (
	"errors"
	"io/fs"
	"sync"
	"time"
)

// A syncer makes durable what the methods of a Dir have written. It is a goroutine that runs while there is something
// to do. It makes one sync after the other. Each is for all that was written before it, and for the names that the one
// before it has let it change:
//
//   - A message that was written under its temporary name is renamed after one sync, and accepted after the next.
//   - A state file is removed after the sync that has made durable that its message is.
//   - An edit is answered after one sync.
//
// What Update has written is synced too, but begins a sync only after updateDelay.
type syncer struct {
	d    *Dir
	mode SyncMode
	// byFile and byFileSystem are what the two ways of SyncAuto take, and syncs counts its choices. Only run uses them.
	byFile, byFileSystem time.Duration
	syncs                int

	mu      sync.Mutex
	next    batch     // what the next sync makes durable
	renamed []*adding // messages whose new names it makes durable too
	running bool
	timer   *time.Timer
	idle    sync.Cond // when running becomes false
	err     error     // a sync has failed
}

// A batch is what was written and is not synced.
type batch struct {
	adds    []*adding
	states  map[ID]struct{} // files that were written to
	names   bool            // names have come or gone
	removed []ID            // messages that were removed, and have state files
	waits   []chan error    // who waits for the sync
}

// updateDelay is how long it takes until what Update has written is synced.
const updateDelay = 20 * time.Millisecond

// syncAllFrom is from how many files on SyncAuto considers to sync the file system.
const syncAllFrom = 4

// tryOther is how often SyncAuto takes the way that has been slower, to see whether it still is: once in so many syncs.
const tryOther = 32

// syncsAtOnce is how many files are synced at once. Their syncs share what the disk does.
const syncsAtOnce = 16

func (s *syncer) init(d *Dir, mode SyncMode) {
	s.d, s.mode = d, mode
	s.next.states = map[ID]struct{}{}
	s.idle.L = &s.mu
}

// failure returns the error of a sync that has failed.
func (s *syncer) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// add has a message synced, renamed and synced again. Then a.synced is closed.
func (s *syncer) add(a *adding) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.next.adds = append(s.next.adds, a)
	s.start()
	return nil
}

// wrote notes that the state file of a message was written to.
func (s *syncer) wrote(id ID, made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.next.states[id] = struct{}{}
	s.next.names = s.next.names || made
	s.startLater()
}

// removed notes that the file of a message was removed. Its state file, if it has one, is removed after the next sync.
func (s *syncer) removed(id ID, hasState bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next.names = true
	delete(s.next.states, id)
	if hasState {
		s.next.removed = append(s.next.removed, id)
	}
	s.startLater()
}

// wait returns when all is durable that was written before, and state files are gone whose messages were before.
func (s *syncer) wait() error {
	s.mu.Lock()
	if err := s.err; err != nil {
		s.mu.Unlock()
		return err
	}
	done := make(chan error, 1)
	s.next.waits = append(s.next.waits, done)
	s.start()
	s.mu.Unlock()
	return <-done
}

// start begins a sync if none is under way. After that one there is another.
func (s *syncer) start() {
	if s.running {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.running = true
	go s.run()
}

// startLater begins a sync after updateDelay, unless there is one before.
func (s *syncer) startLater() {
	if s.running || s.timer != nil || s.err != nil {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(updateDelay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.timer == t {
			s.start()
		}
	})
	s.timer = t
}

// close syncs what is not synced yet.
func (s *syncer) close() error {
	err := s.wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.running {
		s.idle.Wait()
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	return err
}

// run makes syncs until nobody waits for one. The first is made in any case.
func (s *syncer) run() {
	for first := true; ; first = false {
		s.mu.Lock()
		if s.err != nil {
			s.next.failed(s.renamed, s.err)
			s.next, s.renamed = batch{}, nil
		}
		if s.err != nil || !first && len(s.next.adds) == 0 && len(s.next.waits) == 0 && len(s.renamed) == 0 {
			s.running = false
			s.idle.Broadcast()
			if s.err == nil && (s.next.names || len(s.next.states) > 0) {
				s.startLater()
			}
			s.mu.Unlock()
			return
		}
		b, renamed := s.next, s.renamed
		s.next, s.renamed = batch{states: make(map[ID]struct{}, len(b.states))}, nil
		s.mu.Unlock()
		late, err := s.sync(&b, len(renamed) > 0)
		if err != nil {
			b.failed(renamed, s.fail(err))
			continue
		}
		for _, a := range renamed {
			close(a.synced)
		}
		s.removeStates(b.removed) // before a message of the same ID gets its name
		for _, w := range b.waits {
			w <- late
		}
		s.rename(b.adds)
	}
}

// sync makes a batch durable. Late says that some states could not be opened; they are synced with the next batch.
func (s *syncer) sync(b *batch, names bool) (late, err error) {
	names = names || b.names
	files := len(b.adds) + len(b.states)
	if s.mode == SyncFileSystem && (files > 0 || names) {
		err = s.d.fs.SyncAll()
		if !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		s.mode = SyncFiles
	}
	if s.mode != SyncAuto || files < syncAllFrom {
		return s.syncEach(b, names)
	}
	all := s.byFileSystem <= 2*s.byFile // it takes less of the processors, too
	if s.syncs++; s.syncs%tryOther == 0 {
		all = !all
	}
	average, begun := &s.byFile, time.Now()
	if all {
		average = &s.byFileSystem
		if err = s.d.fs.SyncAll(); errors.Is(err, errors.ErrUnsupported) {
			s.mode = SyncFiles
			return s.syncEach(b, names)
		}
	} else {
		late, err = s.syncEach(b, names)
	}
	*average += (time.Since(begun) - *average) / 4
	return late, err
}

// syncEach syncs the files of a batch one by one, and the directory if names have changed.
func (s *syncer) syncEach(b *batch, names bool) (late, err error) {
	if late, err = s.syncFiles(b); err != nil {
		return nil, err
	}
	if names {
		err = s.d.fs.SyncDir(".")
	}
	return late, err
}

// syncFiles syncs the files of a batch one by one, several at once.
func (s *syncer) syncFiles(b *batch) (late, err error) {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, syncsAtOnce)
	)
	do := func(f func() (late, err error)) {
		l, e := f()
		mu.Lock()
		defer mu.Unlock()
		late, err = errors.Join(late, l), errors.Join(err, e)
	}
	todo := make([]func() (late, err error), 0, len(b.adds)+len(b.states))
	for _, a := range b.adds {
		todo = append(todo, func() (error, error) { return nil, a.file.Sync() })
	}
	for id := range b.states {
		todo = append(todo, func() (error, error) { return s.syncState(id) })
	}
	for i, f := range todo {
		if i == len(todo)-1 {
			do(f)
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			do(f)
			<-slots
		})
	}
	wg.Wait()
	return late, err
}

func (s *syncer) syncState(id ID) (late, err error) {
	f, err := s.d.fs.Append(stateFile(id))
	if err != nil {
		s.wrote(id, true)
		return diskError("open "+stateFile(id), err), nil
	}
	defer func() { _ = f.Close() }() // nothing was written
	return nil, f.Sync()
}

// rename gives messages that are synced their names.
func (s *syncer) rename(adds []*adding) {
	for i, a := range adds {
		if err := s.d.fs.Rename(tempFile(a.id), messageFile(a.id)); err != nil {
			a.err = diskError("rename "+tempFile(a.id), err)
			close(a.synced)
			adds[i] = nil
			continue
		}
		a.renamed = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range adds {
		if a != nil {
			s.renamed = append(s.renamed, a)
		}
	}
}

// removeStates removes the state files of messages that are durably gone.
func (s *syncer) removeStates(ids []ID) {
	for _, id := range ids {
		if err := s.d.fs.Remove(stateFile(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.d.logger.Warn("smtp: the queue has a file left over, which is removed when it is opened again",
				"file", stateFile(id), "err", err)
		}
	}
}

// fail ends the work of the Dir: what the system could not write it may have forgotten, so no later sync tells.
func (s *syncer) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = &dirError{what: "be used any more, since a sync has failed; see to the disk, and open it again", err: err}
		s.d.logger.Error("smtp: the queue takes no more mail, because the disk could not be written", "err", err)
	}
	return s.err
}

// failed tells all who wait that a sync has failed.
func (b *batch) failed(renamed []*adding, err error) {
	for _, a := range append(b.adds, renamed...) {
		a.err = err
		close(a.synced)
	}
	for _, w := range b.waits {
		w <- err
	}
}
