package queue

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// A waker is a backlog whose goroutine does not run unless begin is called.
type waker struct {
	*testing.T
	*backlog
	n int
}

func newWaker(t *testing.T, limits dirLimits) *waker {
	w := &waker{T: t, backlog: newBacklog(crashfs.New(), slog.New(slog.DiscardHandler), limits)}
	w.files.flags, w.files.setFlags = func(ID) fileFlags { return 0 }, func(ID, fileFlags) {}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	return w
}

// fileOf returns a record with a file of so many octets.
func (w *waker) fileOf(size int) (ID, []byte) {
	w.n++
	id := testID(w.n)
	return id, append(beginRecord(nil, addRecord, id), make([]byte, size)...)
}

// fill puts files until the journal is full, and returns what the next put returns.
func (w *waker) fill(size int) <-chan error {
	for {
		id, record := w.fileOf(size)
		_, err := w.putNow(id, record)
		if errors.Is(err, journal.ErrFull) {
			return w.putting(id, record)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}

// putting calls put, which gives up when nothing else happens.
func (w *waker) putting(id ID, record []byte) <-chan error {
	result := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // of the bubble
		defer cancel()
		_, err := w.put(ctx, id, record)
		result <- err
	}()
	return result
}

// settleAllNow gets all that is pending into files.
func (w *waker) settleAllNow() {
	for _, id := range w.pendingIDs() {
		if err := w.settle(id); err != nil {
			w.Fatal(err)
		}
	}
}

var wakeLimits = dirLimits{journal: journal.Options{SegmentSize: 4 << 10, Segments: 3, Grow: 1 << 10},
	delay: time.Second, held: 1 << 20}

// An Add that finds the journal full goes on if that ends before it waits.
func TestDirSpaceBeforeWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaker(t, wakeLimits)
		// The goroutine of put gets on while this one lets it. If it does not, the test passes.
		put := w.fill(1000)
		synctest.Wait()
		w.settleAllNow()
		id, record := w.fileOf(1000)
		busy := w.busyWith(id)
		second := w.putting(id, record)
		letOthersWrite() // it comes to where it writes
		w.mu.Lock()
		busy.Unlock()
		letOthersWrite() // it finds the journal full, and is about to wait
		if err := w.journal.Reclaim(); err != nil {
			t.Error(err)
		}
		w.moved()
		w.mu.Unlock()
		if err := errors.Join(<-put, <-second); err != nil {
			t.Error(err)
		}
	})
}

// What is done makes room in the journal for those who wait, although the goroutine has nothing to do.
func TestDirSpaceByRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaker(t, wakeLimits)
		put := w.fill(1000)
		synctest.Wait()
		for _, id := range w.pendingIDs() {
			if err := w.remove(id); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-put; err != nil {
			t.Error(err)
		}
	})
}

// What is settled while the journal is reclaimed is reclaimed next.
func TestDirReclaimAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := wakeLimits
		limits.journal.Segments = 5
		w := newWaker(t, limits)
		put := w.fill(1000)
		synctest.Wait()
		for w.journal.Presses(w.list.oldest.marks[0]) && !w.journal.Pressed() {
			if err := w.settle(w.list.oldest.id); err != nil {
				t.Fatal(err)
			}
		}
		goOn := make(chan struct{})
		w.files.fs = &slowSyncAll{w.files.fs, goOn}
		<-w.wakeUp // of the put that waits
		w.reclaim()
		synctest.Wait()
		w.settleAllNow()
		close(goOn)
		synctest.Wait()
		select {
		case <-w.wakeUp:
		default:
			t.Error("the goroutine is not told that there is more")
		}
		if err := <-put; err != nil || !w.journal.Pressed() {
			t.Errorf("%v, pressed: %t", err, w.journal.Pressed())
		}
	})
}

// A slowSyncAll is a file system that syncs all when it may go on.
type slowSyncAll struct {
	vfs.FS
	goOn <-chan struct{}
}

func (f *slowSyncAll) SyncAll() error {
	<-f.goOn
	return f.FS.SyncAll()
}

// Many edits wait while the journal is longer than it should be.
func TestDirHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		f := &faulty{T: t, disk: crashfs.New(), log: new(errorLog)}
		c := crashTest{wrap: func(fs vfs.FS) vfs.FS { return &slowSyncAll{fs, goOn} }}
		var err error
		if f.d, err = c.open(f.disk, f.log); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			if err := f.add(); err != nil {
				t.Fatal(err)
			}
		}
		edited := make(chan int, 1)
		go func() {
			total := 0
			for range 10 {
				n, err := f.d.Edit(context.Background(), Filter{}, Edit{Op: Hold, Why: strings.Repeat("why ", 100)})
				if err != nil {
					t.Error(err)
				}
				total += n
			}
			edited <- total
		}()
		time.Sleep(time.Minute) // of the bubble
		segments := 0
		for name := range f.disk.Files() {
			if journal.IsName(name) {
				segments++
			}
		}
		if segments > 4 {
			t.Errorf("there are %d segments, want one more than 3 at most", segments)
		}
		close(goOn)
		if n := <-edited; n != 120 {
			t.Errorf("%d edits", n)
		}
		if err := f.d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// An Add that waits for room in the journal ends when a sync fails, and when no files can be made.
func TestDirFailureEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaker(t, wakeLimits)
		put := w.fill(1000)
		synctest.Wait()
		_, _ = w.rest(syscall.ENOSPC)
		if err := <-put; !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
		_, _ = w.rest(nil)
		put = w.fill(1000)
		synctest.Wait()
		_ = w.fail(syscall.EIO)
		if err := <-put; !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
	})
}

// A readFS calls read before something is read from a file that it has made.
type readFS struct {
	vfs.FS
	read func() error
}

type readFile struct {
	vfs.File
	fs *readFS
}

func (f *readFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return readFile{file, f}, err
}

func (f readFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.read(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

// A message that gets into its file while it is read from the journal, which lets go of it, is read from its file.
func TestDirSettledWhileRead(t *testing.T) {
	limits := wakeLimits
	limits.held = 0
	w := newWaker(t, limits)
	settled := false
	fs := &readFS{FS: w.files.fs}
	opt := limits.journal
	opt.Sync = w.files.sync
	var err error
	if w.journal, err = journal.Open(fs, opt, w.replay); err != nil {
		t.Fatal(err)
	}
	id, record := w.fileOf(100)
	if _, err := w.putNow(id, record); err != nil {
		t.Fatal(err)
	}
	fs.read = func() error {
		if settled {
			return nil
		}
		settled = true
		if err := w.settle(id); err != nil {
			t.Error(err)
		}
		return errors.New("the segment is gone")
	}
	if b, err := w.held(id); b != nil || err != nil || !settled {
		t.Errorf("%q, %v, settled: %t", b, err, settled)
	}
}
